"""When fields of hashes expire (HEXPIRE, since Redis 7.4)."""

import heapq
from collections.abc import Iterator
from typing import Any

from cachesim.embedded.redis.keyspace.values import Hash


class FieldExpiry:
    """The hashes with fields that expire, soonest first.

    Attributes:
        soonest: when the first field may expire, in seconds since the epoch; infinite: none.
    """

    def __init__(self) -> None:
        self.soonest: float = float("inf")
        self._heap: list[tuple[int, bytes]] = []

    def note(self, key: bytes, value: Any) -> None:
        """Note that a key may have fields that expire."""
        if type(value) is Hash and value.deadlines:
            heapq.heappush(self._heap, (min(value.deadlines.values()), key))
            self.soonest = self._heap[0][0] / 1000

    def clear(self) -> None:
        """Forget all keys."""
        self._heap.clear()
        self.soonest = float("inf")

    def take(self, values: dict[bytes, Any], now: int) -> Iterator[tuple[bytes, list[bytes]]]:
        """Yield the keys that have fields to delete, with these fields.

        Args:
            values: the present values by key.
            now: milliseconds since the epoch.
        """
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, key = heapq.heappop(heap)
            value = values.get(key)
            if type(value) is Hash and value.deadlines:
                due = [field for field, at in value.deadlines.items() if at <= now]
                if due:
                    yield key, due
                self.note(key, value)
        self.soonest = heap[0][0] / 1000 if heap else float("inf")
