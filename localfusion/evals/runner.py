"""Runs a plan: panels are recorded once, then every arm answers from them. All at once, resumable.

Each finished piece is on disk before the next begins in its place; what a crash loses is what was
in flight. An engine that is lost is waited for; what it failed at is asked again, and counted.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from localfusion.config import MAX_CANDIDATES, Preset
from localfusion.errors import FusionError
from localfusion.evals.arms import Arm, settings_of
from localfusion.evals.job import Job, Progress
from localfusion.evals.judging import PATIENCE, judge_lost, judge_panel
from localfusion.evals.patience import LOST, at_once, patiently
from localfusion.evals.recording import Place, ask_members, own_name, panel_digest, places_of
from localfusion.evals.results import MEMBER, Outcome, Recording
from localfusion.evals.samples import Dataset, Sample, Score
from localfusion.evals.store import Counts, Store
from localfusion.fusion.calls import derive_seed
from localfusion.types import Answer, Candidate, Request, SamplingParams, Usage

T = TypeVar("T")


class Runner:
    """One process's part of an evaluation.

    Attributes:
        recorded: Candidates by sample, member and draw.
        done: Outcomes by arm, sample and repeat.
    """

    def __init__(self, job: Job, store: Store, progress: Progress) -> None:
        self.job = job
        self.store = store
        self.progress = progress
        self._counted = job.calls.panel, job.calls.judge
        self.problems: dict[str, None] = {}
        self.notes: dict[str, None] = {}
        self.recorded: dict[tuple[str, str, int], Recording] = {}
        self.done: dict[tuple[str, str, int], Outcome] = {}
        for recording in store.recordings.read():
            self._remember(recording)
        for outcome in store.outcomes.read():
            self.done[outcome.arm, outcome.sample, outcome.repeat] = outcome

    def advance(self) -> None:
        """Count a finished piece, and write down what it took."""
        self.progress.advance()
        self._write_counts()

    def close(self) -> None:
        """Write down what went wrong in this process, and what is to be known of it."""
        self._write_counts()
        if self.problems or self.notes:
            self.store.counts.append(Counts(0, 0, (*self.problems,), (*self.notes,)))

    def _write_counts(self) -> None:
        calls, (panel, judge) = self.job.calls, self._counted
        if (calls.panel, calls.judge) != self._counted:
            self.store.counts.append(Counts(calls.panel - panel, calls.judge - judge))
            self._counted = calls.panel, calls.judge

    def seed(self, sample: Sample, repeat: int, what: str = "sample") -> int:
        return derive_seed(self.job.plan.seed, f"{what}:{sample.id}", repeat)

    # Recording.

    async def record(
        self,
        preset: Preset,
        names: Callable[[Place], str],
        samples: Iterable[Sample],
        *,
        stage: str,
        what: str = "sample",
    ) -> None:
        """Have a preset's members answer all samples that they have not answered yet.

        Args:
            preset: Whose panel is asked.
            names: Under which member's name a candidate is kept.
            samples: To whom.
            stage: What the user is told.
            what: Sets these draws apart from others of the same sample.
        """
        places = places_of(preset.panel)
        missing = [
            (sample, repeat)
            for sample in samples
            for repeat in range(self.job.plan.repeats)
            if self.panel(sample, repeat, places, names) is None
        ]
        self.progress.stage(stage, len(missing))

        async def one(sample: Sample, repeat: int) -> None:
            seed = self.seed(sample, repeat, what)
            candidates = await self._ask(preset, sample, seed)
            for place, candidate in zip(places, candidates, strict=True):
                await self._keep(sample, names(place), _number(repeat, place), candidate)
            self.advance()

        await at_once((partial(one, *piece) for piece in missing), self.job.at_once)

    def panel(
        self, sample: Sample, repeat: int, places: list[Place], names: Callable[[Place], str]
    ) -> list[Candidate] | None:
        """Return a sample's recorded candidates in the panel's order; None unless all are there."""
        found = []
        for place in places:
            recording = self.recorded.get((sample.id, names(place), _number(repeat, place)))
            if recording is None:
                return None
            found.append(recording.candidate)
        return [replace(candidate, index=index) for index, candidate in enumerate(found)]

    async def _ask(self, preset: Preset, sample: Sample, seed: int) -> tuple[Candidate, ...]:
        async def ask() -> tuple[Candidate, ...]:
            return await ask_members(
                self.job.fusion, preset, sample.messages, seed=seed, record=self.job.calls.observe
            )

        def hit(candidates: tuple[Candidate, ...]) -> str | None:
            return next((c.error for c in candidates if c.failure_reason in LOST), None)

        try:
            return await self._patiently(ask, hit)
        except FusionError as error:
            return tuple(
                Candidate(
                    index=index,
                    model=member.model,
                    sampling=SamplingParams(seed=seed),
                    finish_reason="error",
                    failure_reason=error.code,
                    error=str(error),
                )
                for index, member in enumerate(m for m in preset.panel for _ in range(m.n))
            )

    async def _keep(self, sample: Sample, member: str, draw: int, candidate: Candidate) -> None:
        text, reasoning = whole_text(candidate.text), whole_text(candidate.reasoning)
        candidate = replace(candidate, text=text, reasoning=reasoning)
        lost = candidate.failure_reason in LOST
        score = await self._score(sample, candidate.text, candidate.error, lost=lost)
        recording = Recording(sample.id, member, draw, candidate, score)
        self.store.recordings.append(recording)
        self._remember(recording)

    def _remember(self, recording: Recording) -> None:
        self.recorded[recording.sample, recording.member, recording.draw] = recording

    def member_outcomes(self) -> None:
        """Write each recording of a member down as the answer of the arm of that member."""
        for recording in self.recorded.values():
            arm = MEMBER + recording.member
            place = (arm, recording.sample, recording.draw)
            if recording.member in self.job.plan.members and place not in self.done:
                self._finish(_alone(arm, recording))

    # Judging.

    async def judge(self, arms: Iterable[Arm], *, stage: str) -> None:
        """Have arms answer all samples that they have not answered yet."""
        plan, samples = self.job.plan, self.job.dataset.samples
        missing = [
            (arm, sample, repeat)
            for sample in samples
            for repeat in range(plan.repeats)
            for arm in arms
            if (arm.name, sample.id, repeat) not in self.done
        ]
        self.progress.stage(stage, len(missing))
        places = places_of(self.job.preset.panel)

        async def one(arm: Arm, sample: Sample, repeat: int) -> None:
            candidates, settings = self._source(arm, sample, repeat, places)
            await self.answer(arm.name, sample, repeat, candidates, settings)
            self.advance()

        await at_once((partial(one, *piece) for piece in missing), self.job.at_once)

    def _source(
        self, arm: Arm, sample: Sample, repeat: int, places: list[Place]
    ) -> tuple[list[Candidate] | None, Preset]:
        """Return what an arm answers from, None: nothing; and with which settings."""
        preset = self.job.preset
        settings = settings_of(arm, preset)
        match arm.source:
            case "alone":
                return None, settings
            case "foreign":
                other = _neighbor(self.job.dataset, sample)
                return self._whole(other, repeat, places), settings
            case "subset":
                whole = self._whole(sample, repeat, places)
                kept = [c for c, p in zip(whole, places, strict=True) if p.member in arm.members]
                return kept, settings
            case "pilot":
                return self._pilot(sample, repeat, places), settings
            case _:
                return self._whole(sample, repeat, places), settings

    def _whole(self, sample: Sample, repeat: int, places: list[Place]) -> list[Candidate]:
        panel = self.panel(sample, repeat, places, own_name)
        assert panel is not None  # recorded before anything is judged
        return panel

    def _pilot(self, sample: Sample, repeat: int, places: list[Place]) -> list[Candidate]:
        """Return samples of the first member, and behind them the others' recorded candidates."""
        first = places[0].member
        draws = [
            r.candidate
            for (id, member, _), r in sorted(self.recorded.items(), key=lambda i: i[0][2])
            if id == sample.id and member == f"pilot:{first}"
        ]
        each = len(draws) // self.job.plan.repeats
        whole = self._whole(sample, repeat, places)
        others = [c for c, p in zip(whole, places, strict=True) if p.member != first]
        both = [*draws[repeat * each : (repeat + 1) * each], *others]
        return [replace(candidate, index=index) for index, candidate in enumerate(both)]

    async def answer(
        self,
        name: str,
        sample: Sample,
        repeat: int,
        candidates: list[Candidate] | None,
        settings: Preset,
    ) -> Outcome:
        """Have an arm answer one sample, and write down what came of it."""
        seed = self.seed(sample, repeat)

        async def ask() -> Answer:
            if candidates is not None:
                return await judge_panel(
                    self.job.fusion,
                    settings,
                    sample.messages,
                    candidates,
                    seed=seed,
                    name=self.job.plan.preset,
                )
            sampling = SamplingParams(seed=seed, max_tokens=settings.answer_max_tokens)
            model = self.job.plan.judge
            return await self.job.fusion.complete(
                Request(
                    model,
                    sample.messages,
                    sampling,
                    changes={"deadline": PATIENCE},
                    watches="nothing",
                )
            )

        digest = "" if candidates is None else panel_digest(candidates)
        used = sum((c.usage for c in candidates or ()), Usage())
        outcome = Outcome(name, sample.id, repeat, Score(None), panel=digest, panel_usage=used)
        try:
            answer = await self.job.named(await self._patiently(ask, judge_lost))
        except FusionError as error:
            score = await self._score(sample, "", str(error), lost=error.code in LOST)
            outcome = replace(outcome, score=score, status="failed", error=str(error))
            outcome = replace(outcome, reason=error.code, finish_reason="error")
        else:
            score = await self._score(sample, whole_text(answer.text), None, lost=False)
            outcome = _told(outcome, answer, score)
        self._finish(outcome)
        return outcome

    def _finish(self, outcome: Outcome) -> None:
        self.store.outcomes.append(outcome)
        self.done[outcome.arm, outcome.sample, outcome.repeat] = outcome

    def add(self, outcome: Outcome) -> None:
        """Write down an outcome that is made of others, unless it is there."""
        if (outcome.arm, outcome.sample, outcome.repeat) not in self.done:
            self._finish(outcome)

    async def _score(self, sample: Sample, text: str, error: str | None, *, lost: bool) -> Score:
        """Score a text: what an engine's loss took is unscored, any other failure is worth 0."""
        if lost:
            return Score(None, detail=f"unscored: {error}")
        if not text.strip():
            return Score(0.0, detail=error or "the answer is empty")
        try:
            return await self.job.scorers[sample.scorer].score(sample, text)
        except FusionError as failure:
            self._problem(f"scorer {sample.scorer}: {failure}")
            return Score(None, detail=f"unscored: {failure}")

    async def _patiently(
        self, ask: Callable[[], Awaitable[T]], hit: Callable[[T], str | None]
    ) -> T:
        return await patiently(ask, hit, ready=self.job.ready, tell=self._problem)

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems[text] = None
            self.progress.note(text)


def whole_text(text: str) -> str:
    """Return a text that has UTF-8: half characters, which some engines send, become signs."""
    return text.encode("utf-8", "replace").decode()


def _number(repeat: int, place: Place) -> int:
    """Return the number of a draw among all of its member, the same however many are drawn."""
    return repeat * MAX_CANDIDATES + place.draw


def _alone(arm: str, recording: Recording) -> Outcome:
    candidate = recording.candidate
    return Outcome(
        arm,
        recording.sample,
        recording.draw,
        recording.score,
        text=candidate.text,
        model=candidate.model,
        status="single" if candidate.is_usable else "failed",
        reason=candidate.failure_reason,
        finish_reason=candidate.finish_reason,
        error=candidate.error,
        panel_usage=candidate.usage,
    )


def _told(outcome: Outcome, answer: Answer, score: Score) -> Outcome:
    return replace(
        outcome,
        score=score,
        text=whole_text(answer.text),
        model=answer.model,
        status=answer.status,
        reason=answer.reason,
        exit=answer.exit,
        finish_reason=answer.finish_reason,
        judge_usage=answer.usage,
        trace=answer.trace_id,
    )


def _neighbor(dataset: Dataset, sample: Sample) -> Sample:
    """Return the next sample of the same task; of another one where it is the task's only one."""
    alike = [s for s in dataset.samples if s.task == sample.task]
    group = alike if len(alike) > 1 else list(dataset.samples)
    return group[(group.index(sample) + 1) % len(group)]
