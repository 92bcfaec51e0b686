"""Time as a value that is handed in, so that tests need not sleep."""

import time
from typing import Protocol


class Clock(Protocol):
    """A source of monotonic time."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment, never going back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """Seconds of `time.monotonic`."""
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        """The time it was moved to, in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock does not go back: {seconds}")
        self.now += seconds


class Deadline:
    """A moment on a clock.

    Args:
        seconds: how far away it is.
        clock: the clock that counts.
    """

    def __init__(self, seconds: float, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._at = self._clock.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._at - self._clock.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the moment has passed."""
        return self.remaining == 0.0
