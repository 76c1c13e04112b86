"""How models run. ``create_engine`` imports only the kind that is asked for."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from localfusion.engines.base import ManagedEngine
from localfusion.errors import ConfigError, PlacementError

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

    Raises:
        ConfigError: the key of a remote engine cannot be had.
        PlacementError: it needs a share of the hardware, and the plan left it none.
    """
    spec = config.settings.models[name]
    match spec.engine:
        case "openai":
            from localfusion.engines.openai import OpenAIEngine

            assert spec.base_url is not None  # checked by ModelSpec
            return OpenAIEngine(
                name,
                base_url=spec.base_url,
                api_key=_read_key(config, name),
                remote_name=spec.remote_name,
            )
        case "sim":
            return simulated(name)
        case "vllm":
            from localfusion.engines.vllm import VLLMEngine, server_command
            from localfusion.weights import resolve

            assert weights is not None
            if slot is None:
                raise PlacementError(
                    f"the plan has no room for {name}; stop what takes the memory (localfusion "
                    "plan shows what is free), or take it out of the preset in models.yaml"
                )
            return VLLMEngine(
                name,
                weights=weights,
                slot=slot,
                options=spec.options,
                places=places,
                server=server or server_command(config.engine_python, slot),
                # A restart and a load hours later too: files may have changed since the plan.
                check=partial(resolve, config, name),
            )


def _read_key(config: "Config", name: str) -> str | None:
    spec = config.settings.models[name]
    if spec.api_key_env is not None:
        key = os.environ.get(spec.api_key_env)
        if not key:
            raise ConfigError(
                f"model {name}: the environment has no {spec.api_key_env}, which holds its key; "
                "set it, or remove api_key_env"
            )
        return key
    if spec.api_key_file is None:
        return None
    file = config.locate(spec.api_key_file)
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"model {name}: its key cannot be read from {file}: {error}; correct api_key_file"
        ) from error


def simulated(name: str) -> ManagedEngine:
    """Build the engine of ``engine: sim``, and of every model under ``serve --sim``."""
    from localfusion.engines.sim import SimEngine

    return SimEngine(f"This is {name}, a simulated engine without a model.", name=name)
