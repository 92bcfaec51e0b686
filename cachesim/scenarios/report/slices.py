"""One pass over all operations, in slices of time: what the charts of traffic show.

A run is cut into some hundred slices. Figures of a slice are those of the operations that were due
in it, or the highest reading in it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

from cachesim.history.percentiles import percentile
from cachesim.history.reader import History
from cachesim.scenarios.checkers.survey import OperationClass, begin_of, survey

HELD = 1.5
"""Seconds for which a reading holds: servers that are busy are read less often."""
SLICES = 400
"""How many slices there are at most."""
_LEAST_OPERATIONS = 5
"""Operations that a slice has on average, at least."""
_NICE = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
"""The lengths of a slice, in seconds."""

_OPERATIONS = """
SELECT service, kind = 'read', pod, due, end, outcome = 'ok', read IS NOT NULL FROM operations
WHERE due >= ? AND due <= ? ORDER BY due
"""

Values = list[float | None]
"""One value a slice. None: nothing is known of it."""


@dataclass
class Slice:
    """The operations of one class that were due in one slice.

    Attributes:
        due, good: how many.
        answered: how many were answered, in time or not; `hits`: how many of these read a version.
        worst_due, worst_bad: how many of the worst pod were due, and bad.
        latencies: of those that were answered, in seconds from due to answer.
    """

    due: int = 0
    good: int = 0
    answered: int = 0
    hits: int = 0
    worst_due: int = 0
    worst_bad: int = 0
    latencies: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Latency:
    """The latency of a class's answered operations, from due to answer, in seconds."""

    p50: float
    p99: float
    slowest: float


@dataclass(frozen=True)
class Sliced:
    """One class.

    Attributes:
        slices: by number; those without an operation are left out.
        latency: of all its operations; None: none was answered.
    """

    slices: Mapping[int, Slice]
    latency: Latency | None


class Slicing:
    """Cuts a run into slices.

    Attributes:
        begin: of the first slice, in monotonic seconds.
        width: of a slice, in seconds.
        count: of slices.
    """

    def __init__(self, history: History) -> None:
        self.begin = begin_of(history)
        length = max(history.end_at - self.begin, 0.1)
        self._end = self.begin + length
        due = sum(it.all.due for it in history.compute(survey).values())
        least = max(length / SLICES, _LEAST_OPERATIONS * length / max(due, 1))
        self.width = next((it for it in _NICE if it >= least), math.ceil(least / 600) * 600)
        self.count = max(1, math.ceil(length / self.width - 1e-9))

    def number(self, at: float) -> int:
        """Return the number of the slice of a time."""
        return min(int((at - self.begin) / self.width), self.count - 1)

    @property
    def middles(self) -> list[float]:
        """The middle of each slice."""
        return [self.begin + (number + 0.5) * self.width for number in range(self.count)]

    def length(self, number: int) -> float:
        """Return the length of a slice, in seconds: the last one may be shorter."""
        return max(min(self.width, self._end - self.begin - number * self.width), 1e-9)

    def highest(self, points: Iterable[tuple[float, float]]) -> Values:
        """Return the highest value of each slice, of (time, value).

        A value holds until the next one, if that comes within `HELD`.
        """
        found: Values = [None] * self.count
        last: tuple[float, float] | None = None
        for at, value in points:
            if at < self.begin:
                continue
            number = self.number(at)
            before = found[number]
            found[number] = value if before is None else max(before, value)
            if last is not None and at - last[0] <= HELD:
                first = self.number(last[0]) + 1
                found[first:number] = [last[1]] * max(number - first, 0)
            last = at, value
        return found


def worst_pod(history: History, name: OperationClass) -> str | None:
    """Return the pod of a class with the largest share of bad operations."""
    pods = history.compute(survey)[name].pods
    return max(pods, key=lambda pod: pods[pod].bad / max(pods[pod].due, 1), default=None)


def sliced(history: History, slicing: Slicing) -> dict[OperationClass, Sliced]:
    """Return the slices of all classes, those that nothing is expected of included."""
    worst = {
        (name.service, int(name.kind == "read")): worst_pod(history, name)
        for name in history.compute(survey)
    }
    found: dict[tuple[str, int], dict[int, Slice]] = {}
    deadline, begin, width = history.deadline, slicing.begin, slicing.width
    last = slicing.count - 1
    # A history may have a million rows: what is done for each is kept short.
    for service, is_read, pod, due, end, ok, hit in history.rows(
        _OPERATIONS, begin, history.end_at
    ):
        key = (service, is_read)
        slices = found.get(key)
        if slices is None:
            slices = found[key] = {}
        number = min(int((due - begin) / width), last)
        it = slices.get(number)
        if it is None:
            it = slices[number] = Slice()
        it.due += 1
        is_worst = pod == worst.get(key)
        it.worst_due += is_worst
        if ok and end is not None:
            took = end - due
            it.latencies.append(took)
            it.answered += 1
            it.hits += hit
            if took <= deadline:
                it.good += 1
                continue
        it.worst_bad += is_worst
    return {
        OperationClass(service, "read" if is_read else "write"): Sliced(slices, _latency(slices))
        for (service, is_read), slices in found.items()
    }


def _latency(slices: Mapping[int, Slice]) -> Latency | None:
    every = sorted(chain.from_iterable(it.latencies for it in slices.values()))
    return Latency(percentile(every, 0.5), percentile(every, 0.99), every[-1]) if every else None
