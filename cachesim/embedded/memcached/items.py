"""The items of a Memcached node: storage, expiry and eviction."""

from collections import OrderedDict
from collections.abc import Callable

from cachesim.embedded.memcached.counters import Counters
from cachesim.embedded.memcached.slabs import HEADER, MAX_CHUNK, SlabClass, Slabs

_MAX_DELTA = 60 * 60 * 24 * 30
"""Seconds. Larger expiry times of clients are absolute, in seconds since the epoch."""
_HEAD_START = 62
"""Seconds that are added to the process's age, so that its clock is never 0."""
_CAS_SIZE = 8
_MAX_SPARED = 100
"""The largest number of active items that one eviction skips."""
_FLAGS_SIZE = 4


def item_size(key: int, flags: int, data: int) -> int:
    """Return the bytes that an item takes, as Memcached counts them.

    Args:
        key: length of the key.
        data: length of the value with its line end.
    """
    return HEADER + key + 1 + data + _CAS_SIZE + (_FLAGS_SIZE if flags else 0)


class Item:
    """A key with its value.

    Attributes:
        data: the value with its line end, as received.
        expires: expiry time by the clock of `Items`; 0 for never.
        time: last use by that clock.
        slab: the slab class of its first chunk, to which it counts.
        chunks: the classes of all chunks, if there are several.
        size: its size in bytes; see `item_size`.
        is_binary: whether its key was sent in base64.
        is_fetched: whether it was read or touched.
        is_active: whether it was read or touched more than once.
        is_stale, is_won: see the flags I of `ms` and R of `mg`.
    """

    __slots__ = (
        "cas", "chunks", "data", "expires", "flags", "is_active", "is_binary", "is_fetched",
        "is_stale", "is_won", "key", "size", "slab", "time",
    )  # fmt: skip

    def __init__(
        self, key: bytes, data: bytes, flags: int, expires: int, size: int, slab: "SlabClass[Item]"
    ) -> None:
        self.key = key
        self.data = data
        self.flags = flags
        self.expires = expires
        self.size = size
        self.slab = slab
        self.chunks: tuple[SlabClass[Item], ...] = ()
        self.cas = self.time = 0
        self.is_fetched = self.is_active = self.is_binary = self.is_stale = self.is_won = False


class Items:
    """All items of a node.

    Args:
        max_size: the bytes of the largest item.
        started: start of the process, in seconds since the epoch.
        discard: empties large dictionaries in time slices.

    Attributes:
        now: seconds by the node's clock. The caller of a method sets it first.
        by_key: all items by key, including expired ones that nobody has looked up since.
        bytes: the bytes of all items.
        flush_at: the time of a delayed flush, which removes items last used until then; 0: none.
        started: when `now` was 0, in seconds since the epoch.
        last_cas: the `cas` of the last change.
    """

    def __init__(
        self,
        slabs: Slabs[Item],
        counters: Counters,
        max_size: int,
        started: float,
        discard: Callable[..., None],
    ) -> None:
        self._discard = discard
        self.slabs = slabs
        self.counters = counters
        self.max_size = max_size
        self.now = _HEAD_START
        self.started = int(started) - _HEAD_START
        self.by_key: dict[bytes, Item] = {}
        self.bytes = 0
        self.flush_at = 0
        self.last_cas = 0

    # --- time -------------------------------------------------------------------------------

    def at_age(self, seconds: float) -> int:
        """Return the value of `now` when the process has run for some seconds."""
        return int(seconds) + _HEAD_START

    def moment(self, seconds: int) -> int:
        """Convert a client's expiry time to the clock of `now`. Negative: at once; 0: never."""
        if seconds == 0:
            return 0
        if 0 < seconds <= _MAX_DELTA:
            return self.now + seconds
        return max(1, seconds - self.started)

    def flush(self, delay: int) -> None:
        """Remove all items, at once or at a client's `delay`; see `moment`."""
        if delay <= 0:
            self.flush_at = 0
            self.last_cas += 1
            self._clear()
            return
        self.flush_at = self.moment(delay) - 1
        if self.flush_at <= self.now:
            self.last_cas += 1
            if self.flush_at:
                self._clear()

    def _clear(self) -> None:
        for slab in self.slabs.classes:
            slab.reclaimed += len(slab.items)
            slab.requested = slab.used = 0
        self.close()
        self.bytes = 0

    def close(self) -> None:
        """Drop all items."""
        self._discard(self.by_key, *(slab.items for slab in self.slabs.classes))
        self.by_key = {}
        for slab in self.slabs.classes:
            slab.items = OrderedDict()

    # --- looking up -------------------------------------------------------------------------

    def find(self, key: bytes) -> Item | None:
        """Return the item of a key, or None."""
        item = self.by_key.get(key)
        if item is None or not (item.expires or self.flush_at):
            return item
        return self.alive(item)

    def alive(self, item: Item) -> Item | None:
        """Return the item; if it has expired, remove it and return None."""
        if self._is_flushed(item):
            self.counters.get_flushed += 1
        elif item.expires and item.expires <= self.now:
            self.counters.get_expired += 1
        else:
            return item
        self.unlink(item)
        return None

    def _is_flushed(self, item: Item) -> bool:
        return item.time <= self.flush_at <= self.now

    def used(self, item: Item) -> None:
        """Note that an item was read. After two reads, an eviction spares the item once."""
        if item.is_fetched:
            item.is_active = True
            item.time = self.now
        else:
            item.is_fetched = True

    # --- changing ---------------------------------------------------------------------------

    def new_cas(self) -> int:
        """Return a new `cas`."""
        self.last_cas += 1
        return self.last_cas

    def fits(self, key: bytes, flags: int, data: int) -> bool:
        """Return whether an item is small enough. See `item_size`."""
        return item_size(len(key), flags, data) <= self.max_size

    def make(self, key: bytes, data: bytes, flags: int, expires: int) -> Item | None:
        """Return a new item that is not linked; None if it is too large or memory is full."""
        size = item_size(len(key), flags, len(data))
        if size > self.max_size:
            return None
        slab = self.slabs.of(size)
        item = Item(key, data, flags, expires, size, slab)
        if size > MAX_CHUNK:
            if not self._take_chunks(item):
                slab.out_of_memory += 1
                return None
        elif not self._take(slab):
            slab.out_of_memory += 1
            return None
        return item

    def _take(self, slab: SlabClass[Item]) -> bool:
        """Take a chunk of a class. Return False if none can be freed."""
        if slab.used < slab.pages * slab.per_page or self.slabs.get_page(slab) or self._evict(slab):
            slab.used += 1
            return True
        return False

    def _take_chunks(self, item: Item) -> bool:
        """Take several chunks for a large item. The first chunk holds no part of the value."""
        of = self.slabs.of
        wanted = [of(item_size(len(item.key), item.flags, HEADER))]
        rest = len(item.data)
        while rest > 0:
            size = min(rest + HEADER, MAX_CHUNK)
            wanted.append(of(size))
            rest -= size - HEADER
        taken: list[SlabClass[Item]] = []
        for slab in wanted:
            # If no other chunk is free, the end of a value may take one that is too large.
            for candidate in (slab, item.slab) if taken else (slab,):
                if self._take(candidate):
                    taken.append(candidate)
                    break
            else:
                for slab in taken:
                    slab.used -= 1
                return False
        item.chunks = tuple(taken)
        return True

    def _evict(self, slab: SlabClass[Item]) -> bool:
        """Remove least recently used items until a chunk is free. Return False if that fails."""
        items = slab.items
        used, spared = slab.used, 0
        while items:
            item = next(iter(items.values()))
            if (item.expires and item.expires < self.now) or self._is_flushed(item):
                slab.reclaimed += 1
                slab.expired_unfetched += not item.is_fetched
            elif item.is_active and spared < _MAX_SPARED:
                spared += 1
                item.is_active = False
                items.move_to_end(item.key)
                slab.moves_to_warm += 1
                continue
            else:
                slab.evicted += 1
                slab.evicted_time = self.now - item.time
                slab.evicted_nonzero += item.expires != 0
                slab.evicted_unfetched += not item.is_fetched
            self.unlink(item)
            if slab.used < used:
                return True
        return False

    def drop(self, item: Item) -> None:
        """Free the chunks of an item that is not linked."""
        if item.chunks:
            for further in item.chunks:
                further.used -= 1
        else:
            item.slab.used -= 1

    def link(self, item: Item) -> None:
        """Add an item that `make` has returned."""
        slab = item.slab
        item.time = self.now
        item.cas = self.new_cas()
        self.by_key[item.key] = item
        slab.items[item.key] = item
        slab.requested += item.size
        self.bytes += item.size
        self.counters.total_items += 1

    def unlink(self, item: Item) -> None:
        """Remove an item."""
        slab = item.slab
        del self.by_key[item.key], slab.items[item.key]
        slab.requested -= item.size
        self.bytes -= item.size
        self.drop(item)

    def replace(self, old: Item, new: Item) -> None:
        """Replace an item with another one."""
        if self.by_key.get(old.key) is old:  # unless evicted to make room for the new item
            self.unlink(old)
        self.link(new)
