"""``localfusion ask``: one prompt, one fused answer, with own engines or a running server's."""

import asyncio
import json
import sys
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import typer

from localfusion import config
from localfusion.cli.show import PhaseLines, RunLines
from localfusion.client import RemoteFusion
from localfusion.config import Config, nearest
from localfusion.errors import FusionError, ModelNotFoundError, RequestError
from localfusion.events import RunCompleted, RunFailed
from localfusion.fusion import HOSTED_SLUG, POLICIES, Fusion
from localfusion.runtime import open_runtime
from localfusion.types import Answer, Message, Request


def ask(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="The question; - reads standard input.")],
    preset: Annotated[
        str | None, typer.Option(help="Preset that answers; default: this machine's.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    policy: Annotated[
        str | None, typer.Option(help=f"{', '.join(POLICIES)}; default: the preset's.")
    ] = None,
    show_panel: Annotated[
        bool, typer.Option(help="Print each member's answer and the analysis.")
    ] = False,
    timing: Annotated[
        bool, typer.Option(help="Print what was waited for, cached tokens and what it cost.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the answer's text.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(help="Ask the server on this port; default: models.yaml's, if any."),
    ] = None,
    own: Annotated[
        bool, typer.Option("--own-engines", help="Start engines even if a server is running.")
    ] = False,
) -> None:
    """Ask once: members as they finish, the judge, the answer streamed, what it took."""
    loaded = config.load(context.obj)
    if policy is not None and policy not in POLICIES:
        raise RequestError(f"--policy: no policy {policy!r}; {nearest(policy, POLICIES)}")
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise RequestError("the prompt is empty; write a question, or - to read standard input")
    messages: tuple[Message, ...] = (Message("user", text),)
    if system:
        messages = (Message("system", system), *messages)
    if port is not None:
        loaded = loaded.with_server({"port": port})
    lines = RunLines(show_panel, as_json, timing)
    changes = {} if policy is None else {"policy": policy}
    request = Request(preset or "", messages, changes=changes)
    answer = asyncio.run(_ask(loaded, request, lines, _Whose(own, port is not None)))
    if as_json:
        typer.echo(json.dumps(document(answer), ensure_ascii=False, indent=2))


@dataclass(frozen=True)
class _Whose:
    """Whose engines answer: our own for certain, or a server's for certain; else as found."""

    own: bool
    servers: bool


async def _ask(
    loaded: Config,
    request: Request,
    lines: RunLines,
    whose: _Whose,
) -> Answer:
    server = loaded.settings.server
    remote = None if whose.own else await RemoteFusion.find(loaded)
    if remote is None and whose.servers:
        raise RequestError(
            f"no localfusion server answers on {server.host}:{server.port}; start one with "
            "localfusion serve, or leave out --port"
        )
    if remote is not None:
        async with aclosing(remote):
            lines.note(f"using the server at {remote.base_url}")
            request = replace(request, model=request.model or HOSTED_SLUG)
            return await _show(remote, request, lines)
    async with open_runtime(loaded, [request.model] if request.model else []) as runtime:
        await runtime.start(PhaseLines())
        request = replace(request, model=runtime.fusion.default_preset)
        answer = await runtime.traces.named(await _show(runtime.fusion, request, lines))
        for note in runtime.traces.notes:
            lines.note(note)
        return answer


async def _show(fusion: Fusion | RemoteFusion, request: Request, lines: RunLines) -> Answer:
    failure: FusionError = ModelNotFoundError("the run ended without an answer")
    async with aclosing(fusion.stream(request)) as events:
        async for event in events:
            lines(event)
            match event:
                case RunCompleted(answer=answer):
                    lines.finish(answer)
                    return answer
                case RunFailed(error=error):
                    failure = error
    raise failure


def document(answer: Answer) -> dict[str, object]:
    """Return an answer as JSON values: its fields, with the analysis as an object."""
    fields = {key: value for key, value in asdict(answer).items() if key != "analysis"}
    analysis = None if answer.analysis is None else answer.analysis.model_dump(mode="json")
    return {**fields, "analysis": analysis, "usage": asdict(answer.usage)}
