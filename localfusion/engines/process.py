"""A child process that is an engine: starts, tells its phases, and ends with all its descendants.

Every exit that nobody asked for is a crash, whatever its code.
"""

import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from localfusion.engines.base import Phase
from localfusion.errors import EngineStartError

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
KEPT_LOGS = 5
_SHIM = Path(__file__).with_name("shim.py")

_PHASE_MARKS: tuple[tuple[re.Pattern[str], Phase], ...] = (
    (re.compile(r"Loading safetensors checkpoint shards:\s+(\d+%)"), "loading"),
    (re.compile(r"Starting to load model"), "loading"),
    (re.compile(r"KV cache size: ([\d,]+ tokens)"), "sizing"),
    (re.compile(r"Starting vLLM server"), "listening"),
)

# What the last lines of a log say, and what mends it.
_REMEDIES = (
    ("Free memory on device", "another program holds the GPU: stop it, or lower max_num_seqs"),
    ("To serve at least one request", "lower max_model_len in models.yaml"),
    ("Available memory on node", "lower max_num_seqs or max_model_len, or ask for fewer models"),
    (
        "torchvision::nms",
        "run scripts/install: it removes the packages that break vLLM's CPU build",
    ),
    ("No module named 'vllm'", "vLLM is not installed: run scripts/install"),
    ("No module named vllm", "vLLM is not installed: run scripts/install"),
    ("unrecognized arguments", "remove that option from the model in models.yaml"),
    ("Address already in use", "remove the stale socket"),
    ("Killed", "out of memory: ask for fewer or smaller models"),
)


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: an argument list, never a shell line, and its whole environment."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cores: tuple[int, ...] = ()
    niceness: int = 0


class ChildProcess:
    """One child in a session and process group of its own, writing to a log file.

    Args:
        name: For messages.
        log_file: Opened for appending; nothing else of the child is read.
    """

    def __init__(self, name: str, command: Command, log_file: Path, cwd: Path) -> None:
        self.name = name
        self.log_file = log_file
        self._command = command
        self._cwd = cwd
        self._process: asyncio.subprocess.Process | None = None
        self._read = 0

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """Its process id, which is also its process group's; None before the start."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Launch it; returns at once.

        The death signal fires when the thread that forked ends: call this from the event loop's.
        """
        rotate(self.log_file)
        cores = ",".join(map(str, self._command.cores)) or "-"
        nice = str(self._command.niceness)
        shim = [sys.executable, "-I", str(_SHIM), str(os.getpid()), cores, nice]
        log = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *shim,
                *self._command.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self._command.env),
                cwd=self._cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineStartError(f"{self.name}: cannot launch its process: {error}") from error
        finally:
            os.close(log)

    def new_phase(self) -> tuple[Phase, str] | None:
        """Return the latest phase that the log tells of since the last call, with its detail."""
        with self.log_file.open("rb") as log:
            log.seek(self._read)
            raw = log.read(1 << 20)
        self._read += len(raw)
        found: tuple[Phase, str] | None = None
        for line in re.split(r"[\r\n]+", raw.decode(errors="replace")):
            for mark, phase in _PHASE_MARKS:
                if match := mark.search(line):
                    found = phase, match[1] if mark.groups else ""
        return found

    def explain(self) -> str:
        """Say why it died: the remedy if its last lines are known, else those lines."""
        lines = self._last_lines()
        text = "\n".join(lines)
        code = None if self._process is None else self._process.returncode
        if code == -signal.SIGKILL:
            text += "\nKilled"
        for mark, remedy in _REMEDIES:
            if mark in text:
                return remedy
        errors = [line for line in lines if "Error" in line]
        last = (errors or lines or ["its log is empty"])[-1]
        return f"its process ended with code {code}: {last[-300:]} (log: {self.log_file})"

    def _last_lines(self) -> list[str]:
        with self.log_file.open("rb") as log:
            log.seek(max(0, self.log_file.stat().st_size - 16_384))
            text = log.read().decode(errors="replace")
        printable = re.sub(r"\x1b\[[0-9;]*m|[^\x20-\x7e\n]", "", text)
        return [line.strip() for line in printable.splitlines() if line.strip()][-60:]

    async def stop(self, *, patience: float = 10.0) -> None:
        """End it and its whole group: SIGTERM, ``patience`` seconds, SIGKILL. Safe to repeat.

        Returns when no process of the group is left.
        """
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            _signal(process.pid, signal.SIGTERM, only_leader=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await process.wait()
        _signal(process.pid, signal.SIGKILL)
        await process.wait()
        while _group_exists(process.pid):  # noqa: ASYNC110  the kernel sends no event for it
            await asyncio.sleep(POLL_SECONDS / 10)


def rotate(log_file: Path) -> None:
    """Move old logs aside, ``name.log`` to ``name.log.1`` and on; keep five."""
    log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(KEPT_LOGS - 1, 0, -1):
        older = log_file.with_name(f"{log_file.name}.{number}")
        newer = log_file.with_name(f"{log_file.name}.{number - 1}") if number > 1 else log_file
        with suppress(FileNotFoundError):
            newer.replace(older)


def _signal(pid: int, number: signal.Signals, *, only_leader: bool = False) -> None:
    with suppress(ProcessLookupError):
        (os.kill if only_leader else os.killpg)(pid, number)


def _group_exists(pid: int) -> bool:
    """Whether any process of the group lives; zombies of foreign parents count until reaped."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return any(_is_alive(entry, pid) for entry in Path("/proc").glob("[0-9]*/stat"))


def _is_alive(stat: Path, group: int) -> bool:
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return False  # it ended while we looked
    state, its_group = fields[0], int(fields[2])
    return its_group == group and state not in "ZX"
