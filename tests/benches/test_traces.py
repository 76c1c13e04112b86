"""The benchmark of traces measures all that it promises, in small."""

from benches import traces


async def test_figures_have_their_bars() -> None:
    rows = await traces.measure(traces=200, runs=2)

    assert [row.bar for row in rows] == [1.0, 1.0, 1.0, 250.0, 50.0, 50.0]
    _, *others = rows  # the first is a difference of times, and may be anything
    assert all(row.value > 0 for row in others)
