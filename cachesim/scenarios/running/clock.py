"""Production time during a run."""

from cachesim.clock import Clock, SystemClock


class ProductionClock:
    """Production seconds since the end of the baseline. It goes faster than time by the speed.

    Args:
        begin: the end of the baseline, in monotonic seconds.
    """

    def __init__(self, begin: float, speed: float, clock: Clock | None = None) -> None:
        self._begin = begin
        self._speed = speed
        self._clock = clock or SystemClock()
        self.skipped = 0.0

    @property
    def now(self) -> float:
        """Production seconds."""
        return self.at(self._clock.monotonic())

    def at(self, monotonic: float) -> float:
        """Return the production time of a moment, with all that was skipped until now."""
        return (monotonic - self._begin) * self._speed + self.skipped

    def until(self, production: float) -> float:
        """Return how long it is until a production time, in real seconds; negative if it passed."""
        return (production - self.now) / self._speed

    def skip(self, seconds: float) -> None:
        """Move on by some production seconds at once."""
        self.skipped += seconds
