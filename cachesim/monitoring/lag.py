"""How many seconds a replica is behind, from the offsets of both over time. Pure."""

from bisect import bisect_right
from collections import deque

_MEMORY = 600.0
"""Seconds of the primary's offsets that are kept."""


class ReplicationLag:
    """The lag of a shard's replicas.

    A replica at an offset lacks what the primary had beyond it: its lag is the time since the
    primary was first seen there. It counts from one look to the next, so it is exact to the time
    between two looks. Redis itself tells the age of a replica's last acknowledgement only, which a
    slow link does not change.

    A new process of a replica tells 0 until it is in sync. What the one before had still counts, or
    its lag would be as long as the primary is known.
    """

    def __init__(self) -> None:
        self._primary = ""
        self._seen: deque[tuple[float, int]] = deque()
        self._had: dict[str, int] = {}  # the highest offset of each replica

    def note(self, primary: str, at: float, offset: int) -> None:
        """Note the offset of the present primary.

        Args:
            primary: its name. Another one begins another history.
            at: in monotonic seconds.
            offset: in bytes.
        """
        if primary != self._primary or (self._seen and offset < self._seen[-1][1]):
            self._seen.clear()
            self._had.clear()
            self._primary = primary
        # Of equal offsets the first counts: since then the primary has had it.
        if not self._seen or offset > self._seen[-1][1]:
            self._seen.append((at, offset))
        while len(self._seen) > 2 and self._seen[1][0] < at - _MEMORY:
            self._seen.popleft()

    def of(self, replica: str, at: float, offset: int) -> float | None:
        """Return the lag of a replica in seconds; None if no primary was seen yet."""
        if not self._seen:
            return None
        had = max(offset, self._had.get(replica, 0))
        # What a former primary has beyond the present one is not of that.
        self._had[replica] = min(had, self._seen[-1][1])
        position = bisect_right(self._seen, had, key=lambda it: it[1])
        if position == len(self._seen):
            return 0.0
        return max(0.0, at - self._seen[position][0])
