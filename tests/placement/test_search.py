"""The search finds a division whenever there is one, and only then."""

from collections.abc import Iterator, Sequence
from itertools import combinations, product

from hypothesis import given, settings
from hypothesis import strategies as st

from localfusion.placement.search import Choice, Piece, Room, place

loads = st.tuples(st.integers(0, 60), st.integers(0, 60))
choices = st.lists(st.builds(Choice, st.sampled_from([1, 2]), loads), min_size=1, max_size=2)
pieces = st.lists(
    st.builds(Piece, st.just(""), choices.map(tuple), st.booleans()), min_size=1, max_size=4
)
rooms = st.lists(
    st.tuples(st.sampled_from(["big", "small"]), st.tuples(st.integers(30, 99), st.just(80))),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)  # the machine may be busy
@given(pieces, rooms)
def test_search_agrees_with_trying_everything(
    drawn: list[Piece], sizes: list[tuple[str, tuple[int, int]]]
) -> None:
    wanted = [Piece(str(i), p.choices, p.is_member) for i, p in enumerate(drawn)]
    there = [Room(f"r{i}", i, (kind, 0), left) for i, (kind, left) in enumerate(sizes)]

    found = place(wanted, there)

    everything = product(*(ways(piece, there) for piece in wanted))
    assert (found is not None) == any(is_within(way, there) for way in everything)
    if found is not None:
        assert is_within([found[piece.name] for piece in wanted], there)


Way = tuple[Choice, tuple[str, ...]]


def ways(piece: Piece, there: Sequence[Room]) -> Iterator[Way]:
    for choice in piece.choices:
        for taken in combinations(there, choice.ranks):
            if len({room.kind for room in taken}) == 1:
                yield choice, tuple(room.id for room in taken)


def is_within(way: Sequence[Way], there: Sequence[Room]) -> bool:
    return all(
        sum(choice.loads[phase] for choice, taken in way if room.id in taken) <= left
        for room in there
        for phase, left in enumerate(room.left)
    )


def test_search_ends_where_there_are_too_many_ways() -> None:
    sizes = [650 - 9 * i for i in range(14)]
    many = [
        Piece(str(size), tuple(Choice(n, (size // n + 20 * (n > 1),)) for n in (1, 2, 4, 8)), True)
        for size in sizes
    ]

    assert place(many, [Room(str(i), i, ("card", 0), (1060,)) for i in range(8)]) is None
