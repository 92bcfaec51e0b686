"""Clocks that are passed in, so that tests need not sleep."""

import time
from types import BuiltinFunctionType
from typing import Protocol


class Clock(Protocol):
    """A source of monotonic time."""

    def monotonic(self) -> float:
        """Return the seconds since an arbitrary moment. They never go back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()


class ManualClock:
    """A clock that moves only when it is told to, for tests."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        """Return the time that it was moved to, in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Raises:
            ValueError: the seconds are negative.
        """
        if seconds < 0:
            raise ValueError(f"a monotonic clock does not go back: {seconds}")
        self.now += seconds


def stands_still() -> bool:
    """Return whether `time.monotonic` does, as a library that freezes time for tests lets it."""
    if isinstance(time.monotonic, BuiltinFunctionType):
        return False
    began = time.monotonic()
    time.sleep(0.001)
    return time.monotonic() == began


class Deadline:
    """A moment on a clock.

    Args:
        seconds: how far in the future it is.
        clock: the clock; the system's if None.
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
