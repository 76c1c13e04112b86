"""What an evaluation found: an outcome for each sample and arm. Data alone: its files are these.

The candidates of the recorded panel are arms themselves: ``member:NAME`` with the name that the
judge's analysis gives a candidate (``a``, ``a#2``). Every other arm ran on exactly those answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from localfusion.evals.samples import Dataset, Score
from localfusion.types import Stage, StageTiming, Step, Usage

MEMBER = "member:"
"""Start of the names of arms that are candidates of the recorded panel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one arm made of one sample.

    Attributes:
        arm: Such as ``fuse``, ``vote``, ``judge``, ``member:smollm2-135m``.
        repeat: Counts draws of the same arm and sample, from 0.
        finish_reason: ``error`` where there is no answer.
        status: How whole the panel was; empty where no panel was asked.
        exit: Why the run ended before its last stage, None where it did not.
        failure: Code of the error that left no answer, else None.
        error: The same in words.
        chosen: Name of the candidate whose text is the answer, where one was chosen.
        panel: Names of the recorded candidates that it read, in the order in which it did.
        panel_digest: SHA-256 over their texts as they were read; arms that are compared share it.
        usage: Tokens of everything that this arm needs, recorded candidates included.
        new_usage: Tokens of the calls that were made for this arm alone.
        stages: Of those calls, by stage.
        engine_seconds: By model, recorded candidates included.
        device_seconds: By kind of device (``gpu``, ``cpu``, ``engine``), likewise.
        joules: None: not measured.
        money: None: no rate is set.
        seconds: From question to answer; None unless the run was live: no time is read off replays.
        first_token_seconds: Likewise, to the answer's first token.
        critical_path: Likewise.
        trace: Id of its trace, None where none is kept.
    """

    sample: str
    arm: str
    repeat: int = 0
    text: str = ""
    score: Score
    finish_reason: str = "stop"
    status: str = ""
    exit: str | None = None
    failure: str | None = None
    error: str | None = None
    chosen: str | None = None
    panel: tuple[str, ...] = ()
    panel_digest: str = ""
    usage: Usage = field(default_factory=Usage)
    new_usage: Usage = field(default_factory=Usage)
    stages: Mapping[Stage, StageTiming] = field(default_factory=dict)
    engine_seconds: Mapping[str, float] = field(default_factory=dict)
    device_seconds: Mapping[str, float] = field(default_factory=dict)
    joules: float | None = None
    money: float | None = None
    seconds: float | None = None
    first_token_seconds: float | None = None
    critical_path: tuple[Step, ...] = ()
    trace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run was to do, written down before its first call.

    Attributes:
        arms: In the order of tables.
        primary: The comparison that decides, as two arms: is the first better than the second?
        worth: Smallest gain in points that is worth fusion's cost.
        margin: Points by which an arm may be worse and still count as equal in quality.
        repeats: Draws of every member.
        folds: Sample id to fold, 0 or 1: what is chosen on one is scored on the other.
        identity: What else the figures depend on, as JSON values: models with manifest digests,
            quantisation, engine versions, sampling, prompt digests, scoring model, device.
    """

    suite: str
    preset: str
    arms: tuple[str, ...]
    primary: tuple[str, str] = ("fuse", "best")
    worth: float = 3.0
    margin: float = 2.0
    seed: int = 0
    repeats: int = 1
    folds: Mapping[str, int] = field(default_factory=dict)
    identity: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A whole evaluation, finished or not.

    Attributes:
        id: Folder's name.
        outcomes: At most one for each sample, arm and repeat; those of replays.
        live: Outcomes of runs that asked the panel anew, for times alone.
        members: Names of the panel's candidates (without ``member:``) in its order.
        currency: Of money, None where no rate is set.
    """

    id: str
    plan: Plan
    plan_digest: str
    dataset: Dataset
    outcomes: tuple[Outcome, ...]
    live: tuple[Outcome, ...] = ()
    members: tuple[str, ...] = ()
    currency: str | None = None
