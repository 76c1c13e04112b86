"""What an evaluation has found, before any statistics. No behaviour."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from localfusion.evals.samples import Dataset, Json, Score
from localfusion.types import Candidate, Usage

BEST = "best"
"""The member that is best on the other half; made by the report, without a call."""
MEMBER = "member:"
"""Before a member's name: the arm in which it answers alone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided before the first call.

    Attributes:
        suite: Name of the suite; ``data`` the digest of its samples.
        preset: Name of the preset; ``settings`` its fields.
        members: Names of the panel's members, in its order: a model, ``model#2`` where the panel
            has a model twice. A member with several samples has one name.
        judge: The judge's model.
        arms: Names, in the order in which they are shown.
        primary: The comparison that the verdict is about: two arms, such as ``fuse`` and ``best``.
        margin: Smallest gain that is worth the extra cost, as a share of 1.
        seed: All others are derived from it.
        repeats: Recordings of each member for each sample, and judgements of each panel.
        live: Samples that are also answered live, for times and cost; 0: none.
        scoring: Identity of each scorer, by its name.
        identity: Versions, weights and sampling, for the reader.
    """

    suite: str
    data: str
    preset: str
    settings: Json
    members: tuple[str, ...]
    judge: str
    arms: tuple[str, ...]
    primary: tuple[str, str]
    margin: float
    seed: int
    repeats: int
    live: int
    scoring: Mapping[str, str]
    identity: Json


@dataclass(frozen=True, slots=True)
class Recording:
    """What one call of one member gave for one sample.

    Attributes:
        draw: Number of the answer among the member's own to this sample; gaps say nothing.
    """

    sample: str
    member: str
    draw: int
    candidate: Candidate
    score: Score


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one arm answered to one sample.

    Attributes:
        arm: Its name; ``member:NAME`` for a recording of a member.
        repeat: Number of the answer among the arm's own to this sample; averaged first.
        panel: Digest of the candidates that it was made of; empty where there were none.
        text: The answer; empty where there was none.
        model: That wrote it.
        status: As in ``Answer``; ``failed``: the product answered with an error, see ``error``.
        finish_reason: As in ``Answer``; ``length``: it was cut.
        judge_usage: Tokens of the calls that this arm made anew.
        panel_usage: Tokens of the recorded calls that it used.
        trace: Id of the trace of its run; None: it had none.
    """

    arm: str
    sample: str
    repeat: int
    score: Score
    text: str = ""
    model: str = ""
    status: str = "full"
    reason: str | None = None
    exit: str | None = None
    finish_reason: str = "stop"
    error: str | None = None
    panel: str = ""
    judge_usage: Usage = field(default_factory=Usage)
    panel_usage: Usage = field(default_factory=Usage)
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """One answer made live, alone on the machine: the only source of times and cost.

    Attributes:
        first_token_seconds: Until the client had the first piece of the answer.
        path: What was waited for: (stage, seconds) as in ``Answer.critical_path``.
        engine_seconds: For each model, the time in which it worked.
        joules: None: this machine has no energy counter.
        money: None: models.yaml has no rates.
    """

    arm: str
    sample: str
    seconds: float
    first_token_seconds: float | None
    path: tuple[tuple[str, float], ...]
    engine_seconds: Mapping[str, float]
    usage: Usage
    status: str
    joules: float | None = None
    money: float | None = None
    currency: str | None = None
    error: str | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that a report is made of.

    Attributes:
        panel_calls: Engine calls of members, and ``judge_calls`` of the judge, that the recorder
            and the arms made; live samples are not among them.
        problems: What went wrong on the way, in words, each once: an engine that was lost.
        notes: What a reader must know of how it was done, such as how many draws an arm had.
    """

    plan: Plan
    dataset: Dataset
    recordings: tuple[Recording, ...]
    outcomes: tuple[Outcome, ...]
    live: tuple[Live, ...] = ()
    panel_calls: int = 0
    judge_calls: int = 0
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
