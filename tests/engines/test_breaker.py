"""Waits between starts: they double, end at a limit, and half of each is left to chance."""

import random

from hypothesis import given
from hypothesis import strategies as st

from localfusion.engines.breaker import Breaker, Supervision

RULES = Supervision(failures=100)


@given(st.integers(), st.integers(1, 20))
def test_waits_double_up_to_the_limit(seed: int, count: int) -> None:
    breaker = Breaker(RULES, random.Random(seed))

    for _ in range(count):
        breaker.fail(50.0)

    most = min(RULES.backoff_limit, RULES.backoff_first * 2 ** (count - 1))
    assert most / 2 <= breaker.due - 50.0 <= most
    assert not breaker.is_open


@given(st.lists(st.floats(0, 10_000), max_size=40).map(sorted))
def test_circuit_opens_with_the_fifth_failure_in_ten_minutes(times: list[float]) -> None:
    rules = Supervision()
    breaker = Breaker(rules, random.Random(0))

    for place, now in enumerate(times):
        breaker.fail(now)
        recent = [at for at in times[: place + 1] if at > now - rules.window]
        assert breaker.is_open == (len(recent) >= rules.failures)
        if breaker.is_open:
            assert breaker.due == now + rules.retry_every
            breaker.close()
            break


def test_engines_that_died_together_do_not_start_together() -> None:
    dues = set()
    for seed in range(10):
        breaker = Breaker(RULES, random.Random(seed))
        breaker.fail(0.0)
        dues.add(breaker.due)

    assert len(dues) == 10


def test_open_circuit_stays_open_until_a_start_succeeds() -> None:
    breaker = Breaker(Supervision(), random.Random(0))
    breaker.fail(0.0, is_hopeless=True)
    breaker.fail(10_000.0)
    was_open = breaker.is_open
    breaker.succeed()
    breaker.fail(20_000.0)

    assert (was_open, breaker.is_open) == (True, False)
