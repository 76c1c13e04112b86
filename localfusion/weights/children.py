"""The child processes of a pull: none outlives it, whatever ends it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localfusion.errors import WeightsError

# Asks the kernel to kill the child with us, checks that we still live, and becomes the command. The
# setting survives exec. It is bound to the thread that starts the child, which waits for it to end.
_SHIM = """\
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a child ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """The last line of its standard error: usually what went wrong."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self.code}"


class Children:
    """Starts children, each in a process group of its own, and kills them all at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._is_stopped = False

    def run(self, command: Sequence[str | Path], env: Mapping[str, str]) -> Finished:
        """Run a command to its end, with ``env`` added to our environment; no shell.

        Raises:
            WeightsError: `stop` was called, before or meanwhile, or there is no such program.
        """
        argv = [sys.executable, "-I", "-S", "-c", _SHIM, str(os.getpid()), *map(str, command)]
        with self._lock:
            self._refuse_if_stopped()
            child = subprocess.Popen(  # no shell, no user text
                argv,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._running.add(child)
        try:
            stdout, stderr = child.communicate()
        finally:
            with self._lock:
                self._running.discard(child)
        with self._lock:
            self._refuse_if_stopped()
        return Finished(child.returncode, stdout, stderr)

    def stop(self) -> None:
        """Kill everything that runs; nothing starts afterwards."""
        with self._lock:
            self._is_stopped = True
            for child in self._running:
                if child.returncode is None:
                    try:
                        os.killpg(child.pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue

    @property
    def is_stopped(self) -> bool:
        return self._is_stopped

    def _refuse_if_stopped(self) -> None:
        if self._is_stopped:
            raise WeightsError(
                "the pull was stopped; `localfusion models pull` continues it", code="cancelled"
            )
