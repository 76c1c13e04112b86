"""When a failed engine may be started again: soon at first, then later, then hardly ever. Pure."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Supervision:
    """How an engine is watched and brought back. All times in seconds.

    Attributes:
        idle_seconds: Silence after which an engine without calls is asked for a token.
        busy_seconds: The same while calls run; also the least time to answer.
        misses: Questions in a row without a token after which it is dead.
        backoff_first: From its first failure to its next start, at most; doubled by each further
            failure within ``window``, up to ``backoff_limit``.
        failures: Within ``window``, after which it is broken.
        retry_every: Between the starts of a broken engine.
        drain: For running calls to end when it is stopped or put to sleep.
    """

    idle_seconds: float = 30.0
    busy_seconds: float = 10.0
    misses: int = 3
    backoff_first: float = 1.0
    backoff_limit: float = 60.0
    failures: int = 5
    window: float = 600.0
    retry_every: float = 600.0
    drain: float = 30.0


DEFAULT = Supervision()
REMOTE = Supervision(idle_seconds=60.0, retry_every=30.0)
"""For servers elsewhere: a question may cost money, and a start is nothing but a question."""


class Breaker:
    """Failures of one engine, and what follows from them.

    Attributes:
        due: Time of the next start.
        is_open: It has failed so often, or so plainly, that the next start is far off.
    """

    def __init__(self, supervision: Supervision, rng: random.Random) -> None:
        self.due = 0.0
        self.is_open = False
        self._supervision = supervision
        self._rng = rng
        self._failures: list[float] = []

    def fail(self, now: float, *, is_hopeless: bool = False) -> None:
        """Note a death or a failed start.

        Args:
            now: The loop's time.
            is_hopeless: Starting it again as it is cannot help.
        """
        rules = self._supervision
        self._failures = [at for at in self._failures if at > now - rules.window] + [now]
        if self.is_open or is_hopeless or len(self._failures) >= rules.failures:
            self.is_open = True
            self.due = now + rules.retry_every
            return
        wait = min(rules.backoff_limit, rules.backoff_first * 2 ** (len(self._failures) - 1))
        # Half of it is left to chance, so that engines that died together do not start together.
        self.due = now + wait * (0.5 + 0.5 * self._rng.random())

    def close(self) -> None:
        """Forget all failures: the next start is due now."""
        self._failures.clear()
        self.is_open = False
        self.due = 0.0

    def succeed(self) -> None:
        """Note a good start; one of a broken engine closes the circuit."""
        if self.is_open:
            self.close()
