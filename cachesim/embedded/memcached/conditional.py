"""Changes that depend on the present item: conditional stores, concatenations, counters."""

from typing import Final

from cachesim.embedded.memcached.items import Item, Items
from cachesim.protocols.memcached import unsigned

STORED: Final = 0
EXISTS: Final = 1
MISSING: Final = 2
NOT_STORED: Final = 3

NON_NUMERIC: Final = 4
NO_MEMORY: Final = 5


def store(items: Items, item: Item, mode: bytes, *, stale: bool = False) -> int:
    """Store a new item, or drop it if the condition is not met.

    Args:
        item: the new item. Its `cas` is the expected `cas` of the old item; 0: any.
        mode: the command's name.
        stale: store the item as stale if its `cas` is lower than the old item's.

    Returns:
        STORED, EXISTS, MISSING or NOT_STORED.
    """
    old = items.find(item.key)
    if old is None:
        if mode == b"set" or mode == b"add":
            items.link(item)
            return STORED
        items.drop(item)
        if mode == b"cas":
            items.counters.cas_misses += 1
            return MISSING
        return NOT_STORED
    if mode == b"set" or mode == b"replace":
        items.replace(old, item)
        return STORED
    expected = item.cas
    if mode == b"cas":
        if expected and expected == old.cas:
            old.slab.cas_hits += 1
        elif expected and stale and expected < old.cas:
            item.expires = old.expires
            item.is_stale = True
            item.is_won = old.is_won
            old.slab.cas_hits += 1
        else:
            old.slab.cas_badval += 1
            items.drop(item)
            return EXISTS
        items.replace(old, item)
        return STORED
    items.drop(item)
    if mode == b"add":
        old.time = items.now
        return NOT_STORED
    if expected and expected != old.cas:
        return EXISTS
    data = old.data[:-2] + item.data if mode == b"append" else item.data[:-2] + old.data
    new = items.make(item.key, data, old.flags, old.expires)
    if new is None:
        return NOT_STORED
    items.replace(old, new)
    item.cas = new.cas
    return STORED


def add(
    items: Items, key: bytes, delta: int, *, up: bool, cas: int = 0
) -> tuple[int, Item | None, int]:
    """Add `delta` to an unsigned number of 64 bits, or subtract it.

    Returns:
        STORED, EXISTS, MISSING, NON_NUMERIC or NO_MEMORY; the found item with its new `cas`; the
        new number.
    """
    item = items.find(key)
    if item is None:
        return MISSING, None, 0
    room = len(item.data)
    if room <= 2 or item.chunks:
        return NON_NUMERIC, None, 0
    if cas and cas != item.cas:
        return EXISTS, None, 0
    number = unsigned(item.data)
    if number is None:
        return NON_NUMERIC, None, 0
    if up:
        number = (number + delta) % 2**64
        item.slab.incr_hits += 1
    else:
        number = max(0, number - delta)
        item.slab.decr_hits += 1
    digits = b"%d" % number
    if len(digits) + 2 <= room:
        item.cas = items.new_cas()
        item.data = digits.ljust(room - 2) + b"\r\n"
        item.time = items.now
    else:
        new = items.make(key, digits + b"\r\n", item.flags, item.expires)
        if new is None:
            return NO_MEMORY, None, 0
        items.replace(item, new)
        item.cas = new.cas
    return STORED, item, number
