"""``localfusion logs``: what an engine has written, made harmless for a terminal."""

import os
import re
import sys
import time
from contextlib import closing
from io import FileIO
from pathlib import Path
from typing import Annotated

import typer

from localfusion import config
from localfusion.cli.show import printable
from localfusion.engines.logfile import KEPT_LOGS
from localfusion.errors import ConfigError, ModelNotFoundError

POLL_SECONDS = 0.2
BLOCK_BYTES = 1 << 16
"""Bytes of one reading; also the longest line that is shown in one piece while following."""

# Colors and cursor movements, then titles and the like up to their terminator, then what is left of
# a cut one. Without this the harmless remains of a sequence, "[31m", would stand in the text.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]?"
)
_ENDS = re.compile(rb"[\r\n]+")


def logs(
    context: typer.Context,
    engine: Annotated[str, typer.Argument(help="Model whose engine's log to print.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, restarts included.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines to print.")] = 50,
    previous: Annotated[
        int,
        typer.Option(
            min=0, max=KEPT_LOGS - 1, help="The log of so many starts before the last one."
        ),
    ] = 0,
) -> None:
    """Print the last lines of an engine's log."""
    if follow and previous:
        raise typer.BadParameter("an old log does not grow: give --follow or --previous")
    file = _find(context, engine)
    if previous:
        file = file.with_name(f"{file.name}.{previous}")
    if not file.exists():
        if previous:
            raise ModelNotFoundError(
                f"{engine} has no log {file.name}: it was not started so often"
            )
        if not follow:
            raise ModelNotFoundError(f"{engine} has no log yet; {file} appears when it starts here")
        typer.echo(f"{engine} has no log yet: waiting for its first start", err=True)
    with closing(LogReader(file)) as log:
        found = log.tail(lines)
        if follow:
            _print(found)
            _follow(log)
        else:
            _print([*found, *log.rest()][-lines:] if lines else [])


def _find(context: typer.Context, engine: str) -> Path:
    """Return the log of an engine: of one in models.yaml, or of one that has been there.

    A log that exists is found without models.yaml: one that cannot be read is when logs are needed.
    """
    folder = config.cache_dir() / "logs"
    written = {path.name.removesuffix(".log") for path in folder.glob("*.log")}
    if engine not in written:
        models = config.load(context.obj).settings.models
        if engine in models and models[engine].engine != "vllm":
            raise ConfigError(f"{engine} is no engine of this machine: it has no log here")
        known = sorted(written | {name for name, spec in models.items() if spec.engine == "vllm"})
        if engine not in known:
            raise ModelNotFoundError(f"there is no engine {engine!r}; known are {', '.join(known)}")
    return folder / f"{engine}.log"


def harmless(raw: bytes) -> str:
    """Return a line of a log without anything that could steer a terminal."""
    return printable(_ESCAPES.sub("", raw.decode(errors="replace")))


class LogReader:
    """Reads the end of a log and then what is added, also when a new log replaces it or it is cut.

    A progress bar's carriage returns end lines too; empty lines are left out.

    Args:
        file: Need not exist yet.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rest = b""
        self._log = self._open()

    def tail(self, lines: int) -> list[str]:
        """Return the last whole lines that are there, without reading all of a large log."""
        if self._log is None:
            return []
        end = start = self._log.seek(0, os.SEEK_END)
        blocks: list[bytes] = []
        seen = 0
        while start > 0 and seen <= lines + 1:  # the first may be cut, the last too
            stop, start = start, max(0, start - BLOCK_BYTES)
            self._log.seek(start)
            blocks.insert(0, self._log.read(stop - start))
            seen += len(_ENDS.findall(blocks[0])) - 1  # one may go on in the next block
        self._log.seek(end)
        whole = self._complete(b"".join(blocks))
        return whole[-lines:] if lines else []

    def read(self) -> list[str]:
        """Return lines that were completed since the last call; empty when there are none."""
        if self._log is None:
            self._log = self._open()
            if self._log is None:
                return []
        # Asked before reading: what the old log still gets until then is not lost.
        is_replaced = self._is_replaced(self._log)
        if os.fstat(self._log.fileno()).st_size < self._log.tell():
            self._log.seek(0)
            self._rest = b""
        while raw := self._log.read(BLOCK_BYTES):
            if lines := self._complete(raw):
                return lines
        if not is_replaced:
            return []
        self.close()
        return self.rest()

    def rest(self) -> list[str]:
        """Return the line that has not been completed, if there is one."""
        rest, self._rest = self._rest, b""
        return [harmless(line) for line in _split(rest)]

    def close(self) -> None:
        """Close the file; the next reading opens the one that is there by then."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _open(self) -> FileIO | None:
        try:
            return FileIO(self._file)
        except FileNotFoundError:
            return None  # before the first start, or between two

    def _is_replaced(self, log: FileIO) -> bool:
        try:
            return not os.path.samestat(self._file.stat(), os.fstat(log.fileno()))
        except FileNotFoundError:
            return True

    def _complete(self, raw: bytes) -> list[str]:
        text = self._rest + raw
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        if end == 0 and len(text) >= BLOCK_BYTES:
            end = len(text)
        self._rest = text[end:]
        return [harmless(line) for line in _split(text[:end])]


def _split(raw: bytes) -> list[bytes]:
    return [line for line in _ENDS.split(raw) if line]


def _follow(log: LogReader) -> None:
    while True:
        if lines := log.read():
            _print(lines)
        else:
            time.sleep(POLL_SECONDS)  # noqa: TID251  nothing else runs here


def _print(lines: list[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()
