"""How long the judge of a preset usually takes, to know until when the panel may work."""

import math
from collections import deque

SHARE = 0.25
"""Of the deadline that is kept for the judge before anything is known."""
REMEMBERED = 32
LEAST = 4
"""Runs before their times are believed."""


class JudgePace:
    """Seconds from the panel's end to the answer's, over the last runs of a preset."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    def note(self, seconds: float) -> None:
        self._seconds.append(seconds)

    def reserve(self, deadline: float) -> float:
        """Return what to keep for the judge: nine in ten runs took less; half of all at most."""
        if len(self._seconds) < LEAST:
            return SHARE * deadline
        ordered = sorted(self._seconds)
        return min(deadline / 2, ordered[math.ceil(0.9 * len(ordered)) - 1])

    def is_too_late(self, left: float) -> bool:
        """Whether even the quickest run would not have been done in the time that is left."""
        return left <= 0 or (len(self._seconds) >= LEAST and left < min(self._seconds))
