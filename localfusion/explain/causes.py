"""What an answer's outcome is to be put down to, by rules over what replays showed. Pure.

With a known right answer, in this order:

- ``none``: the answer is right.
- ``panel``: no draft has it; or a vote of the drafts decided, and no judge was asked.
- ``judge``: it failed and a draft stands in for it; or asked the same once more it is right.
- ``member``: without one draft, itself wrong, the answer is right, and in reversed order it is not:
  it misleads wherever it stands.
- ``interaction``: other single drops, the reversed order or leaving out two turns it right.
- ``judge``: a draft has it, and whatever was tried the answer has not.

Without one, only what the answer depends on can be told:

- ``none``: asked the same once more it is another answer, so nothing can be put down to anything.
- ``member``: without one draft it is another answer, and in reversed order it is not.
- ``interaction``: several drops, or the order, make it another one.
- ``panel``: nothing does, and drafts say what it says; ``judge``: nothing does, and they do not.

Not seen: that all drafts are wrong alike (without a known answer), what lost members would have
said, more than two drafts that mislead together. A replay that leaves one draft shows nothing, for
a single draft is given as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Blame = Literal["panel", "judge", "member", "interaction", "none"]
TrialKind = Literal["repeat", "reversed", "without"]
OWN_SHARE = 0.5
"""Share of an open answer's sentences that drafts must say for it to be the panel's."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft as the rules see it; ``name`` as the analysis would call it."""

    index: int
    name: str
    is_right: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """What a replay came to.

    Attributes:
        dropped: Indices of the drafts that were left out.
        text: The answer, None where it failed, and ``error`` says why.
        final: The answer proper, where there is one.
        likeness: To the recorded answer, 0 to 1.
        has_moved: It is another answer.
        is_bare: One draft was left, and given as it is.
    """

    kind: TrialKind
    dropped: tuple[int, ...] = ()
    text: str | None = None
    error: str | None = None
    trace_id: str | None = None
    final: str | None = None
    likeness: float = 0.0
    has_moved: bool = False
    is_right: bool = False
    is_bare: bool = False

    @property
    def tells(self) -> bool:
        return self.text is not None and not self.is_bare


@dataclass(frozen=True, slots=True)
class Case:
    """All that the rules look at.

    Attributes:
        is_right: The answer is; None: nobody knows.
        is_judged: A judge was asked in the run.
        failed: Why the judge did not answer, None where it did.
        own_share: Share of the answer's sentences that drafts say, 0 to 1; of a closed question 1
            where a draft has the same answer, else 0.
        trials: Empty where nothing was replayed.
    """

    drafts: Sequence[Draft]
    is_right: bool | None
    is_judged: bool
    failed: str | None
    own_share: float
    trials: Sequence[Trial] = ()

    def name(self, index: int) -> str:
        return next(draft.name for draft in self.drafts if draft.index == index)

    def names(self, trial: Trial) -> str:
        return " and ".join(self.name(index) for index in trial.dropped)

    def trial(self, kind: TrialKind) -> Trial | None:
        return next((t for t in self.trials if t.kind == kind and t.tells), None)


@dataclass(frozen=True, slots=True)
class Cause:
    """The outcome of the rules, in a word and in a sentence."""

    blame: Blame
    words: str
    evidence: tuple[str, ...] = ()


def find_cause(case: Case) -> Cause:
    """Apply the rules."""
    decide = _dependence if case.is_right is None else _fault
    cause = decide(case)
    return Cause(cause.blame, cause.words, (*cause.evidence, *_observed(case)))


def _fault(case: Case) -> Cause:
    right = [draft for draft in case.drafts if draft.is_right]
    count = f"{len(right)} of {len(case.drafts)} drafts have the expected answer"
    who = (f"{count}: {', '.join(draft.name for draft in right)}",) if right else (count,)
    repeat = case.trial("repeat")
    if case.is_right:
        return Cause("none", "The answer is right.", who)
    if not right:
        return Cause("panel", "No draft has the expected answer; the judge had none to find.", who)
    if case.failed is not None:
        return Cause("judge", f"The judge failed ({case.failed}); a draft stands in for it.", who)
    if not case.is_judged:
        return Cause("panel", "The drafts decided among themselves; no judge was asked.", who)
    if repeat is None:
        words = "A draft has the expected answer and the answer has not; only replays can tell why."
        return Cause("none", words, who)
    if repeat.is_right:
        words = "Asked the same once more the judge is right: it does not repeat itself."
        return Cause("judge", words, who)
    return _fault_by_trials(case, who)


def _fault_by_trials(case: Case, who: tuple[str, ...]) -> Cause:
    cures = [t for t in case.trials if t.kind != "repeat" and t.tells and t.is_right]
    wrong = {draft.index for draft in case.drafts if not draft.is_right}
    match cures:
        case []:
            words = "A draft has the expected answer, and whatever was tried the judge misses it."
            return Cause("judge", words, who)
        case [Trial(kind="without", dropped=(index,)) as cure] if index in wrong:
            words = f"{case.names(cure)} misleads the judge: without its draft the answer is right."
            return Cause("member", words, who)
        case _:
            words = f"The answer is right {' and '.join(_how(case, cure) for cure in cures)}."
            return Cause("interaction", words, who)


def _dependence(case: Case) -> Cause:
    share = f"drafts say {case.own_share:.0%} of what the answer says"
    repeat = case.trial("repeat")
    if repeat is not None and repeat.has_moved:
        words = "Asked the same once more the judge gives another answer; nothing can be told."
        return Cause("none", words, (share,))
    movers = [t for t in case.trials if t.kind != "repeat" and t.tells and t.has_moved]
    match movers:
        case []:
            return _unmoved(case, share)
        case [Trial(kind="without", dropped=(_,)) as mover]:
            words = f"The answer depends on {case.names(mover)}: without it there is another."
            return Cause("member", words, (share,))
        case _:
            words = f"There is another answer {' and '.join(_how(case, t) for t in movers)}."
            return Cause("interaction", words, (share,))


def _unmoved(case: Case, share: str) -> Cause:
    tried = "whichever draft is left out" if any(t.tells for t in case.trials) else "by its words"
    if case.failed is not None:
        words = f"The judge failed ({case.failed}); a draft stands in for it."
        return Cause("judge", words, (share,))
    if not case.is_judged or case.own_share >= OWN_SHARE:
        return Cause("panel", f"The answer is what the drafts say, {tried}.", (share,))
    return Cause("judge", f"The answer is the judge's own, {tried}.", (share,))


def _how(case: Case, trial: Trial) -> str:
    if trial.kind == "without":
        return f"without {case.names(trial)}"
    return "with the drafts in reversed order"


def _observed(case: Case) -> tuple[str, ...]:
    """Say what each replay came to."""
    lines = []
    for trial in case.trials:
        what = "asked the same once more" if trial.kind == "repeat" else _how(case, trial)
        lines.append(f"{what}: {_outcome(case, trial)}")
    return tuple(lines)


def _outcome(case: Case, trial: Trial) -> str:
    if trial.text is None:
        return f"no answer ({trial.error})"
    if trial.is_bare:
        return "one draft is left and given as it is, which tells nothing"
    final = "" if trial.final is None else f" {trial.final}"
    if case.is_right is not None:
        return f"{'right' if trial.is_right else 'wrong'}{final and ':'}{final}"
    what = "another answer" if trial.has_moved else "the same answer"
    return f"{what}{final and ':'}{final}, {trial.likeness:.0%} alike"
