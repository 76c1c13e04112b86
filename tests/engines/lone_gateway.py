"""A gateway with one simulated engine, to be killed."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from localfusion.engines.base import ignore_phase
from localfusion.engines.rundir import run_directory
from localfusion.engines.vllm import VLLMEngine
from tests.engines.kinds import Script, vllm_engine


async def keep_one(build: Callable[[Path], VLLMEngine]) -> None:
    """Run an engine, print its process group once it is ready, and wait."""
    with run_directory(Path(sys.argv[1])) as run:
        engine = build(run)
        await engine.start(ignore_phase)
        sys.stdout.write(f"{engine.pid}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(keep_one(lambda run: vllm_engine(Script(has_core=True), run)))
