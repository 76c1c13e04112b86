"""Fusions of simulated engines, and the events of one run."""

import json
from collections.abc import Callable
from contextlib import aclosing

import pytest

from localfusion.config import Member, Preset
from localfusion.engines.sim import SimEngine
from localfusion.events import Event
from localfusion.fusion import Fusion
from localfusion.types import Message, Prompt, Request

REQUEST = Request("demo", (Message("user", "What do 12 pens cost?"),))

ANALYSIS = {
    "consensus": ["8 euros"],
    "contradictions": [],
    "partial_coverage": [{"models": ["A"], "point": "shows the steps"}],
    "unique_insights": [{"model": "B", "insight": "names the unit"}],
    "blind_spots": [],
}

FusionFactory = Callable[..., Fusion]


def judge_says(
    answer: str = "It is 8 euros.", analysis: object = ANALYSIS
) -> Callable[[Prompt], str]:
    """Script a judge: the analysis under a schema, else the answer."""
    return lambda prompt: json.dumps(analysis) if prompt.schema is not None else answer


@pytest.fixture
def fusion() -> FusionFactory:
    """Build a Fusion whose preset ``demo`` asks the engines given by keyword; ``judge`` judges.

    Without prefill, so that ``judge.calls`` are the judge's own; ``fuse`` has a separate analysis.
    """

    def build(*, judge: SimEngine | None = None, **settings: object) -> Fusion:
        members = {k: v for k, v in settings.items() if isinstance(v, SimEngine)}
        preset = {k: v for k, v in settings.items() if not isinstance(v, SimEngine)}
        engines = {**members, "judge": judge or SimEngine(judge_says())}
        panel = preset.pop("panel", tuple(Member(model=name) for name in members))
        separate = {"analysis": "separate"} if preset.get("policy", "fuse") == "fuse" else {}
        fields = {"panel": panel, "judge": "judge", "prefill": False, "options": separate, **preset}
        return Fusion(engines, {"demo": Preset.model_validate(fields)}, default_preset="demo")

    return build


async def events_of(fusion: Fusion, request: Request = REQUEST) -> list[Event]:
    async with aclosing(fusion.stream(request)) as events:
        return [event async for event in events]
