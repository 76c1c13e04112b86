"""A child process that is an engine: starts, is watched, and ends with all its descendants.

Its parent is a keeper of its own (keeper.py), which leads the process group. Every exit that nobody
asked for is a crash, whatever its code.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from localfusion.engines import causes
from localfusion.engines.causes import Cause
from localfusion.engines.group import Group
from localfusion.engines.logfile import EngineLog
from localfusion.errors import EngineStartError

POLL_SECONDS = 0.1
KILL_SECONDS = 2.0
"""For the keeper to kill everything; after that it is killed itself, with its group."""
STUCK_SECONDS = 30.0
"""For the kernel to end what was killed; a process that a driver holds may never end."""
GROUP_SUFFIX = ".group"
"""Of the files in the run directory that name process groups."""
_KEEPER = Path(__file__).with_name("keeper.py")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Command:
    """What to run: an argument list, never a shell line, and its whole environment."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cores: tuple[int, ...] = ()
    niceness: int = 0


class ChildProcess:
    """One child and its keeper, in a session and process group of their own; can start again.

    Args:
        name: For messages.
        log_file: Where it writes; nothing else of the child is read.
        cwd: The run directory; it names the process group there, for whoever comes after us.

    Attributes:
        log: Its log file.
    """

    def __init__(self, name: str, command: Command, log_file: Path, cwd: Path) -> None:
        self.name = name
        self.log = EngineLog(log_file)
        self._command = command
        self._cwd = cwd
        self._record = cwd / f"{log_file.stem[:40]}{GROUP_SUFFIX}"
        self._process: asyncio.subprocess.Process | None = None
        self._group: Group | None = None
        self._oom_kills = 0

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The keeper, whose id is also its process group's; None unless it runs."""
        return self._process.pid if self._process is not None and self.is_running else None

    async def start(self) -> None:
        """Launch it; returns at once. What is left of an earlier start ends first.

        The death signal fires when the thread that forked ends: call this from the event loop's.
        """
        await self.stop(patience=0)
        self._oom_kills = causes.oom_kills()
        cores = ",".join(map(str, self._command.cores)) or "-"
        nice = str(self._command.niceness)
        keeper = [sys.executable, "-I", "-S", str(_KEEPER), str(os.getpid()), cores, nice]
        log = self.log.open()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *keeper,
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
        self._note_group(self._process.pid)

    def _note_group(self, pid: int) -> None:
        try:
            self._group = Group.of(pid)
            self._group.write(self._record)
        except ProcessLookupError:
            self._group = None  # it has ended already, and its keeper with it
        except OSError as error:  # a full disk
            _log.warning("%s: its process group is not noted down: %s", self.name, error)

    async def ended(self, within: float) -> bool:
        """Wait at most so many seconds for its end; return whether it has ended."""
        if self._process is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._process.wait()
        return not self.is_running

    def explain(self) -> Cause:
        """Say why it died: the remedy if its last lines are known, else those lines."""
        return causes.explain(
            self.log.last_lines(),
            None if self._process is None else self._process.returncode,
            is_out_of_memory=causes.oom_kills() > self._oom_kills,
        )

    async def stop(self, *, patience: float = 10.0) -> None:
        """End it with all its descendants: SIGTERM, ``patience`` seconds, SIGKILL. Safe to repeat.

        Returns when none of its processes is left.
        """
        process = self._process
        if process is None:
            return
        if patience > 0 and not await self._signal(signal.SIGTERM, patience):
            _log.info("%s takes long to end and is killed", self.name)
        await self._signal(signal.SIGQUIT, KILL_SECONDS)
        if self._group is not None:
            self._group.kill()
        await self._see_it_gone(process)

    async def _signal(self, number: signal.Signals, patience: float) -> bool:
        """Signal the keeper; return whether it has ended ``patience`` seconds later."""
        if self.is_running:
            with suppress(ProcessLookupError):
                assert self._process is not None
                self._process.send_signal(number)
        return await self.ended(patience)

    async def _see_it_gone(self, process: asyncio.subprocess.Process) -> None:
        """Wait until the kernel has ended the group, and forget it: its id may be used again."""
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                await process.wait()
                # The kernel sends no event for it.
                while self._group is not None and self._group.lives():  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS / 10)
        except TimeoutError:
            _log.exception("%s cannot be killed: a driver holds its processes", self.name)
        self._group = None
        self._record.unlink(missing_ok=True)
