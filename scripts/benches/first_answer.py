"""``scripts/bench first-answer``: what a first answer takes on this machine."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import psutil

from benches.table import Row
from localfusion.config import Config, Preset
from localfusion.engines.base import ignore_phase
from localfusion.events import AnswerDelta, AnswerStarted, Event, PanelCompleted, RunCompleted
from localfusion.fusion import Fusion
from localfusion.runtime import Runtime, open_runtime
from localfusion.types import Message, Request, SamplingParams

ROOT = Path(__file__).parent.parent.parent
QUESTION = "A shop sells pens at 3 for 2 euros. What do 12 pens cost?"
REQUEST = Request("demo", (Message("user", QUESTION),), SamplingParams(seed=1))


async def measure(loaded: Config, *, cold: bool) -> list[Row]:
    """Return every figure; ``cold``: also from an empty machine, in a fresh clone."""
    rows = [import_time()]
    if cold:
        rows += cold_and_warm()
    return rows + await one_run(loaded)


def import_time() -> Row:
    """Import the package in a fresh interpreter, and see that nothing heavy came along."""
    code = (
        "import time; began = time.perf_counter(); import localfusion; "
        "took = time.perf_counter() - began; import sys; "
        "assert not {'torch', 'vllm', 'transformers', 'fastapi'} & set(sys.modules); print(took)"
    )
    took = min(
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)
        for _ in range(3)
    )
    return Row("import localfusion", took, "s", 1.0)


def cold_and_warm() -> list[Row]:
    """Run scripts/demo in a fresh clone with an empty cache, then once more."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        drop = ("VIRTUAL_ENV", "LOCALFUSION_CONFIG")
        env = {key: value for key, value in os.environ.items() if key not in drop}
        env |= {"LOCALFUSION_CACHE": f"{folder}/cache", "PIP_NO_CACHE_DIR": "1"}
        rows = []
        for what, bar in (("empty machine to the first answer", 480), ("second run", 90)):
            first, whole = demo(clone, env)
            rows.append(Row(f"{what}: answer complete", whole, "s", bar))
            rows.append(Row(f"{what}: first word of the answer", first, "s", bar))
    return rows


def demo(clone: Path, env: dict[str, str]) -> tuple[float, float]:
    """Return seconds to the first character of the answer and to the end of scripts/demo."""
    began = time.perf_counter()
    with subprocess.Popen(
        ["scripts/demo", QUESTION], cwd=clone, env=env, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        first = time.perf_counter() - began
        process.stdout.read()
    if process.returncode:
        raise SystemExit(f"scripts/demo ended with {process.returncode}")
    return first, time.perf_counter() - began


async def one_run(loaded: Config) -> list[Row]:
    """Ask the demo preset on real engines: is the panel concurrent, is the answer streamed?"""
    async with open_runtime(loaded, ["demo"]) as runtime:
        await runtime.start(ignore_phase)
        memory = psutil.Process().memory_info().rss / 1e6
        preset = loaded.settings.presets["demo"]
        alone = [await panel_seconds(runtime, [place]) for place in range(len(preset.panel))]
        together = await panel_seconds(runtime, list(range(len(preset.panel))))
        events = await collect(runtime.fusion, REQUEST)
    answer = next(e.answer for e in events if isinstance(e, RunCompleted))
    first = next(e.at for e in events if isinstance(e, AnswerStarted))
    last = [e.at for e in events if isinstance(e, AnswerDelta)][-1]
    for name, timing in answer.stages.items():
        print(f"  {name}: {timing.seconds:.1f} s, {timing.usage.completion_tokens} tokens")
    return [
        Row("panel wall time / slowest member alone", together / max(alone), "x", 1.25),
        Row("first answer token / last answer token, from the start", first / last, "x", 0.99),
        Row("gateway resident with engines up", memory, "MB", 200),
    ]


async def panel_seconds(runtime: Runtime, places: Sequence[int]) -> float:
    """Return when the last of some members finished, the same prompt and seeds every time."""
    whole = runtime.settings.presets["demo"]
    fixed = [
        member.model_copy(update={"seed": 1000 * place, "max_tokens": 64})
        for place, member in enumerate(whole.panel)
    ]
    panel = tuple(fixed[place] for place in places)
    preset = Preset.model_validate(
        {"panel": panel, "judge": whole.judge, "options": {"analysis": "none"}}
    )
    fusion = Fusion(runtime.fusion.engines, {"demo": preset}, default_preset="demo")
    # A question of its own each time: a prompt in the cache would be no measurement.
    question = f"Write a long story about {len(places)} and {places[0]} pens."
    request = replace(REQUEST, messages=(Message("user", question),))
    ends = []
    async with aclosing(fusion.stream(request)) as events:
        async for event in events:
            if isinstance(event, PanelCompleted):
                ends.append(event.at)
                if len(ends) == preset.candidates:
                    break
    return max(ends)


async def collect(fusion: Fusion, request: Request) -> list[Event]:
    async with aclosing(fusion.stream(request)) as events:
        return [event async for event in events]
