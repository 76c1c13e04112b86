"""A gateway with one simulated engine, to be killed: ``python -m tests.engines.lone_gateway RUN``.

Prints the engine's process group once it is ready, and then waits.
"""

import asyncio
import sys
from pathlib import Path

from localfusion.engines.rundir import run_directory
from tests.engines.kinds import Script, ignore, vllm_engine


async def main() -> None:
    with run_directory(Path(sys.argv[1])) as run:
        engine = vllm_engine(Script(has_core=True), run)
        await engine.start(ignore)
        sys.stdout.write(f"{engine.pid}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
