"""A search for a place for everything: pieces into rooms. Knows no models.

It finds a division whenever there is one; so more room never turns a plan into a refusal, which a
rule of thumb (largest into the emptiest) cannot promise. With a dozen pieces that may each be
spread over eight rooms, and nearly fill them, it gives up after ``MOST_TRIES``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

MOST_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to place a piece: in ``ranks`` rooms of one kind.

    Attributes:
        loads: Bytes of each of the rooms, phase by phase.
    """

    ranks: int
    loads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """What needs a place.

    Attributes:
        choices: The preferred first.
        is_member: It works at the same time as all other members: better in another room.
    """

    name: str
    choices: tuple[Choice, ...]
    is_member: bool


@dataclass(frozen=True, slots=True)
class Room:
    """A device.

    Attributes:
        place: Its number; decides between equals.
        kind: Only rooms of one kind share a piece.
        left: Bytes that are free, phase by phase.
        members: Pieces in it that are members.
    """

    id: str
    place: int
    kind: tuple[str, int]
    left: tuple[int, ...]
    members: int = 0

    def fits(self, choice: Choice) -> bool:
        return all(load <= left for load, left in zip(choice.loads, self.left, strict=True))

    def after(self, choice: Choice, *, is_member: bool) -> "Room":
        left = tuple(left - load for load, left in zip(choice.loads, self.left, strict=True))
        return replace(self, left=left, members=self.members + is_member)


Placed = Mapping[str, tuple[Choice, tuple[str, ...]]]
"""By piece: the choice that was taken and the rooms, in the order of ranks."""


def place(pieces: Sequence[Piece], rooms: Sequence[Room]) -> Placed | None:
    """Find a room, or several, for every piece, in the order given; None when there is no way."""
    return _Search().place(tuple(pieces), tuple(rooms))


class _Search:
    def __init__(self) -> None:
        self._failed: set[tuple[object, ...]] = set()
        self._tries = 0

    def place(self, pieces: tuple[Piece, ...], rooms: tuple[Room, ...]) -> Placed | None:
        if not pieces:
            return {}
        self._tries += 1
        if self._tries > MOST_TRIES or _is_hopeless(pieces, rooms):
            return None
        # Rooms of one kind with the same space left are the same: each situation is tried once.
        situation = (len(pieces), *sorted((room.kind, room.left) for room in rooms))
        if situation in self._failed:
            return None
        first, rest = pieces[0], pieces[1:]
        for choice in first.choices:
            for taken in _ways(first, choice, rooms):
                after = tuple(
                    room.after(choice, is_member=first.is_member) if room.id in taken else room
                    for room in rooms
                )
                found = self.place(rest, after)
                if found is not None:
                    return {first.name: (choice, taken), **found}
        self._failed.add(situation)
        return None


def _is_hopeless(pieces: tuple[Piece, ...], rooms: tuple[Room, ...]) -> bool:
    """Whether a piece has no choice, or all are more than what is left, in some phase."""
    if not rooms or not all(piece.choices for piece in pieces):
        return True
    for phase in range(len(rooms[0].left)):
        loads = [[choice.loads[phase] for choice in piece.choices] for piece in pieces]
        least = min(map(min, loads))
        needed = sum(min(c.ranks * c.loads[phase] for c in piece.choices) for piece in pieces)
        if needed > sum(room.left[phase] for room in rooms if room.left[phase] >= least):
            return True
    return False


def _ways(piece: Piece, choice: Choice, rooms: tuple[Room, ...]) -> Iterator[tuple[str, ...]]:
    """Yield sets of rooms, the best first; of sets that differ in names alone only one."""

    def merit(room: Room) -> tuple[int, int, int]:
        return room.members if piece.is_member else 0, -min(room.left), room.place

    fitting = sorted((room for room in rooms if room.fits(choice)), key=merit)
    for kind in dict.fromkeys(room.kind for room in fitting):
        alike: dict[tuple[object, ...], list[Room]] = {}
        for room in fitting:
            if room.kind == kind:
                alike.setdefault((room.members, room.left), []).append(room)
        for picked in _pick(tuple(alike.values()), choice.ranks):
            yield tuple(room.id for room in sorted(picked, key=lambda room: room.place))


def _pick(classes: Sequence[Sequence[Room]], count: int) -> Iterator[tuple[Room, ...]]:
    """Yield ways to take ``count`` rooms, as many as possible of the first classes first."""
    if count == 0:
        yield ()
    elif classes:
        first, rest = classes[0], classes[1:]
        for taken in range(min(count, len(first)), -1, -1):
            for others in _pick(rest, count - taken):
                yield (*first[:taken], *others)
