"""Outages of a class of operations, found one operation at a time.

An outage opens when the first bad operation is due, and ends when the first of `GOOD_IN_A_ROW` good
ones is due. Those less than `APART` apart are one, as long as the bad ones are enough: wherever
it is cut between two of them, at least `PARTIAL_SHARE` of what is before the cut is bad, and of
what is after it. So rare errors around an outage make it no longer. (These are what Ruzzo and Tompa
call maximal scoring subsequences, found in one pass.)

It is *full* if no operation in it is good, else *partial*.
"""

from dataclasses import dataclass, replace

GOOD_IN_A_ROW = 3
APART = 0.25
"""Seconds, real."""
_SHARES = 20  # so that sums of shares are exact
PARTIAL_SHARE = 1 / _SHARES


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
        first, last: the numbers of its first and last bad operation in their class, from 1.
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


@dataclass(frozen=True)
class _Part:
    """An outage that may be joined with later ones.

    Attributes:
        outage: it.
        bad: how many operations of its class were bad before it and in it.
        left: the number of the last part before it that may be its beginning, if there is one.
    """

    outage: Outage
    bad: int
    left: int = -1

    @property
    def excess_before(self) -> int:
        """How many more than `PARTIAL_SHARE` were bad until it began, times `_SHARES`."""
        return (self.bad - self.outage.bad) * _SHARES - (self.outage.first - 1)

    @property
    def excess(self) -> int:
        """How many more than `PARTIAL_SHARE` were bad until it ended, times `_SHARES`."""
        return self.bad * _SHARES - self.outage.last


class Track:
    """Follows the operations of one class, by the time when they were due.

    Args:
        begin: the first time looked at.

    Attributes:
        due: how many operations were due.
        bad: how many of them were bad.
    """

    __slots__ = ("_chain", "_gap", "_good_at", "_last", "_open", "_parts", "_streak", "bad", "due")

    def __init__(self, begin: float) -> None:
        self.due = self.bad = 0
        self._gap = 0.0
        self._last = begin
        self._good_at = begin  # when the last good operation was due, while none is bad
        self._streak = 0  # of good operations, while an outage is open
        self._open: Outage | None = None
        self._parts: list[_Part] = []  # those that have ended
        self._chain = 0  # the number of the first part that is near enough to the last one

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
            if self._parts and due - self._parts[-1].outage.end >= APART:
                self._chain = len(self._parts)
            outage = Outage(due, due, due, self._good_at, 0, self.due, self.due)
        self._open = replace(outage, last_bad=due, bad=outage.bad + 1, last=self.due)

    def _count_good(self, due: float) -> None:
        assert self._open is not None  # noqa: S101 - for the type checker
        self._streak += 1
        if self._streak == 1:
            self._open = replace(self._open, end=due)
        if self._streak == GOOD_IN_A_ROW:
            kept, part = self._join(self._open)
            self._parts[kept:] = [part]
            self._open, self._good_at = None, due

    def _join(self, outage: Outage) -> tuple[int, _Part]:
        """Return how many parts stay before the newest outage, and the part that it becomes."""
        parts, kept = self._parts, len(self._parts)
        part = _Part(outage, self.bad)
        left = kept - 1
        while left >= self._chain and parts[left].excess_before > part.excess_before:
            left = parts[left].left
        while left >= self._chain and parts[left].excess <= part.excess:
            first = parts[left]
            begun = replace(first.outage, last_bad=outage.last_bad, end=outage.end)
            bad = first.outage.bad + part.bad - first.bad
            joined = replace(begun, bad=bad, last=outage.last, is_open=outage.is_open)
            part, kept, left = _Part(joined, part.bad), left, first.left
        return kept, replace(part, left=left)

    def outages(self, end: float) -> list[Outage]:
        """Return the outages, in their order.

        Args:
            end: the last time looked at.
        """
        if self._open is None:
            return [it.outage for it in self._parts]
        kept, part = self._join(replace(self._open, end=end, is_open=True))
        return [*(it.outage for it in self._parts[:kept]), part.outage]

    def gap(self, end: float) -> float:
        """Return the longest time without an operation, in seconds.

        Args:
            end: the last time looked at.
        """
        return max(self._gap, end - self._last)
