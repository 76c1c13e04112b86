"""Has the judge read panels through the product, each once, many at a time.

Everything behind the panel is the product's: policy, prompts, cleaning, fallbacks. No member is
called. Slots are in the order of the case, so that tests can turn them.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from localfusion.config import Preset
from localfusion.engines.sim import SimEngine, SimFailure
from localfusion.errors import EngineUnavailableError, FusionError, OverloadedError
from localfusion.evals.job import Progress
from localfusion.evals.judging import judge_lost, judge_panel
from localfusion.evals.patience import at_once, patiently
from localfusion.evals.reliability.cases import Fault, Panel, Reply
from localfusion.evals.reliability.programs import Program, passes
from localfusion.events import CallStarted, Event
from localfusion.fusion import Fusion
from localfusion.fusion.calls import derive_seed
from localfusion.types import Answer, Message, Request, SamplingParams

KEPT = ("fuse", "select", "verify")
"""Policies in which the judge has a say on every panel."""
_RULES = re.compile(r"behind a mark \[([a-z]{6})\]")
_SHORT = 64
"""Tokens of an answer of the simulated judge that fails."""


def settings_of(preset: Preset) -> Preset:
    """Return a preset whose judge reads every panel, its slots in the case's order."""
    changes: dict[str, object] = {"order": "arrival", "prefill": False}
    if preset.policy not in KEPT:
        changes |= {"policy": "fuse", "options": {}}
    return preset.model_copy(update=changes)


@dataclass(slots=True)
class Seen:
    """What the judge was asked, by run: drafts in its prompt and the code of their marks."""

    calls: int = 0
    _slots: dict[str, tuple[int, str]] = field(default_factory=dict)

    def observe(self, event: Event) -> None:
        """Take an event of a run; an observer of Fusion."""
        if not isinstance(event, CallStarted):
            return
        self.calls += 1
        text = event.prompt.messages[-1].content if event.prompt.messages else ""
        if (rules := _RULES.search(text)) is not None:
            self._slots[event.run_id] = _slots(text, rules[1]), rules[1]

    def take(self, run: str) -> tuple[int | None, str]:
        """Return slots and code of a run, once."""
        return self._slots.pop(run, (None, ""))


def _slots(text: str, code: str) -> int:
    """Count the drafts between marks; -1: the marks do not fit together."""
    drafts = text.count(f"[{code}] draft ")
    # One more in the rules, one at the end: nobody else has the code.
    return drafts if text.count(f"[{code}") == drafts + 2 else -1


@dataclass(frozen=True, slots=True)
class Setting:
    """What judges.

    Attributes:
        fusion: Has the judge's engine; ``seen`` observes it.
        name: Of the preset.
        preset: As it is served.
        ready: Returns when the judge's engine can answer; raises EngineUnavailableError where it
            does not come back.
        identity: Versions and weights, for the report's reader.
    """

    fusion: Fusion
    name: str
    preset: Preset
    judge: str
    seen: Seen
    ready: Callable[[], Awaitable[None]]
    identity: Mapping[str, object] = field(default_factory=dict)


class Asker:
    """Judges panels, each different one once.

    Attributes:
        problems: What went wrong on the way, each once.
        lost: Why the judge's engine is gone for good; None: it is not.
    """

    def __init__(self, setting: Setting, seed: int, most: int, progress: Progress) -> None:
        self.problems: dict[str, None] = {}
        self.lost: str | None = None
        self._setting = setting
        self._settings = settings_of(setting.preset)
        self._seed = seed
        self._most = most
        self._progress = progress
        self._replies: dict[object, Reply] = {}

    async def ask(self, panels: Iterable[Panel], stage: str) -> None:
        """Have all panels judged that were not judged before."""
        wanted = {_key(panel): panel for panel in panels}
        missing = {key: panel for key, panel in wanted.items() if key not in self._replies}
        self._progress.stage(stage, len(missing))

        async def one(key: object, panel: Panel) -> None:
            self._replies[key] = await self._reply(panel)
            self._progress.advance()

        await at_once((partial(one, *item) for item in missing.items()), self._most)

    def reply(self, panel: Panel) -> Reply:
        return self._replies[_key(panel)]

    async def _reply(self, panel: Panel) -> Reply:
        reply = await (self._real(panel) if panel.fault is None else self._failing(panel))
        if isinstance(panel.asked, Program) and reply.error is None:
            return replace(reply, passed=await passes(panel.asked, reply.text))
        return reply

    async def _real(self, panel: Panel) -> Reply:
        if self.lost is not None:
            return Reply(error=self.lost, code="engine_unavailable", is_lost=True)
        ask = partial(self._answer, panel)
        try:
            answer = await patiently(ask, judge_lost, ready=self._ready, tell=self._problem)
        except (EngineUnavailableError, OverloadedError) as error:
            return Reply(error=str(error), code=error.code, is_lost=True)
        except FusionError as error:
            return Reply(error=str(error), code=error.code)
        if judge_lost(answer) is not None:
            self._problem("the judge's engine failed again and again at the same answer")
        return self._told(answer)

    async def _ready(self) -> None:
        """Wait for the judge; once it is gone for good, nobody waits for it any more."""
        try:
            await self._setting.ready()
        except EngineUnavailableError as error:
            self.lost = str(error)
            self._problem(self.lost)
            raise

    async def _answer(self, panel: Panel) -> Answer:
        setting, settings = self._setting, self._settings
        messages = (Message("user", panel.asked.text),)
        seed = derive_seed(self._seed, f"judge:{panel.asked.id}", panel.draw)
        if not panel.candidates:
            sampling = SamplingParams(seed=seed, max_tokens=settings.answer_max_tokens)
            request = Request(setting.judge, messages, sampling, watches="nothing")
            return await setting.fusion.complete(request)
        if panel.way == "choice":
            options: dict[str, object] = {"confidence": 0.0}
            settings = settings.model_copy(update={"policy": "select", "options": options})
        return await judge_panel(
            setting.fusion, settings, messages, panel.candidates, seed=seed, name=setting.name
        )

    def _told(self, answer: Answer) -> Reply:
        slots, secret = self._setting.seen.take(answer.run_id)
        verdict = None if answer.judging is None else answer.judging.verdict
        return Reply(
            text=answer.text,
            status=answer.status,
            reason=answer.reason,
            finish_reason=answer.finish_reason,
            choice=None if verdict is None else verdict.probabilities,
            synthesize=0.0 if verdict is None else verdict.synthesize,
            slots=slots,
            secret=secret,
            is_truncated=bool(answer.truncated),
        )

    async def _failing(self, panel: Panel) -> Reply:
        """Judge with a simulated judge that fails; the product around it is the real one."""
        fault = panel.fault
        assert fault is not None  # asked for by it
        analysis = "separate" if fault == "no analysis" else "none"
        settings = self._settings.model_copy(
            update={
                "policy": "fuse",
                "options": {"analysis": analysis},
                "agreement": False,
                "fallback_judge": None,
                "answer_max_tokens": _SHORT,
            }
        )
        judge = self._setting.judge
        fusion = Fusion(
            {judge: _failing_judge(fault)}, {"failing": settings}, default_preset="failing"
        )
        messages = (Message("user", panel.asked.text),)
        try:
            answer = await judge_panel(
                fusion, settings, messages, panel.candidates, seed=self._seed, name="failing"
            )
        except FusionError as error:
            return Reply(error=str(error), code=error.code)
        return self._told(answer)

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems[text] = None
            self._progress.note(text)


def _failing_judge(fault: Fault) -> SimEngine:
    match fault:
        case "empty":
            return SimEngine("")
        case "cut":
            return SimEngine("and so on " * _SHORT)
        case "no analysis":
            fails = SimFailure("error_event")
            return SimEngine(failure=lambda prompt: fails if prompt.schema else None)
        case "dead before":
            return SimEngine(failure=SimFailure("die"))
        case "dead after":
            return SimEngine("The answer begins and", failure=SimFailure("die", at_token=3))


def _key(panel: Panel) -> object:
    asked = panel.asked
    return asked.id, asked.text, panel.candidates, panel.way, panel.draw, panel.fault
