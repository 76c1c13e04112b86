"""The words of the judge's tests: what is judged, what came of it, what it must be worth.

A case is a question with one or more panels and a reading of the replies; a test is many cases and
the criteria that their marks are held to. No behaviour but small look-ups.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from localfusion.evals.datasets.pairs import Pair
from localfusion.types import Candidate


class Asked(Protocol):
    """Something that is asked, with what is right."""

    @property
    def id(self) -> str: ...

    @property
    def text(self) -> str:
        """What the panel was asked."""
        ...

    @property
    def ideal(self) -> str:
        """A right answer."""
        ...

    def right(self, text: str) -> bool | None:
        """Tell whether a text answers rightly; None: it has no answer that can be read."""
        ...


Way = Literal["preset", "choice"]
Fault = Literal["empty", "cut", "no analysis", "dead before", "dead after"]


@dataclass(frozen=True, slots=True)
class Panel:
    """Candidates that are judged once.

    Attributes:
        asked: What they answer.
        candidates: In the order of their slots; none: the judge answers alone.
        way: As the preset answers; or the judge's choice among them in one token.
        draw: Number of the judge's seed.
        fault: How a simulated judge fails in the place of the real one; None: it is the real one.
    """

    asked: Asked
    candidates: tuple[Candidate, ...] = ()
    way: Way = "preset"
    draw: int = 0
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a panel.

    Attributes:
        error: Why there is no answer, with ``code``; None: there is one.
        is_lost: The engine was lost, which says nothing of the judge.
        choice: Probabilities of the slots, of a choice; None where there was no usable one.
        synthesize: That no candidate is good enough alone.
        slots: Drafts in the judge's prompt, None where it was not asked or marks were missing.
        is_truncated: The judge read some draft in part.
        secret: Code in the marks of its prompt.
        passed: Whether the answer's program passes its tests; None: it was not or cannot be run.
    """

    text: str = ""
    status: str = ""
    reason: str | None = None
    finish_reason: str = "stop"
    error: str | None = None
    code: str | None = None
    is_lost: bool = False
    choice: Mapping[int, float] | None = None
    synthesize: float = 0.0
    slots: int | None = None
    is_truncated: bool = False
    secret: str = ""
    passed: bool | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """One case's part of a criterion.

    Attributes:
        met: Whether what the criterion counts has happened; None: it could not be read.
        base: The same of the panel that it is compared with; None where there is none.
    """

    met: bool | None
    base: bool | None = None


Marks = Mapping[str, Mark]
Replies = Mapping[str, Reply]


@dataclass(frozen=True, slots=True)
class Case:
    """A question, its panels by name, and how their replies are read.

    Attributes:
        read: Returns marks by criterion; those that the test does not declare are shown only.
    """

    id: str
    asked: Asked
    panels: Mapping[str, Panel]
    read: Callable[[Replies], Marks]


BarKind = Literal["at least", "at most", "above", "not below", "not above", "never", "shown"]


@dataclass(frozen=True, slots=True)
class Bar:
    """What a criterion's share must be.

    Attributes:
        kind: ``at least``, ``at most``, ``above`` a share; ``not below``, ``not above`` the share
            of what it is compared with by more than a margin; ``never``: no exception allowed, and
            with a limit the upper bound must be below it too; ``shown``: no bar.
        limit: Share or margin.
    """

    kind: BarKind
    limit: float | None = None

    @property
    def text(self) -> str:
        percent = "" if self.limit is None else f"{100 * self.limit:.4g}"
        match self.kind:
            case "not below":
                return f"at most {percent} points below"
            case "not above":
                return f"at most {percent} points above"
            case "never":
                return "never" if self.limit is None else f"never, bound <= {percent} %"
            case "shown":
                return "no bar"
            case kind:
                return f"{kind} {percent} %"


NEVER = Bar("never")
SHOWN = Bar("shown")
NOT_BELOW = Bar("not below", 0.05)
NOT_ABOVE = Bar("not above", 0.05)


@dataclass(frozen=True, slots=True)
class Bench:
    """What tests are made with.

    Attributes:
        count: Cases of each test.
        size: Candidates of a panel.
        models: Names under which they stand; the judge's own may be among them.
        judge: Its name.
        alone: What the judge answers to each question without a panel, by the question's id.
        pairs: Of a user's file.
    """

    count: int
    size: int
    models: tuple[str, ...]
    judge: str
    seed: int
    alone: Mapping[str, Reply] = field(default_factory=dict)
    pairs: Sequence[Pair] = ()

    @property
    def other(self) -> str:
        """A name that is not the judge's."""
        return next((name for name in self.models if name != self.judge), "other")


@dataclass(frozen=True, slots=True)
class Test:
    """A named test.

    Attributes:
        construction: How its panels are made, in one line.
        criteria: Bars by name; a test passes if all of them do.
        build: Makes its cases.
    """

    __test__ = False  # no test of pytest's

    name: str
    construction: str
    criteria: Mapping[str, Bar]
    build: Callable[[Bench], Iterable[Case]]
