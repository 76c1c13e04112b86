"""How long those who hold a place keep it: what is told to who comes when all are taken."""

MAX_SECONDS = 600.0


class Pace:
    """The mean of about the last ten stays; a second before the first."""

    def __init__(self) -> None:
        self._mean = 1.0

    def note(self, seconds: float) -> None:
        """Note a stay that has ended."""
        self._mean += 0.1 * (seconds - self._mean)

    def wait(self, places: int, position: int = 1) -> float:
        """Return after how many seconds one of so many places should be free: 1 to 600.

        Args:
            places: All of them taken.
            position: In the line of those who wait, 1 the next one.
        """
        return min(MAX_SECONDS, max(1.0, self._mean * position / places))
