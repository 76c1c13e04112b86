"""Traces of simulated runs in memory, and runs that judge their panels once more."""

from collections.abc import Mapping, Sequence

from localfusion.config import Preset
from localfusion.engines.sim import SimEngine
from localfusion.events import Event
from localfusion.fusion import Fusion
from localfusion.replay import Changes, request_of
from localfusion.traces import Trace
from localfusion.types import Answer, Message, Request, SamplingParams

QUESTION = "What do 12 pens cost, if three cost 2 euros? Give the final answer as a number."


class Stage:
    """A panel of engines and its judge, with the traces of what they did.

    Args:
        judge: Who judges.
        others: Engines that may judge too.
        preset: Fields of preset ``duo``.
        members: The panel, in this order.
    """

    def __init__(
        self,
        members: Mapping[str, SimEngine],
        judge: SimEngine | None = None,
        *,
        others: Mapping[str, SimEngine] | None = None,
        preset: Mapping[str, object] | None = None,
    ) -> None:
        self.members = members
        self.judge = judge or SimEngine("Answer: 8")
        self.engines = {**members, "judge": self.judge, **(others or {})}
        fields = {
            "panel": [*members],
            "judge": "judge",
            "prefill": False,  # what the judge's engine is asked then is countable
            "options": {"analysis": "none"},
        }
        self._preset = Preset.model_validate({**fields, **(preset or {})})
        self.events: list[Event] = []

    def fusion(self, engines: Mapping[str, SimEngine] | None = None) -> Fusion:
        """Build a fusion whose events are kept."""
        return Fusion(
            engines or self.engines,
            {"duo": self._preset},
            default_preset="duo",
            observers=[self.events.append],
        )

    async def ask(self, question: str = QUESTION, **fields: object) -> Trace:
        """Run a request and return its trace."""
        sampling = SamplingParams(temperature=0, seed=7)
        request = Request("duo", (Message("user", question),), sampling, **fields)  # type: ignore[arg-type]  # as given
        await self.fusion().complete(request)
        return self.trace()

    async def replay(
        self, trace: Trace, *, engines: Mapping[str, SimEngine] | None = None, **changes: object
    ) -> Answer:
        """Judge a trace's panel once more."""
        request = request_of(trace, Changes(**changes))  # type: ignore[arg-type]  # as given
        return await self.fusion(engines).complete(request)

    def trace(self) -> Trace:
        """Return the trace of the last run."""
        run = self.events[-1].run_id
        return Trace.from_events([e for e in self.events if e.run_id == run], created=1e9)

    @property
    def panel_calls(self) -> int:
        return sum(len(engine.calls) for engine in self.members.values())


def says(*texts: str) -> dict[str, SimEngine]:
    """Return members a, b, c …, each with its answer."""
    return {name: SimEngine(text, name=name) for name, text in zip("abcdefgh", texts, strict=False)}


def digests(
    trace: Trace, stages: Sequence[str] = ("verdict", "analysis", "synthesis")
) -> list[str]:
    """Return the digests of what the judge was asked, in order."""
    return [str(p.digest) for p in trace.prompts if p.stage in stages]
