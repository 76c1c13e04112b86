"""Which group of engines has the hardware, and which runs wait for it. Pure: no engine, no clock.

A group is a set of models that fit together; what is in every group, or in none, never waits. The
others answer while their group is resident, in turns:

- A run holds the turn while it has calls in it, and for LINGER seconds after the last one, for its
  next call often comes at once (analysis, then synthesis). A run that waits for another group holds
  nothing, so two runs cannot wait for each other.
- The turn is open to every run until somebody waits for another group; then only for those that
  already hold it. It ends when nobody holds it: a busy group is never evicted.
- The next turn is that of the oldest waiting call, and whoever waits for it by then comes in. So a
  call waits for at most as many turns as there are groups.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LINGER = 1.0
"""Seconds for which a run without a call keeps its turn."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run that waits until its engines have the hardware.

    Attributes:
        models: Those that it waits for.
        position: 1 for the run that has waited longest.
        seconds: It has waited so far.
    """

    models: tuple[str, ...]
    position: int
    seconds: float


@dataclass(slots=True, eq=False)
class Call:
    """One call of a run: waiting, or admitted until it ends."""

    run: object
    model: str
    since: float
    is_admitted: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What has to happen now.

    Attributes:
        admitted: Waiting calls that may go on.
        target: The group to swap to; report its end with ``swapped()``.
        check_at: Time to decide again at, if nothing happens before.
    """

    admitted: tuple[Call, ...] = ()
    target: frozenset[str] | None = None
    check_at: float | None = None


class GroupQueue:
    """Turns of groups; the first group has the first turn."""

    def __init__(self, groups: Iterable[Iterable[str]]) -> None:
        self.groups: Sequence[frozenset[str]]
        self._gated: frozenset[str]
        self._waiting: dict[Call, None] = {}  # oldest first
        self._going: dict[Call, None] = {}
        self._holders: dict[object, float] = {}  # runs of this turn, since when without a call
        self._goal: frozenset[str] | None = None
        self._is_swapping = False
        self._set_groups(groups)
        self._resident = self.groups[0]

    def _set_groups(self, groups: Iterable[Iterable[str]]) -> None:
        self.groups = [frozenset(group) for group in groups] or [frozenset()]
        self._gated = frozenset.union(*self.groups) - frozenset.intersection(*self.groups)

    def is_gated(self, model: str) -> bool:
        """Whether a model must wait for turns."""
        return model in self._gated

    def enter(self, run: object, model: str, now: float) -> Call:
        """Begin a call; it may go on at once if ``is_admitted``, else once a decision says so."""
        call = Call(run, model, now)
        if not self.is_gated(model) or self._is_open_to(run, model):
            self._admit(call)
        else:
            self._waiting[call] = None
            self._let_go(run, now)
        return call

    def end(self, call: Call, now: float) -> None:
        """End a call, or the wait for it."""
        self._waiting.pop(call, None)
        self._going.pop(call, None)
        self._let_go(call.run, now)

    def close(self, run: object) -> None:
        """Forget a run whose calls have all ended."""
        self._holders.pop(run, None)

    @property
    def has_goal(self) -> bool:
        """Whether the groups have changed, and none of the new ones has had its turn."""
        return self._goal is not None

    def begin_swap(self) -> None:
        """Admit nobody until ``swapped()``: groups change by hand."""
        self._is_swapping = True

    def decide(self, now: float) -> Decision:
        """Say what has to happen now; a target is said once, and the swap begins with it."""
        if self._is_swapping:
            return Decision()
        if self._goal is None and not self._is_contested:
            return Decision(admitted=self._admit_waiting())
        target = self._next_group() if self._goal is None else self._goal
        if any(self.is_gated(call.model) and call.model not in target for call in self._going):
            return Decision()
        if not target >= self._resident:
            free_at = max(self._holders.values(), default=now - LINGER) + LINGER
            if free_at > now:
                return Decision(check_at=free_at)
            self._holders.clear()
        self._is_swapping = True
        return Decision(target=target)

    def swapped(self, target: frozenset[str]) -> tuple[Call, ...]:
        """Begin the turn of a group that has become resident; return the calls that come in."""
        self._is_swapping = False
        self._resident = target
        if target == self._goal:
            self._goal = None
        return self._admit_waiting() if self._goal is None else ()

    def regroup(self, groups: Iterable[Iterable[str]]) -> None:
        """Replace the groups; the next turn is that of the one most like what is resident."""
        self._set_groups(groups)
        self._goal = max(self.groups, key=lambda group: len(group & self._resident))

    def waiting(self, now: float) -> tuple[Waiting, ...]:
        """Return the runs that wait, the one that has waited longest first."""
        runs: dict[object, list[Call]] = {}
        for call in self._waiting:
            runs.setdefault(call.run, []).append(call)
        return tuple(
            Waiting(tuple(dict.fromkeys(c.model for c in calls)), place, now - calls[0].since)
            for place, calls in enumerate(runs.values(), start=1)
        )

    @property
    def _is_contested(self) -> bool:
        return any(
            self.is_gated(call.model) and call.model not in self._resident for call in self._waiting
        )

    def _is_open_to(self, run: object, model: str) -> bool:
        if self._is_swapping or model not in self._resident:
            return False
        return run in self._holders or (self._goal is None and not self._is_contested)

    def _admit(self, call: Call) -> None:
        call.is_admitted = True
        self._going[call] = None
        if self.is_gated(call.model):
            self._holders[call.run] = call.since

    def _admit_waiting(self) -> tuple[Call, ...]:
        admitted = tuple(
            call
            for call in self._waiting
            if call.model in self._resident or not self.is_gated(call.model)
        )
        for call in admitted:
            del self._waiting[call]
            self._admit(call)
        return admitted

    def _let_go(self, run: object, now: float) -> None:
        """Note that a run's hold is idle from now on; a run that waits elsewhere gives it up."""
        if run not in self._holders:
            return
        self._holders[run] = now
        is_calling = any(c.run is run and self.is_gated(c.model) for c in self._going)
        if not is_calling and any(call.run is run for call in self._waiting):
            del self._holders[run]

    def _next_group(self) -> frozenset[str]:
        """Choose among the groups of the oldest call: most for its run, then most for all."""
        oldest = next(iter(self._waiting))
        own = {call.model for call in self._waiting if call.run is oldest.run}
        return max(
            (group for group in self.groups if oldest.model in group),
            key=lambda group: (
                len(own & group),
                sum(call.model in group for call in self._waiting),
                group == self._resident,
            ),
        )
