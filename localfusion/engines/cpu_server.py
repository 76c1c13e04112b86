"""Run vLLM's server so that its engine core is forked, not spawned: half the imports on a CPU.

``python cpu_server.py MODULE ARGUMENTS…`` in the engines' interpreter; needs vLLM and nothing of
ours. vLLM spawns its core on a CPU, which imports torch and vLLM a second time; a start is a third
shorter without that (docs/log.md). Forking is safe here because the server has started no OpenMP
thread by then: a forked child cannot use those of its parent. GPUs keep vLLM's own way.
"""

import ctypes
import importlib.util
import multiprocessing
import os
import runpy
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1


def main() -> None:
    del sys.path[0]  # our folder, whose vllm.py is not the package
    _preload_openmp()
    forking = multiprocessing.get_context("fork")
    # vLLM asks for "spawn".
    multiprocessing.get_context = lambda method=None: forking  # type: ignore[assignment]
    os.register_at_fork(after_in_child=_become_core)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _preload_openmp() -> None:
    """Start anew with torch's OpenMP library first, as vLLM wants its core to have it."""
    torch = importlib.util.find_spec("torch")
    if torch is None or torch.origin is None or "LD_PRELOAD" in os.environ:
        return
    for library in Path(torch.origin).parent.glob("lib/libgomp*"):
        os.environ["LD_PRELOAD"] = str(library)
        os.execv(sys.executable, [sys.executable, *sys.argv])


def _become_core() -> None:
    """End with the server; do not report our signals to its event loop, whose pipe we inherit."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)


if __name__ == "__main__":
    main()
