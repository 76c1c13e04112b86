"""What a run took: tokens and seconds of each stage, the critical path, engine-seconds, money."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

from localfusion.config import Rates
from localfusion.engines.base import EngineFacts
from localfusion.types import Cost, Stage, StageTiming, Step, Usage

HOUR = 3600.0
KWH = 3.6e6
"""Joules."""


@dataclass(slots=True)
class Ledger:
    """Collects calls and waits while a run goes; every time is seconds since the run began."""

    stages: dict[Stage, StageTiming] = field(default_factory=dict)
    _busy: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    _path: list[Step] = field(default_factory=list)

    def call(self, model: str, began: float, ended: float) -> None:
        """Note that an engine worked for the run."""
        self._busy.setdefault(model, []).append((began, ended))

    def stage(
        self, stage: Stage, seconds: float, usage: Usage, first_token: float | None = None
    ) -> None:
        """Add to a stage what one more part of it took."""
        before = self.stages.get(stage)
        if before is not None:
            seconds, usage = seconds + before.seconds, usage + before.usage
        self.stages[stage] = StageTiming(seconds, usage, first_token)

    def in_order(self) -> dict[Stage, StageTiming]:
        """Return the stages as a run goes through them, whichever was noted first."""
        return {stage: self.stages[stage] for stage in get_args(Stage) if stage in self.stages}

    def wait(self, stage: str, seconds: float, index: int | None = None) -> None:
        """Note what the client waited for, one thing after another."""
        if seconds > 0:
            self._path.append(Step(stage, seconds, index))

    def critical_path(self, total: float) -> tuple[Step, ...]:
        """Return the waits in their order; what nothing accounts for is ``overhead``."""
        rest = total - sum(step.seconds for step in self._path)
        return (*self._path, Step("overhead", max(0.0, rest)))

    def cost(
        self, facts: Mapping[str, EngineFacts], rates: Rates | None, joules: float | None
    ) -> Cost:
        """Sum up what the engines worked; overlapping calls of one engine count once."""
        engine_seconds = {model: _covered(times) for model, times in self._busy.items()}
        device_seconds: dict[str, float] = {}
        for model, seconds in engine_seconds.items():
            kind = facts[model].device
            used = seconds * facts[model].devices
            device_seconds[kind] = device_seconds.get(kind, 0.0) + used
        cost = Cost(engine_seconds, device_seconds, joules)
        if rates is None:
            return cost
        return replace(cost, money=_money(cost, rates), currency=rates.currency)


def _money(cost: Cost, rates: Rates) -> float | None:
    hourly = {"gpu": rates.gpu_hour, "cpu": rates.cpu_hour, "engine": rates.engine_hour}
    money = 0.0
    for kind, seconds in cost.device_seconds.items():
        rate = hourly[kind]
        if rate is None:
            return None  # a sum that leaves a part out would be wrong, not low
        money += seconds / HOUR * rate
    if rates.kwh is not None and cost.joules is not None:
        money += cost.joules / KWH * rates.kwh
    return money


def _covered(times: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals."""
    total, end = 0.0, float("-inf")
    for began, ended in sorted(times):
        total += max(0.0, ended - max(began, end))
        end = max(end, ended)
    return total
