"""One real engine of the smallest demo model, without a server; also a gateway to be killed.

``python -m tests.real.lone RUN`` prints the engine's process group once it is ready, and waits.
"""

import asyncio
from pathlib import Path

from localfusion.config import Preset, cache_dir, load
from localfusion.engines.vllm import Places, VLLMEngine, server_command
from localfusion.hardware import detect
from localfusion.system import make_plan
from localfusion.weights import resolve
from tests.engines.lone_gateway import keep_one

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


if __name__ == "__main__":
    asyncio.run(keep_one(build))
