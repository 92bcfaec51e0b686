"""Memcached's slab allocator: pages of 1 MB, cut into chunks of one size for each slab class.

This module stores no data. It counts pages and chunks as Memcached 1.6 does, so that
evictions begin at the same item.
"""

from bisect import bisect_left
from collections import OrderedDict
from typing import Generic, TypeVar

PAGE = 1024 * 1024
"""The bytes of a page."""
MAX_CHUNK = PAGE // 2
"""The most bytes of a chunk. Larger items take several chunks."""
HEADER = 48
"""The bytes of the header of an item, and of each further chunk of an item."""
_SMALLEST = HEADER + 48
_FACTOR = 1.25
_SPARE_PAGES = 2  # a class with more free pages gives up one

ItemT = TypeVar("ItemT")


class SlabClass(Generic[ItemT]):
    """A slab class: all chunks of one size.

    All other attributes are counters of `stats items` and `stats slabs`, which `reset` sets to 0.

    Attributes:
        items: the items in the class's chunks, the least recently used first.
        requested: the bytes of these items.
        used: the number of chunks in use.
    """

    __slots__ = (
        "cas_badval", "cas_hits", "cmd_set", "decr_hits", "delete_hits", "evicted",
        "evicted_nonzero", "evicted_time", "evicted_unfetched",
        "expired_unfetched", "get_hits", "id", "incr_hits", "items", "moves_to_warm",
        "out_of_memory", "pages", "per_page", "reclaimed", "requested", "size",
        "touch_hits", "used",
    )  # fmt: skip

    def __init__(self, number: int, size: int) -> None:
        self.id = number
        self.size = size
        self.per_page = PAGE // size
        self.pages = self.used = self.requested = 0
        self.items: OrderedDict[bytes, ItemT] = OrderedDict()
        self.reset()

    def reset(self) -> None:
        """Set the counters to 0."""
        self.get_hits = self.cmd_set = self.delete_hits = self.incr_hits = self.decr_hits = 0
        self.cas_hits = self.cas_badval = self.touch_hits = 0
        self.evicted = self.evicted_nonzero = self.evicted_unfetched = 0
        self.evicted_time = self.reclaimed = self.expired_unfetched = self.moves_to_warm = 0
        self.out_of_memory = 0

    @property
    def free(self) -> int:
        """The number of free chunks."""
        return self.pages * self.per_page - self.used


class Slabs(Generic[ItemT]):
    """All slab classes and their pages.

    Args:
        limit: the most bytes for pages. A class gets its first page even beyond the limit.

    Attributes:
        allocated: the bytes of all pages.
        moved: the number of pages that were moved from one class to another.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.allocated = self.moved = 0
        sizes = []
        size = _SMALLEST
        while size < MAX_CHUNK / _FACTOR:
            size += -size % 8
            sizes.append(size)
            size = int(size * _FACTOR)
        self._sizes = [*sizes, MAX_CHUNK]
        self.classes = [
            SlabClass[ItemT](number, size) for number, size in enumerate(self._sizes, 1)
        ]

    def of(self, size: int) -> SlabClass[ItemT]:
        """Return the class for a size in bytes; for larger sizes the last class."""
        return self.classes[min(bisect_left(self._sizes, size), len(self.classes) - 1)]

    def get_page(self, slab: SlabClass[ItemT]) -> bool:
        """Add a page to a class. Return False if no page is free."""
        if self.allocated + PAGE > self.limit and slab.pages:
            for other in self.classes:
                if other is not slab and other.free > _SPARE_PAGES * other.per_page:
                    other.pages -= 1
                    self.moved += 1
                    break
            else:
                return False
        else:
            self.allocated += PAGE
        slab.pages += 1
        return True
