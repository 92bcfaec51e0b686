"""Where items would be in memory: pages of 1 MB, cut into chunks of the same size for each class.

Nothing is stored here. It is counted as Memcached 1.6 does it, so that evictions begin where they
would.
"""

from bisect import bisect_left
from collections import OrderedDict
from typing import Generic, TypeVar

PAGE = 1024 * 1024
"""Bytes."""
MAX_CHUNK = PAGE // 2
"""Bytes. Larger items are in several chunks."""
HEADER = 48
"""Bytes of an item besides its key and value, and of a further chunk."""
_SMALLEST = HEADER + 48
_FACTOR = 1.25
_SPARE_PAGES = 2

ItemT = TypeVar("ItemT")


class SlabClass(Generic[ItemT]):
    """Chunks of one size.

    Attributes:
        items: those that are in its chunks, from the least recently used on.
        requested: bytes of them.
        used: how many chunks are.
        counts: what `stats items` and `stats slabs` tell, and is reset by `stats reset`.
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
        """Begin to count anew."""
        self.get_hits = self.cmd_set = self.delete_hits = self.incr_hits = self.decr_hits = 0
        self.cas_hits = self.cas_badval = self.touch_hits = 0
        self.evicted = self.evicted_nonzero = self.evicted_unfetched = 0
        self.evicted_time = self.reclaimed = self.expired_unfetched = self.moves_to_warm = 0
        self.out_of_memory = 0

    @property
    def free(self) -> int:
        """How many chunks are not used."""
        return self.pages * self.per_page - self.used


class Slabs(Generic[ItemT]):
    """All classes, and the pages that they have.

    Args:
        limit: bytes for pages; a class gets its first page whatever the limit is.

    Attributes:
        allocated: bytes of all pages.
        moved: how many pages went from one class to another.
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
        """The class for something of a size in bytes; the last one for what is too large."""
        return self.classes[min(bisect_left(self._sizes, size), len(self.classes) - 1)]

    def get_page(self, slab: SlabClass[ItemT]) -> bool:
        """Give a class one more page; whether there was one."""
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
