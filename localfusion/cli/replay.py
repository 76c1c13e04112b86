"""``localfusion replay`` and ``explain``: a trace's panel judged once more, and what that tells."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Optional, get_args

import typer

from localfusion.cli.again import explanation_lines, replay_lines
from localfusion.cli.engines import Json, Port
from localfusion.cli.show import PhaseLines, printable, wide_console
from localfusion.cli.traces import Id, loaded_for, running_server, trace_file
from localfusion.config import Config, Member, Preset, nearest
from localfusion.errors import ConfigError, RequestError
from localfusion.explain import explain as explain_trace
from localfusion.explain import to_json
from localfusion.replay import Changes, ReplayOrder, request_of, told_replay
from localfusion.runtime import Runtime, open_runtime
from localfusion.traces import Json as Fields
from localfusion.traces import Trace
from localfusion.traces.form import decoded, line
from localfusion.types import Answer, Request

MOST_PROMPT_BYTES = 1 << 20
JUDGING = "replay"
"""Name of the preset that starts a judge's engine alone."""

Own = Annotated[
    bool, typer.Option("--own-engines", help="Start the judge's engine even if a server runs.")
]
Drop = Annotated[
    Optional[list[str]],  # noqa: UP045  typer reads no other form of an option given again
    typer.Option(help="Leave a candidate out: its number, name (a#2) or model; may be repeated."),
]
Ask = Callable[[Request], Awaitable[Answer]]


def replay(
    context: typer.Context,
    id: Id,
    judge: Annotated[str | None, typer.Option(help="Model that judges.")] = None,
    policy: Annotated[str | None, typer.Option(help="How the answer is made.")] = None,
    prompt: Annotated[
        Path | None,
        typer.Option(help="File with what the judge is told behind the drafts, as plain text."),
    ] = None,
    order: Annotated[str | None, typer.Option(help=", ".join(get_args(ReplayOrder)))] = None,
    drop: Drop = None,
    port: Port = None,
    own: Own = False,
    as_json: Json = False,
) -> None:
    """Judge a recorded panel once more; nobody of it is asked, and both answers are shown."""
    if order is not None and order not in get_args(ReplayOrder):
        raise RequestError(f"--order: no order {order!r}; {nearest(order, get_args(ReplayOrder))}")
    changes = Changes(
        judge=judge,
        policy=policy,
        order=order,  # type: ignore[arg-type]  # checked above
        drop=tuple(drop or ()),
        instruction=None if prompt is None else _read_prompt(prompt),
    )
    told = asyncio.run(_replay(_Place(loaded_for(context, port), port, own), id, changes))
    if as_json:
        typer.echo(line(told).decode())
        return
    width = wide_console().width
    for text in replay_lines(told, width):
        typer.echo(printable(text))


def explain(
    context: typer.Context,
    id: Id,
    expect: Annotated[str | None, typer.Option(help="The right answer, where you know it.")] = None,
    replays: Annotated[bool, typer.Option(help="Ask the judge again, without each draft.")] = True,
    port: Port = None,
    own: Own = False,
    as_json: Json = False,
) -> None:
    """Say what an answer is to be put down to: panel, judge, a member, their interaction."""
    place = _Place(loaded_for(context, port), port, own)
    told = asyncio.run(_explain(place, id, expect, replays=replays))
    if as_json:
        typer.echo(line(told).decode())
        return
    for text in explanation_lines(told):
        typer.echo(printable(text))


def _read_prompt(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(MOST_PROMPT_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(
            f"--prompt: {file} cannot be read ({error}); name a file with text in UTF-8"
        ) from error


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a replay goes: to a running server, named or found, else to an engine of our own."""

    loaded: Config
    port: int | None
    own: bool

    @asynccontextmanager
    async def own_judge(self, model: str | None) -> AsyncGenerator[Runtime, None]:
        """Start the engine of a judge alone.

        Raises:
            FusionError: there is no such model, or it cannot start.
        """
        settings = self.loaded.settings
        name = settings.aliases.get(model or "", model or "")
        if name not in settings.models:
            raise ConfigError(
                f"judge {name[:64]!a} is no model of models.yaml; name another with --judge: "
                f"{nearest(name, settings.models)}"
            )
        alone = {JUDGING: Preset(policy="single", panel=(Member(model=name),))}
        config = replace(self.loaded, settings=settings.model_copy(update={"presets": alone}))
        async with open_runtime(config, [JUDGING]) as runtime:
            await runtime.start(PhaseLines())
            yield runtime

    async def trace(self, id: str) -> Trace:
        """Read a trace of the file.

        Raises:
            TraceError: it was written by another version, or is damaged.
        """
        return decoded(await trace_file(self.loaded).trace(id))


async def _replay(place: _Place, id: str, changes: Changes) -> Fields:
    if not place.own:
        async with running_server(place.loaded, place.port) as remote:
            if remote is not None:
                if changes.instruction is not None:
                    raise ConfigError(
                        "a server takes no --prompt; add --own-engines to start the judge here"
                    )
                return await remote.replay(id, changes.told)
    trace = await place.trace(id)
    request = request_of(trace, changes)
    async with place.own_judge(_judge_of(request)) as runtime:
        answer = await _asking(runtime)(request)
    return told_replay(trace, request, answer)


async def _explain(place: _Place, id: str, expect: str | None, *, replays: bool) -> Fields:
    wanted = {"replays": replays} | ({} if expect is None else {"expect": expect})
    if not place.own:
        async with running_server(place.loaded, place.port) as remote:
            if remote is not None:
                return await remote.explain(id, wanted)
    trace = await place.trace(id)
    if not replays:
        return to_json(await explain_trace(trace, expect=expect))
    judge = _judge_of(request_of(trace, Changes()))
    async with place.own_judge(judge) as runtime:
        return to_json(await explain_trace(trace, expect=expect, ask=_asking(runtime)))


def _judge_of(request: Request) -> str | None:
    assert request.recorded is not None  # request_of makes it so
    judge = request.recorded.settings.get("judge")
    return None if judge is None else str(judge)


def _asking(runtime: Runtime) -> Ask:
    """Return what runs a replay; its answer names its trace where that is kept."""

    async def ask(request: Request) -> Answer:
        return await runtime.traces.named(await runtime.fusion.complete(request))

    return ask
