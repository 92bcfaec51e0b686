"""The figures of an observation: how long a service was not served, and how quickly it was."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from cachesim.history.outages import Outage, Track
from cachesim.history.outcomes import error_of, is_good
from cachesim.history.percentiles import percentile
from cachesim.history.rows import Operation

SAMPLES = 4
"""A length is told only if it is so many times as long as the gap between two operations."""


INFINITE = float("inf")


class Seconds:
    """A length of time as it was measured: at least `low`, at most `high`, in seconds.

    A comparison holds only if it holds for the whole of it: `length < 3` means that `high` is
    below 3, `length > 3` that `low` is above 3. It is true if it may be more than nothing.

    Attributes:
        low: the least that it may be.
        high: the most that it may be. Infinite: it had not ended.
    """

    def __init__(
        self,
        low: float,
        high: float,
        name: str = "",
        gap: float = 0.0,
        timeline: Callable[[], str] = str,
    ) -> None:
        self.low = low
        self.high = high
        self._name = name
        self._gap = gap
        self._timeline = timeline

    def explain(self) -> str:
        """Return what it is, in a sentence."""
        return f"{self._name} was {self}"

    def timeline(self) -> str:
        """Return what happened in the topology beside what became of operations, as a table."""
        return self._timeline()

    def __lt__(self, other: "Seconds | float") -> bool:
        return self.high < self._limit(other).low

    def __le__(self, other: "Seconds | float") -> bool:
        return self.high <= self._limit(other).low

    def __gt__(self, other: "Seconds | float") -> bool:
        return self.low > self._limit(other).high

    def __ge__(self, other: "Seconds | float") -> bool:
        return self.low >= self._limit(other).high

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Seconds | int | float):
            return NotImplemented
        limit = self._limit(other)
        return self.low == self.high == limit.low == limit.high

    __hash__ = None  # type: ignore[assignment]  # equal to numbers, and no number

    def __bool__(self) -> bool:
        return self.high > 0

    def _limit(self, other: "Seconds | float") -> "Seconds":
        if isinstance(other, Seconds):
            return other
        if 0 < other < SAMPLES * self._gap:
            raise ValueError(
                f"operations every {self._gap:g} s can't tell {other:g} s: observe with "
                f"every={other / SAMPLES:g} or less"
            )
        return Seconds(other, other)

    def __str__(self) -> str:
        if self.high == float("inf"):
            return f"more than {self.low:.2f} s"
        low, high = f"{self.low:.2f}", f"{self.high:.2f}"
        return f"{low} s" if low == high else f"{low} to {high} s"

    def __repr__(self) -> str:
        return f"<{self}>"


class Unavailability(Seconds):
    """How long operations were not served: the longest outage, and `total`, all of them."""

    def __init__(self, longest: Seconds, total: Seconds) -> None:
        super().__init__(longest.low, longest.high, longest._name, longest._gap, longest._timeline)
        self.total = total


class Latency(NamedTuple):
    """How long answers took, in seconds from when the operation was due. Infinite: none came.

    Attributes:
        p50, p99: the median, and the 99th percentile.
        max: the longest.
    """

    p50: float
    p99: float
    max: float


@dataclass(frozen=True)
class Figures:
    """What the operations of one kind tell.

    Attributes:
        title: a name for them.
        operations: those that are decided, by due time.
        begin: when the first one may have been due.
        until: all is known of those that were due before.
        every: seconds from one to the next.
        deadline: seconds within which an answer is good.
        is_open: whether others were due then or later, of which nothing will be known any more.
    """

    title: str
    operations: Sequence[Operation]
    begin: float
    until: float
    every: float
    deadline: float
    is_open: bool = False

    @property
    def outages(self) -> list[Outage]:
        """The outages, in their order. The end of one that had not ended is infinite."""
        track = Track(self.begin)
        for it in self.operations:
            track.add(it.due, self.is_good(it))
        found = track.outages(self.until)
        return [replace(it, end=float("inf")) if it.is_open else it for it in found]

    @property
    def is_in_outage(self) -> bool:
        """Whether an outage had not ended."""
        return any(it.is_open for it in self.outages)

    def reaches(self, at: float) -> bool:
        """Return whether it tells of an operation that was due at a time, or later."""
        return bool(self.operations) and self.operations[-1].due >= at

    def is_good(self, operation: Operation) -> bool:
        """Return whether an operation was answered in time."""
        return is_good(operation.outcome, operation.due, operation.end, self.deadline)

    @property
    def errors(self) -> Counter[str]:
        """How many operations were bad, by error; `late` and `shed` are errors of their own."""
        return errors_of(it for it in self.operations if not self.is_good(it))

    @property
    def latencies(self) -> list[float]:
        """How long each answer took, in seconds from when the operation was due."""
        return [
            it.end - it.due for it in self.operations if it.outcome == "ok" and it.end is not None
        ]

    def longest(self) -> tuple[float, float]:
        """Return the least and the most that the longest outage may be, in seconds."""
        found = self.outages
        return self._known(max((o.low for o in found), default=0.0), (o.high for o in found), max)

    def total(self) -> tuple[float, float]:
        """Return the least and the most that all outages together may be, in seconds."""
        found = self.outages
        return self._known(sum(o.low for o in found), (o.high for o in found), _sum)

    def recovered_after(self, at: float, until: float) -> tuple[float, float]:
        """Return how long after a time the last outage ended.

        Args:
            until: when another fault began; the outages that begin then do not count.
        """
        # What was under way when it began may be its doing.
        found = [
            it
            for it in self.outages
            if it.end > at and (it.begin < at or self._failed_at(it) < until - self.every)
        ]
        if found:
            last = found[-1]
            return max(0.0, last.last_bad - at), INFINITE if self.is_open else last.end - at
        good = (it.due - at for it in self.operations if it.due >= at and self.is_good(it))
        return 0.0, INFINITE if self.is_open else next(good, INFINITE)

    def _failed_at(self, outage: Outage) -> float:
        """Return when the first operation of an outage was known to be bad."""
        first = self.operations[outage.first - 1]
        ended = first.start if first.outcome == "shed" else first.end
        late = first.due + self.deadline
        return late if ended is None else min(ended, late)

    def _known(
        self, low: float, highs: Iterable[float], combined: "Callable[[list[float]], float]"
    ) -> tuple[float, float]:
        every = list(highs)
        if not self.operations or self.is_open:
            return low, INFINITE
        return low, combined(every) if every else 0.0


def _sum(values: list[float]) -> float:
    return sum(values)


def worst(spans: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the least and the most that the longest of several lengths may be; of none, any."""
    lows, highs = zip(*spans or [(0.0, float("inf"))], strict=True)
    return max(lows), max(highs)


def errors_of(operations: Iterable[Operation]) -> Counter[str]:
    """Return how many operations there are, by error."""
    return Counter(
        "unanswered"
        if it.end is None and it.outcome == "info"
        # That it may have been applied, which is all that `info` says, is so with every error here.
        else error_of(it.outcome, it.error).removeprefix("info: ")
        for it in operations
    )


def latency_of(latencies: list[float]) -> Latency:
    """Return the percentiles."""
    every = sorted(latencies)
    if not every:
        return Latency(float("inf"), float("inf"), float("inf"))
    return Latency(percentile(every, 0.5), percentile(every, 0.99), every[-1])
