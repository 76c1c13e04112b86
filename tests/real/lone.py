"""One real engine of the smallest demo model, without a server; also a gateway to be killed.

``python -m tests.real.lone RUN`` prints the engine's process group once it is ready, and waits.
"""

import asyncio
import sys
from pathlib import Path

from localfusion.config import Preset, cache_dir, load
from localfusion.engines.base import PhaseChange
from localfusion.engines.rundir import run_directory
from localfusion.engines.vllm import Places, VLLMEngine, server_command
from localfusion.hardware import detect
from localfusion.system import make_plan
from localfusion.weights import resolve

ROOT = Path(__file__).parent.parent.parent
MODEL = "smollm2-135m"


def build(run: Path) -> VLLMEngine:
    """Build the engine; nothing is started."""
    config = load(ROOT / "models.yaml")
    alone = Preset.model_validate({"policy": "single", "panel": [MODEL]})
    slot = make_plan(config, {"alone": alone}, detect())[MODEL]
    return VLLMEngine(
        MODEL,
        weights=resolve(config, MODEL).path,
        slot=slot,
        options={},
        places=Places(run=run, cache=cache_dir(), logs=run / "logs"),
        server=server_command(config.engine_python, slot),
    )


def ignore(_: PhaseChange) -> None:
    """Listen to a start, and forget it."""


async def main() -> None:
    with run_directory(Path(sys.argv[1])) as run:
        engine = build(run)
        await engine.start(ignore)
        sys.stdout.write(f"{engine.pid}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
