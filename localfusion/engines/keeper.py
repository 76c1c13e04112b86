"""The keeper of an engine: the tiny parent of its processes, which leaves none of them behind.

``python -I -S keeper.py PARENT_PID CORES NICENESS COMMAND…``, CORES as ``0,1`` or ``-`` for all.
Runs the command as its child and ends as that does, with its exit code or by its signal, but only
once no descendant is left. Standard library only; it leads the process group, so that

- when its parent dies, even by ``kill -9``, it ends the engine;
- when the engine's first process dies, however, what that leaves behind ends too;
- when the keeper dies, the first process gets SIGTERM, and the gateway kills the group.

SIGTERM is passed on; SIGQUIT kills all at once.
"""

import ctypes
import os
import resource
import signal
import sys
import time
from contextlib import suppress

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

ORPHANED = signal.SIGHUP
"""What the kernel sends us when our parent dies."""
AT_ONCE = signal.SIGQUIT
WATCHED = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, ORPHANED, AT_ONCE})

ORPHAN_SECONDS = 2.0
"""From our parent's death to SIGKILL for the engine."""
LEFTOVER_SECONDS = 0.5
"""From the end of the engine's first process to SIGKILL for what it left behind."""
AGAIN_SECONDS = 0.05
FOREVER = 3600.0

_libc = ctypes.CDLL(None)


def main() -> None:
    parent, cores, niceness = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored, there were no exit codes
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)  # they wait until we ask for them
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # what the engine abandons becomes our child
    _libc.prctl(PR_SET_PDEATHSIG, ORPHANED)
    if os.getppid() != parent:  # it died before the death signal was set
        sys.exit(1)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold prompts
    keeper = os.getpid()
    engine = os.fork()
    if engine == 0:
        _become(sys.argv[4:], keeper, cores, niceness)
    _end_like(_keep(engine))


def _become(command: list[str], keeper: int, cores: str, niceness: int) -> None:
    # SIGTERM, not SIGKILL: the first process can then take its engine core along.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != keeper:
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
    try:
        if cores != "-":
            os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
        os.nice(niceness)
        os.execv(command[0], command)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error}\n")
        sys.stderr.flush()
    os._exit(127)


def _keep(engine: int) -> int:
    """Return the wait status of the engine's first process, once no descendant of ours is left."""
    status, lives, kill_at = 0, True, float("inf")
    spares = True
    while True:
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == engine:
                    lives, status = False, ended[1]
                    _signal_others(signal.SIGTERM)
                    kill_at = min(kill_at, time.monotonic() + LEFTOVER_SECONDS)
        except ChildProcessError:
            return status
        if kill_at <= time.monotonic():
            _signal_others(signal.SIGKILL, spare_trackers=spares)
            spares = False
            kill_at = time.monotonic() + AGAIN_SECONDS  # for those that only now became our own
        came = signal.sigtimedwait(WATCHED, min(kill_at - time.monotonic(), FOREVER))
        number = 0 if came is None else came.si_signo
        if number in (signal.SIGTERM, signal.SIGINT, ORPHANED) and lives:
            os.kill(engine, signal.SIGTERM)
        if number == ORPHANED:
            kill_at = min(kill_at, time.monotonic() + ORPHAN_SECONDS)
        if number == AT_ONCE:
            kill_at = 0.0


def _signal_others(number: signal.Signals, *, spare_trackers: bool = False) -> None:
    """Signal our children and the rest of our process group.

    Args:
        number: The signal.
        spare_trackers: Leave out Python's resource trackers: they end by themselves when all
            others have, and remove the shared memory that those could not.
    """
    own = os.getpid()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == own:
            continue
        with suppress(OSError):
            with open(f"/proc/{entry}/stat") as file:
                _, parent, group, *_ = file.read().rpartition(")")[2].split()
            if own not in (int(parent), int(group)):
                continue
            if spare_trackers and _is_tracker(entry):
                continue
            os.kill(int(entry), number)


def _is_tracker(pid: str) -> bool:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return b"multiprocessing.resource_tracker" in file.read()


def _end_like(status: int) -> None:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        with suppress(OSError):  # SIGKILL has no handler to be reset
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
