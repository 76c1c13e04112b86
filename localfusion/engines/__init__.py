"""How models run. ``create_engine`` imports only the kind that is asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from localfusion.engines.base import ManagedEngine

if TYPE_CHECKING:
    from localfusion.config import Config
    from localfusion.engines.vllm import Places
    from localfusion.placement import Slot

__all__ = ["ManagedEngine", "create_engine", "simulated"]


def create_engine(
    config: "Config",
    name: str,
    *,
    weights: Path | None,
    slot: "Slot | None",
    places: "Places",
    server: Sequence[str] | None = None,
) -> ManagedEngine:
    """Build the engine of a model as models.yaml says; nothing is started.

    Args:
        config: The loaded models.yaml.
        name: The model's.
        weights: Verified folder; needed by ``engine: vllm``.
        slot: Its share of the hardware; needed by ``engine: vllm``.
        places: Folders that engines use.
        server: Start of the engine's command line, None for vLLM's.
    """
    spec = config.settings.models[name]
    match spec.engine:
        case "openai":
            from localfusion.engines.openai import OpenAIEngine

            assert spec.base_url is not None  # checked by ModelSpec
            key = None
            if spec.api_key_file is not None:
                key = config.locate(spec.api_key_file).read_text().strip()
            return OpenAIEngine(
                name, base_url=spec.base_url, api_key=key, remote_name=spec.remote_name
            )
        case "sim":
            return simulated(name)
        case "vllm":
            from localfusion.engines.vllm import VLLMEngine, server_command

            assert weights is not None
            assert slot is not None
            return VLLMEngine(
                name,
                weights=weights,
                slot=slot,
                options=spec.options,
                places=places,
                server=server or server_command(config.engine_python, slot),
            )


def simulated(name: str) -> ManagedEngine:
    """Build the engine of ``engine: sim``, and of every model under ``serve --sim``."""
    from localfusion.engines.sim import SimEngine

    return SimEngine(f"This is {name}, a simulated engine without a model.", name=name)
