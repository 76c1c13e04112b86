"""How models are made to fit: what is given up, in which order, and no more than is needed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from localfusion.hardware import Hardware
from localfusion.placement.cpu import CpuDevices
from localfusion.placement.devices import Devices, Division
from localfusion.placement.gpu import GpuDevices
from localfusion.placement.needs import Demand, ModelNeed, Step
from localfusion.placement.search import Piece, Placed, place
from localfusion.placement.sizes import LEAST, Cut, Size, cut_size, cuts
from localfusion.placement.slots import Plan


def first_fit(demand: Demand, hardware: Hardware, fit: Sequence[Step]) -> Plan | None:
    """Return the plan that gives up least, None when nothing that ``fit`` permits is enough.

    Each step is tried alone before it is joined with those that stand before it.
    """
    if not can_fit(demand, hardware, fit):
        return None
    for steps in _in_order(fit):
        for trial in _trials(demand, hardware, steps):
            division = trial.divide(may_cut="context" in steps)
            if division is not None:
                notes = (*_notes(demand, division), *trial.devices.notes(division))
                slots, judges = trial.devices.slots(division), dict(division.demand.judges)
                return Plan(slots, hardware, notes, division.groups, judges)
    raise AssertionError("something fits")


def can_fit(demand: Demand, hardware: Hardware, fit: Sequence[Step]) -> bool:
    """Whether there is a plan at all: whoever may cut contexts cuts them to the least."""
    others = [step for step in fit if step != "context"]
    return any(
        trial.is_possible(may_cut="context" in fit)
        for steps in _in_order(others)
        for trial in _trials(demand, hardware, steps)
    )


def _in_order(fit: Sequence[Step]) -> Iterator[frozenset[Step]]:
    """Yield all sets of steps; those with a later step come after all those without it."""
    for number in range(2 ** len(fit)):
        yield frozenset(step for place, step in enumerate(fit) if number >> place & 1)


def _trials(demand: Demand, hardware: Hardware, steps: frozenset[Step]) -> Iterator["_Trial"]:
    gpus = hardware.gpus
    devices: Devices = GpuDevices(gpus, hardware.cpu) if gpus else CpuDevices(hardware.cpu)
    for changed in _shared(demand) if "share_judge" in steps else [demand]:
        if "phases" not in steps:
            yield _Trial(changed, (tuple(changed.needs),), devices)
        elif changed.own_judges and devices.can_swap(changed):
            yield _Trial(changed, changed.phases(), devices)


def _shared(demand: Demand) -> Iterator[Demand]:
    """Yield the demands in which members judge instead of some judges, the fewest first."""
    judges = demand.own_judges
    for count in range(1, len(judges) + 1):
        for dropped in combinations(judges, count):
            changed = demand.with_shared_judges(dropped)
            if changed is not None:
                yield changed


@dataclass(frozen=True, slots=True)
class _Trial:
    demand: Demand
    groups: tuple[tuple[str, ...], ...]
    devices: Devices

    def is_possible(self, *, may_cut: bool) -> bool:
        sizes = self._sizes(LEAST if may_cut else self._ladder(may_cut)[0])
        rooms = self.devices.rooms(len(self.groups))
        return place(self._pieces(sizes, spread=True), rooms) is not None

    def divide(self, *, may_cut: bool) -> Division | None:
        """Place everything at the largest sizes that fit."""
        if not self.is_possible(may_cut=may_cut):
            return None
        ladder = self._ladder(may_cut)
        for depth, cut in enumerate(ladder):
            sizes = self._sizes(cut)
            if self._place(sizes) is not None:
                return self._restored(sizes, ladder[:depth])
        raise AssertionError("the deepest cut is possible")

    def _ladder(self, may_cut: bool) -> tuple[Cut, ...]:
        largest = max((need.max_num_seqs for need in self.demand.needs.values()), default=1)
        return cuts(largest)[: None if may_cut else 1]

    def _restored(self, sizes: Mapping[str, Size], ladder: Sequence[Cut]) -> Division:
        """Give back to each engine, judges first, what the others leave of its own cut."""
        judging = self.demand.judging
        for name in (*judging, *(name for name in self.demand.needs if name not in judging)):
            for cut in ladder:
                larger = {**sizes, name: self._size(self.demand.needs[name], cut)}
                if self._place(larger) is not None:
                    sizes = larger
                    break
        placed = self._place(sizes)
        assert placed is not None
        return Division(self.demand, self.groups, sizes, placed)

    def _sizes(self, cut: Cut) -> dict[str, Size]:
        return {name: self._size(need, cut) for name, need in self.demand.needs.items()}

    def _size(self, need: ModelNeed, cut: Cut) -> Size:
        return cut_size(need, cut, self.demand.judge_tokens(need.name))

    def _place(self, sizes: Mapping[str, Size]) -> Placed | None:
        """Find places, with engines spread over more GPUs than they need only if they must."""
        rooms = self.devices.rooms(len(self.groups))
        plain = self._pieces(sizes, spread=False)
        found = place(plain, rooms)
        if found is None and (spread := self._pieces(sizes, spread=True)) != plain:
            found = place(spread, rooms)
        return found

    def _pieces(self, sizes: Mapping[str, Size], *, spread: bool) -> list[Piece]:
        """Return the engines, members first: judges then get the room that the panel leaves."""
        members = self.demand.members
        others = tuple(name for name in self.demand.needs if name not in members)
        pieces = []
        for name in (*members, *others):
            awake = tuple(name in group for group in self.groups)
            need = self.demand.needs[name]
            choices = self.devices.choices(need, sizes[name], awake, spread=spread)
            pieces.append(Piece(name, choices, is_member=name in members))
        return pieces


def _notes(asked: Demand, division: Division) -> list[str]:
    """Say what was given up, old and new."""
    notes = [
        f"preset {preset}: {judge} judges instead of {asked.presets[preset].judge}, "
        "since both do not fit"
        for preset, judge in sorted(division.demand.judges.items())
    ]
    for name in sorted(division.sizes):
        need, size = asked.needs[name], division.sizes[name]
        changes = []
        if size.max_model_len != need.max_model_len:
            changes.append(f"a context of {size.max_model_len} tokens, not {need.max_model_len}")
        if size.max_num_seqs != need.max_num_seqs:
            changes.append(f"{size.max_num_seqs} requests at once, not {need.max_num_seqs}")
        if changes:
            notes.append(f"{name}: {', '.join(changes)}")
    if len(division.groups) > 1:
        panel, judges = (", ".join(group) for group in division.groups)
        notes.append(f"panel ({panel}) and judge ({judges}) take turns, since both do not fit")
    return notes
