"""Become an engine: tie this process to its parent, pin it, then exec. Standard library only.

``python -I shim.py PARENT_PID CORES NICENESS COMMAND…``, CORES as ``0,1`` or ``-`` for all. Runs
before the engine so that nothing is imported between fork and exec in the gateway's own process.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, cores, niceness = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    command = sys.argv[4:]
    if sys.platform == "linux":
        # SIGTERM, not SIGKILL: the API process can then take its engine core along.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the death signal was set
            sys.exit(1)
        if cores != "-":
            os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    os.nice(niceness)
    os.umask(0o077)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
