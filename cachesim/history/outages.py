"""Outages of a class of operations, found one operation at a time.

An outage opens when the first bad operation is due, and ends when the first of `GOOD_IN_A_ROW` good
ones is due. Outages less than `APART` apart are one. It is *full* if no operation in it is good,
and *partial* if at least `PARTIAL_SHARE` of them are bad; with a smaller share it is none.
"""

from dataclasses import dataclass, replace

GOOD_IN_A_ROW = 3
APART = 0.25
"""Seconds, real."""
PARTIAL_SHARE = 0.05


@dataclass(frozen=True)
class Outage:
    """One outage. Times are monotonic seconds.

    Attributes:
        begin: when its first bad operation was due.
        last_bad: when its last bad operation was due.
        end: when the first good operation after it was due, or the last time looked at if there was
            none.
        before: when the last good operation before it was due, or the first time looked at.
        bad: how many operations in it were bad.
        first, last: the numbers of its first and last bad operation in their class.
        is_open: whether it went on until the last time looked at.
    """

    begin: float
    last_bad: float
    end: float
    before: float
    bad: int
    first: int
    last: int
    is_open: bool = False

    @property
    def low(self) -> float:
        """The least that it lasted, in seconds."""
        return self.last_bad - self.begin

    @property
    def high(self) -> float:
        """The most that it lasted, in seconds."""
        return self.end - self.before

    @property
    def due(self) -> int:
        """How many operations were due from the first bad one to the last."""
        return self.last - self.first + 1

    @property
    def is_full(self) -> bool:
        """Whether no operation in it was good."""
        return self.bad == self.due

    @property
    def counts(self) -> bool:
        """Whether enough operations in it were bad. If not, they belong to the error budget."""
        return self.bad >= PARTIAL_SHARE * self.due


class Track:
    """Follows the operations of one class, by the time when they were due.

    Args:
        begin: the first time looked at.

    Attributes:
        due: how many operations were due.
        bad: how many of them were bad.
    """

    __slots__ = ("_ended", "_gap", "_good_at", "_last", "_open", "_streak", "bad", "due")

    def __init__(self, begin: float) -> None:
        self.due = self.bad = 0
        self._gap = 0.0
        self._last = begin
        self._good_at = begin  # when the last good operation was due, while none is bad
        self._streak = 0  # of good operations, while an outage is open
        self._open: Outage | None = None
        self._ended: list[Outage] = []

    def add(self, due: float, good: bool) -> None:
        """Take note of the next operation."""
        self.due += 1
        gap = due - self._last
        if gap > self._gap:
            self._gap = gap
        self._last = due
        if good and self._open is None:
            self._good_at = due
        elif good:
            self._count_good(due)
        else:
            self._count_bad(due)

    def _count_bad(self, due: float) -> None:
        self.bad += 1
        self._streak = 0
        outage = self._open
        if outage is None:
            if self._ended and due - self._ended[-1].end < APART:
                outage = self._ended.pop()
            else:
                outage = Outage(due, due, due, self._good_at, 0, self.due, self.due)
        self._open = replace(outage, last_bad=due, bad=outage.bad + 1, last=self.due)

    def _count_good(self, due: float) -> None:
        assert self._open is not None  # noqa: S101 - for the type checker
        self._streak += 1
        if self._streak == 1:
            self._open = replace(self._open, end=due)
        if self._streak == GOOD_IN_A_ROW:
            self._ended.append(self._open)
            self._open, self._good_at = None, due

    def outages(self, end: float) -> list[Outage]:
        """Return the outages, in their order.

        Args:
            end: the last time looked at.
        """
        if self._open is None:
            return list(self._ended)
        return [*self._ended, replace(self._open, end=end, is_open=True)]

    def gap(self, end: float) -> float:
        """Return the longest time without an operation, in seconds.

        Args:
            end: the last time looked at.
        """
        return max(self._gap, end - self._last)
