"""``localfusion traces``: runs as they were; a running server's, else those of the file."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Annotated, BinaryIO, Optional, TypeVar, cast, get_args

import typer
from rich.table import Table
from rich.text import Text

from localfusion import config
from localfusion.cli.engines import Json, Port
from localfusion.cli.show import (
    analysis_lines,
    describe,
    printable,
    summary,
    timing_lines,
    wide_console,
)
from localfusion.client import RemoteFusion
from localfusion.config import Config, nearest
from localfusion.errors import ConfigError, RequestError
from localfusion.traces import Json as Fields
from localfusion.traces import Page, Query, Trace, Traces, TraceStatus, TraceStore, open_traces
from localfusion.traces.database import FILE_NAME
from localfusion.traces.exchange import read_lines, recover
from localfusion.traces.form import decoded, line
from localfusion.traces.store import DEFAULT_LIMIT, MAX_LIMIT
from localfusion.traces.upkeep import DAY

app = typer.Typer(help="What happened in each run.", no_args_is_help=True)

T = TypeVar("T")
Id = Annotated[str, typer.Argument(help="Of the trace, as traces list shows it.")]
Ids = Annotated[Optional[list[str]], typer.Argument(help="Of the traces.")]  # noqa: UP045
_COLUMNS = ("id", "when", "status", "preset", "seconds", "tokens", "question")


class TraceFile:
    """The traces of the file, where no server runs; read like a server's."""

    def __init__(self, store: TraceStore) -> None:
        self._store = store

    async def traces(self, query: Query) -> Page:
        return await asyncio.to_thread(self._store.list, query)

    async def trace(self, id: str) -> Fields:
        told = await asyncio.to_thread(self._store.get, id)
        if told is None:
            raise RequestError(f"there is no trace {id[:64]!a}; localfusion traces list shows them")
        return told


Source = TraceFile | RemoteFusion


@app.command("list")
def list_traces(
    context: typer.Context,
    search: Annotated[
        str | None, typer.Option(help="Words of the question or the answer; all must be there.")
    ] = None,
    status: Annotated[str | None, typer.Option(help=", ".join(get_args(TraceStatus)))] = None,
    preset: Annotated[str | None, typer.Option(help="Preset that was asked.")] = None,
    policy: Annotated[str | None, typer.Option(help="Policy that answered.")] = None,
    model: Annotated[str | None, typer.Option(help="Model that wrote the answer.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=MAX_LIMIT, help="So many at most.")
    ] = DEFAULT_LIMIT,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """List the newest traces."""
    if status is not None and status not in get_args(TraceStatus):
        known = nearest(status, get_args(TraceStatus))
        raise RequestError(f"--status: no status {status!r}; {known}")
    query = Query(
        limit=limit,
        words=search,
        status=cast("TraceStatus | None", status),
        preset=preset,
        policy=policy,
        model=model,
    )
    page = _read(context, port, lambda source: source.traces(query))
    if as_json:
        typer.echo(line({"object": "list", "data": list(page.traces)}).decode())
        return
    wide_console().print(_table([_cells(trace) for trace in page.traces]))


def _table(rows: Sequence[Sequence[str]]) -> Table:
    """Build a table in which the question alone is cut."""
    table = Table(box=None)
    for place, name in enumerate(_COLUMNS):
        widest = max(len(row[place]) for row in (_COLUMNS, *rows))
        table.add_column(
            name,
            justify="right" if name in ("seconds", "tokens") else "left",
            min_width=None if name == "question" else widest,
            no_wrap=True,
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _cells(trace: Fields) -> tuple[str, ...]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(str(trace["created"]))))
    question = " ".join(str(trace["question"] or "-").split())
    cells = (
        str(trace["id"]),
        when,
        str(trace["status"]),
        str(trace["preset"]) + ("" if trace["replay_of"] is None else ", replay"),
        f"{trace['seconds']:.1f}",
        str(trace["completion_tokens"]),
        question,
    )
    return tuple(map(printable, cells))


@app.command("show")
def show_trace(
    context: typer.Context,
    id: Id,
    prompts: Annotated[
        bool, typer.Option(help="Also what each engine was asked, word for word.")
    ] = False,
    port: Port = None,
    as_json: Json = False,
) -> None:
    """Show a trace: what was asked, who answered what, the judge, the answer, where time went."""
    told = _read(context, port, lambda source: source.trace(id))
    if as_json:
        typer.echo(line(told).decode())
        return
    for text in trace_lines(decoded(told), prompts=prompts):
        typer.echo(printable(text))


def trace_lines(trace: Trace, *, prompts: bool) -> list[str]:
    """Render a trace for people."""
    told = trace.summary
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(told.created))
    reason = "" if told.reason is None else f" ({told.reason})"
    who = f"members {', '.join(told.members)}, judge {told.judge or '-'}"
    lines = [
        f"trace {told.id}, {when}, request {told.request_id or '-'}, key {told.key or '-'}",
        f"{told.preset}: {told.policy}, {who}",
        f"{told.status}{reason} in {told.seconds:.1f} s",
    ]
    if told.replay_of is not None:
        lines.append(f"replay of {told.replay_of}: nobody of the panel was asked")
    return [*lines, *_asked(trace), *_answered(trace), *(_prompts(trace) if prompts else [])]


def _asked(trace: Trace) -> list[str]:
    if trace.head is None:
        return []
    versions = trace.head.versions
    engines = ", ".join(f"{name} {engine.version}" for name, engine in versions.engines.items())
    lines = [f"localfusion {versions.localfusion}; engines: {engines or '-'}"]
    if trace.head.ignored:
        lines.append(f"ignored fields: {', '.join(trace.head.ignored)}")
    for message in trace.head.request.messages:
        lines += ["", f"--- {message.role}", message.content]
    return lines


def _answered(trace: Trace) -> list[str]:
    answer, lines = trace.answer, [""]
    if trace.error is not None:
        return [*lines, f"failed: {trace.error}"]
    if answer is None:
        return [*lines, "no answer: the run has not ended, or nobody waited for it"]
    for candidate in answer.candidates:
        lines += [f"--- candidate {candidate.index}: {describe(candidate)}", candidate.text, ""]
    if answer.analysis is not None:
        lines += ["--- analysis", *analysis_lines(answer.analysis), ""]
    lines += [f"--- answer by {answer.model}", answer.text, ""]
    return [*lines, summary(answer), *timing_lines(answer)]


def _prompts(trace: Trace) -> list[str]:
    lines: list[str] = []
    for prompt in trace.prompts:
        asked = prompt.prompt
        digest = "-" if prompt.digest is None else prompt.digest[:12]
        seed = asked.sampling.seed
        head = f"=== {prompt.stage} at {prompt.at:.2f} s: {prompt.model}, seed {seed}, {digest}"
        lines += ["", head, *([] if asked.raw is None else [asked.raw])]
        for message in asked.messages:
            lines += [f"--- {message.role}", message.content]
    return lines


@app.command("export")
def export_traces(context: typer.Context, ids: Ids = None, port: Port = None) -> None:
    """Write traces as lines of JSON to stdout, all or some; import takes them in elsewhere."""

    async def export(source: Source) -> None:
        for id in ids or [id async for id in _all_ids(source)][::-1]:
            sys.stdout.buffer.write(line(await source.trace(id)) + b"\n")

    _read(context, port, export)


async def _all_ids(source: Source) -> AsyncIterator[str]:
    query = Query(limit=MAX_LIMIT)
    while True:
        page = await source.traces(query)
        for trace in page.traces:
            yield str(trace["id"])
        if page.cursor is None:
            return
        query = Query(limit=MAX_LIMIT, before=page.cursor)


@app.command("import")
def import_traces(
    context: typer.Context,
    file: Annotated[typer.FileBinaryRead, typer.Argument(help="Of an export; - reads stdin.")],
) -> None:
    """Take in what export has written; traces that are here already stay as they are."""

    async def take_in(traces: Traces, lines: BinaryIO) -> tuple[int, int]:
        new = known = 0
        for trace in read_lines(lines):
            if await traces.add(trace):
                new += 1
            else:
                known += 1
        return new, known

    new, known = _write(context, lambda traces: take_in(traces, cast("BinaryIO", file)))
    typer.echo(f"{new} taken in, {known} were here already")


@app.command("purge")
def purge_traces(
    context: typer.Context,
    ids: Ids = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, help="All that are older, in days.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    port: Port = None,
) -> None:
    """Delete traces, so that nothing of them is left in the files."""
    if sum(map(bool, (ids, older_than is not None, every))) != 1:
        raise RequestError("name traces, or --older-than DAYS, or --all")
    before = 0.0 if ids else time.time() - (older_than or 0.0) * DAY

    async def purge(traces: RemoteFusion | Traces) -> int:
        for id in ids or []:
            await _delete(traces, id)
        if isinstance(traces, RemoteFusion):
            return len(ids) if ids else await traces.purge_traces(before)
        return len(ids or []) + await traces.purge(before)

    loaded = loaded_for(context, port)
    count = asyncio.run(_with_server_or_file(loaded, port, purge))
    typer.echo(f"{count} deleted")


async def _delete(traces: RemoteFusion | Traces, id: str) -> None:
    if isinstance(traces, RemoteFusion):
        await traces.delete_trace(id)
    elif not await traces.delete(id):
        raise RequestError(f"there is no trace {id[:64]!a}; localfusion traces list shows them")


@app.command("recover")
def recover_traces(context: typer.Context) -> None:
    """Take over what can be read of a damaged file into a new one; the old one is kept."""
    found = recover(loaded_for(context, None).traces_dir)
    if found.damaged is None:
        typer.echo(f"the file is sound, all {found.kept} traces can be read")
    else:
        typer.echo(f"{found.kept} traces taken over, {found.lost} lost; {found.damaged} is kept")


def loaded_for(context: typer.Context, port: int | None) -> Config:
    """Return models.yaml, with another port of the server where one was named."""
    loaded = config.load(context.obj)
    return loaded if port is None else loaded.with_server({"port": port})


def trace_file(loaded: Config) -> TraceFile:
    """Return the traces that are kept on this machine."""
    return TraceFile(TraceStore(loaded.traces_dir / FILE_NAME))


def _read(context: typer.Context, port: int | None, ask: Callable[[Source], Awaitable[T]]) -> T:
    loaded = loaded_for(context, port)

    async def read() -> T:
        async with running_server(loaded, port) as remote:
            return await ask(remote or trace_file(loaded))

    return asyncio.run(read())


def _write(context: typer.Context, work: Callable[[Traces], Awaitable[T]]) -> T:
    loaded = loaded_for(context, None)

    async def write() -> T:
        async with open_traces(loaded.settings.traces, loaded.traces_dir) as traces:
            return await work(traces)

    return asyncio.run(write())


async def _with_server_or_file(
    loaded: Config, port: int | None, work: Callable[[RemoteFusion | Traces], Awaitable[T]]
) -> T:
    async with running_server(loaded, port) as remote:
        if remote is not None:
            return await work(remote)
    async with open_traces(loaded.settings.traces, loaded.traces_dir) as traces:
        return await work(traces)


@asynccontextmanager
async def running_server(
    loaded: Config, port: int | None
) -> AsyncGenerator[RemoteFusion | None, None]:
    """Find the running server; None: there is none, and none was named.

    Raises:
        ConfigError: one was named by its port and does not answer.
    """
    remote = await RemoteFusion.find(loaded)
    if remote is None:
        if port is not None:
            raise ConfigError(f"no localfusion server answers on port {port}; leave out --port")
        yield None
        return
    async with aclosing(remote):
        yield remote
