"""How a fault goes on once it is applied: it grows, comes and goes, and ends. Data, no I/O."""

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cachesim.errors import InvalidFault
from cachesim.faults.spec import FaultSpec

Stage = tuple[float, FaultSpec | None]
"""From when on what is applied: seconds from the begin, and the fault. None: nothing is."""

LONGEST = 7 * 24 * 3600
"""Seconds. A fault that is to last longer is a mistake."""
LEVELS = 20
"""The steps in which a fault grows: changing a toxic more often takes more than it shows."""


@dataclass(frozen=True)
class Course:
    """How a fault goes on once it is applied.

    Attributes:
        over: seconds in which it grows evenly, from nothing. None: it is there at once.
        flap: seconds for which it is there, and away, in turn. None: it stays.
        seconds: seconds until it is healed, up to 7 days. None: it is healed by hand.

    Raises:
        InvalidFault: a time is no number above 0, or is too long.
    """

    over: float | None = None
    flap: tuple[float, float] | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not (_is_time(self.seconds) and self.seconds <= LONGEST):
            raise InvalidFault(
                f"the time until it is healed must be seconds above 0 and up to {LONGEST} (7 days),"
                f" got {self.seconds!r}"
            )
        if self.over is not None and not _is_time(self.over):
            raise InvalidFault(f"over must be seconds above 0, got {self.over!r}")
        if self.flap is None:
            return
        given: Any = self.flap
        if not isinstance(given, tuple | list) or len(given) != 2 or not all(map(_is_time, given)):
            raise InvalidFault(f"flap must be two times in seconds above 0, got {given!r}")
        object.__setattr__(self, "flap", tuple(given))

    def check(self, fault: FaultSpec) -> None:
        """Check that a fault can have this course.

        Raises:
            InvalidFault: it has no number that could grow.
        """
        if self.over is not None and fault.strength is None:
            raise InvalidFault(f"{fault.name} can't grow: it has no strength. Leave out `over`")

    def stages(self, fault: FaultSpec) -> Iterator[Stage]:
        """Yield what is applied from when on. Without an end if it flaps."""
        level, is_on, last = 1.0, True, object()
        for at, changes in itertools.groupby(
            heapq.merge(self._levels(), self._switches()), lambda change: change[0]
        ):
            for _, what, value in changes:
                level, is_on = (value, is_on) if what == "level" else (level, bool(value))
            now = fault.grown(level) if is_on else None
            if now != last:
                yield at, now
            last = now

    def _levels(self) -> Iterator[tuple[float, str, float]]:
        if self.over is None:
            yield 0.0, "level", 1.0
            return
        for number in range(LEVELS + 1):
            yield self.over * number / LEVELS, "level", number / LEVELS

    def _switches(self) -> Iterator[tuple[float, str, float]]:
        if self.flap is None:
            return
        on, off = self.flap
        for number in itertools.count():
            begin = number * (on + off)
            yield begin, "on", 1.0
            yield begin + on, "on", 0.0


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9
