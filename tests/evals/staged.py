"""Evaluations of simulated engines, run in process."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from localfusion.config import Preset
from localfusion.engines.base import Engine
from localfusion.engines.sim import SimEngine
from localfusion.evals.arms import parse_arms, served_arm
from localfusion.evals.evaluation import create_scorers, evaluate
from localfusion.evals.job import Calls, Job
from localfusion.evals.recording import names_of
from localfusion.evals.results import BEST, Plan, Results
from localfusion.evals.samples import Dataset, Sample
from localfusion.evals.store import Store
from localfusion.fusion import Fusion
from localfusion.types import Answer, Message, Prompt
from tests.sim_scripts import first, picks


def says_right(*numbers: int, wrong: str = "The answer is 0.") -> Callable[[Prompt], str]:
    """Script a member that is right on some questions: question n asks for n + 100."""

    def script(prompt: Prompt) -> str:
        question = prompt.messages[-1].content
        for number in numbers:
            if f"What is {number} " in question:
                return f"The answer is {number + 100}."
        return wrong

    return script


def questions(count: int) -> Dataset:
    """Return questions with one right number each."""
    samples = tuple(
        Sample(
            f"q{number}",
            f"task{number % 2}",
            (Message("user", f"What is {number} + 100? Give the final answer as a number."),),
            "number",
            {"answer": str(number + 100)},
        )
        for number in range(count)
    )
    return Dataset("sums", samples, "made for a test")


class Watched:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self.done = 0
        self.notes: list[str] = []

    def stage(self, name: str, total: int) -> None:
        self.stages.append((name, total))

    def advance(self) -> None:
        self.done += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


@dataclass
class Staged:
    """What an evaluation needs: engines, a preset, samples.

    Attributes:
        ready: Awaited before each call.
    """

    engines: Mapping[str, Engine]
    preset: Mapping[str, object] = field(default_factory=dict)
    dataset: Dataset = field(default_factory=lambda: questions(6))
    calls: Calls = field(default_factory=Calls)
    progress: Watched = field(default_factory=Watched)
    ready: Callable[[], Awaitable[None]] | None = None

    def job(self, arms: tuple[str, ...] | None = None, *, repeats: int = 1, live: int = 0) -> Job:
        """Plan an evaluation of all engines but the judge, whose name is ``judge``."""
        members = [name for name in self.engines if name != "judge"]
        fields = {
            "panel": members,
            "judge": "judge",
            "options": {"analysis": "none"},
            **self.preset,
        }
        preset = Preset.model_validate(fields)
        fusion = Fusion(
            self.engines, {"p": preset}, default_preset="p", observers=[self.calls.observe]
        )
        names = names_of(preset.panel)
        parsed = parse_arms(arms, preset, names)
        scorers = create_scorers(self.dataset, None)
        plan = Plan(
            suite=self.dataset.name,
            data=self.dataset.digest,
            preset="p",
            settings=preset.model_dump(mode="json"),
            members=names,
            judge="judge",
            arms=tuple(arm.name for arm in parsed),
            primary=(served_arm(preset), BEST),
            margin=0.03,
            seed=0,
            repeats=repeats,
            live=live,
            scoring={name: scorer.identity for name, scorer in scorers.items()},
            identity={"engines": {name: name for name in self.engines}},
        )

        async def named(answer: Answer) -> Answer:
            return answer

        async def ready() -> None:
            if self.ready is not None:
                await self.ready()

        return Job(
            plan,
            self.dataset,
            preset,
            tuple(parsed),
            scorers,
            fusion,
            self.calls,
            named,
            ready,
        )

    async def run(self, folder: Path, arms: tuple[str, ...] | None = None, **how: int) -> Results:
        """Evaluate in a folder, from the beginning or from where it stopped."""
        job = self.job(arms, **how)
        store = Store(folder)
        store.begin(job.plan, job.dataset)
        return await evaluate(job, store, self.progress)


def sums(**members: Callable[[Prompt], str]) -> dict[str, Engine]:
    """Return members that say what scripts make of a question, and a judge that takes the first."""
    engines: dict[str, Engine] = {name: SimEngine(script) for name, script in members.items()}
    return {**engines, "judge": SimEngine(picks(first, otherwise="The answer is 0."))}
