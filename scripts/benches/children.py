"""Real engines of the three demo models, outside of a runtime."""

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Literal

from localfusion.config import Config, Preset, cache_dir
from localfusion.engines.rundir import run_directory
from localfusion.engines.vllm import MODULES, Places, VLLMEngine, server_command
from localfusion.hardware import detect
from localfusion.placement import Plan, Slot
from localfusion.system import make_plan
from localfusion.weights import resolve

Threads = Literal["planned", "a thread per core", "vLLM's binding"]
_PLANNED = ("OMP_NUM_THREADS", "VLLM_ENABLE_V1_MULTIPROCESSING", "GOMP_SPINCOUNT")


def plan_three(loaded: Config) -> Plan:
    """Plan the models of demo-large as members all three: a judge's right to all cores ends."""
    models = loaded.settings.presets["demo-large"].models
    panel = Preset.model_validate({"policy": "single", "panel": models})
    return make_plan(loaded, {"bench": panel}, detect())


@asynccontextmanager
async def children(
    loaded: Config, slots: Sequence[Slot], threads: Threads = "planned"
) -> AsyncGenerator[list[VLLMEngine], None]:
    """Build engines, stop them at the end.

    Args:
        loaded: models.yaml.
        slots: An engine for each.
        threads: ``a thread per core``: every engine takes one for each core of the machine, bound
            to none. ``vLLM's binding``: as ``vllm serve`` by hand, which binds every engine to the
            same first cores and keeps the last one free.
    """
    with run_directory() as run:
        places = Places(run=run, cache=cache_dir(), logs=run / "logs")
        engines = []
        for slot in slots:
            server = server_command(loaded.engine_python, slot)
            share = slot
            if threads != "planned":
                share = replace(slot, cores=detect().cpu.cores, niceness=0)
                server = _by_hand(loaded, threads)
            engines.append(
                VLLMEngine(
                    slot.model,
                    weights=resolve(loaded, slot.model).path,
                    slot=share,
                    options={},
                    places=places,
                    server=server,
                )
            )
        try:
            yield engines
        finally:
            for engine in engines:
                await engine.stop()


def _by_hand(loaded: Config, threads: Threads) -> list[str]:
    unset = [part for name in _PLANNED for part in ("-u", name)]
    bind = ["VLLM_CPU_OMP_THREADS_BIND=nobind"] if threads == "a thread per core" else []
    python = str(loaded.engine_python or sys.executable)
    return ["/usr/bin/env", *unset, *bind, python, "-m", MODULES[0]]
