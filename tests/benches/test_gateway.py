"""``scripts/bench gateway`` with few requests: it runs to its end and gives every figure."""

import math

import pytest
from benches import gateway


@pytest.mark.promise(14)
async def test_figures_have_their_bars() -> None:
    rows = await gateway.measure(requests=40, speed_requests=60)

    assert [row.what.split(" / ")[0] for row in rows] == [
        "requests/s per core",
        "streamed tokens/s per core",
        "a panel of three, our code",
        "a panel of three, our code with traces",
        "longest gap between tokens of 100 beside the echo's",
        "memory after 40 requests",
    ]
    assert all(math.isfinite(row.value) for row in rows)
