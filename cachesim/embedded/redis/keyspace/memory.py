"""An estimate of the memory that Redis would need for the data.

It follows Redis 7.0's structures in cluster mode on 64 bits, with jemalloc's size classes.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from cachesim.embedded.redis.keyspace.values import Hash, is_integer

if TYPE_CHECKING:
    from cachesim.embedded.redis.keyspace.keyspace import Keyspace

EMPTY = 1_600_000  # bytes that a server takes without data
_SAMPLES = 16
_EMBEDDED = 44  # bytes of the longest string that shares an allocation with its object


def allocated(size: int) -> int:
    """Return the bytes that jemalloc allocates for a size."""
    if size <= 8:
        return 8
    if size <= 128:
        return (size + 15) & ~15
    step = 1 << ((size - 1).bit_length() - 3)
    return (size + step - 1) & ~(step - 1)


_SMALL = tuple(allocated(size) for size in range(4097))


def _allocated(size: int) -> int:
    return _SMALL[size] if size <= 4096 else allocated(size)


def _sds(length: int) -> int:
    """Return the bytes of a string with an allocation of its own."""
    header = 1 if length < 32 else 3 if length < 256 else 5 if length < 65536 else 9
    return _allocated(length + header + 1)


def _table(entries: int) -> int:
    """Return the bytes of the array of a hash table."""
    return 8 << max(2, (entries - 1).bit_length())


def _listpack_entry(word: bytes) -> int:
    length = len(word)
    if length < 21 and is_integer(word):
        number = int(word)
        size = (
            1 if 0 <= number < 128
            else 2 if -4096 <= number < 4096
            else 3 if -(2**15) <= number < 2**15
            else 4 if -(2**23) <= number < 2**23
            else 5 if -(2**31) <= number < 2**31
            else 9
        )  # fmt: skip
        return size + 1
    head = 1 if length < 64 else 2 if length < 4096 else 5
    size = head + length
    return size + (1 if size < 128 else 2 if size < 16384 else 3 if size < 2097152 else 4)


def string_size(value: bytes) -> int:
    """Return the bytes of a string with its object."""
    length = len(value)
    if length <= 20 and is_integer(value):
        return 0 if length <= 4 and 0 <= int(value) < 10000 else 16
    if length <= _EMBEDDED:
        return _SMALL[20 + length]
    return 16 + _sds(length)


def _average(words: Iterable[bytes], size: Callable[[bytes], int]) -> float:
    sizes = [size(word) for word in islice(words, _SAMPLES)]
    return sum(sizes) / len(sizes) if sizes else 0.0


def value_size(value: Any, kind_of: Callable[[object], str]) -> int:
    """Return the bytes of a value with its object, estimated from some elements if it is large."""
    if type(value) is bytes:
        return string_size(value)
    count = len(value)
    if type(value) is Hash:
        if not value.is_table:
            overhead = (value.payload // max(1, 2 * count) + 64) // 64 - 1  # of long headers
            return 16 + _allocated(7 + value.payload + 2 * count * (2 + overhead))
        pair = value.payload / max(1, count)
        return int(16 + 64 + _table(count) + count * (32 + 2 * _sds(int(pair / 2))))
    kind = kind_of(value)
    if kind == "list":
        packed = count * _average(value, _listpack_entry)
        nodes = max(1, int(packed) // 8192 + 1)
        return int(16 + 48 + nodes * 32 + _allocated(int(packed) + 7))
    if kind == "set":
        if count <= 512 and all(map(is_integer, islice(value, _SAMPLES))):
            return 16 + _allocated(8 + count * 2)
        return int(16 + 64 + _table(count) + count * (32 + _average(value, _sds_of)))
    if kind == "zset":
        if count <= 128:
            return int(16 + _allocated(7 + int(count * (_average(value, _listpack_entry) + 4))))
        per = 32 + 16 + 40 + _average(value, _sds_of)
        return int(16 + 16 + 64 + _table(count) + count * per)
    return 16 + 200 + count * 100


def _sds_of(word: bytes) -> int:
    return _sds(len(word))


def entry_size(
    key: bytes, value: Any, expires: float | None, kind_of: Callable[[object], str]
) -> int:
    """Return the bytes of a key with its value and expiry, without its share of the tables."""
    size = 48 + _sds(len(key)) + value_size(value, kind_of)
    return size if expires is None else size + 32


class Memory:
    """The memory of a node, kept up to date key by key.

    Attributes:
        limit: `maxmemory` in bytes; 0 for none.
        is_full: whether more bytes than `limit` are used.
        peak: the largest number of bytes used so far.
        backlog: the bytes of the replication backlog, which count as used.
    """

    def __init__(self, store: "Keyspace", limit: int) -> None:
        self._store = store
        self._sizes: dict[bytes, int] = {}
        self._data = 0
        self.limit = limit
        self.is_full = False
        self.peak = self.backlog = 0

    @property
    def used(self) -> int:
        """All bytes in use."""
        tables = 8 << (len(self._sizes) - 1).bit_length() if self._sizes else 0
        return EMPTY + self._data + tables + self.backlog

    @property
    def dataset(self) -> int:
        """The bytes of all keys."""
        return self._data

    def size(self, key: bytes) -> int | None:
        """Return the bytes of a key, as MEMORY USAGE does; None if it is missing."""
        item = self._store.get(key)
        if item is None:
            return None
        return entry_size(key, item.value, item.expireat, self._store.type_name)

    def knows(self, key: bytes) -> bool:
        """Return whether a key was there when it was last measured."""
        return key in self._sizes

    def changed(self, keys: Sequence[bytes]) -> None:
        """Measure keys that have changed."""
        store, sizes = self._store, self._sizes
        get, expiry, kind_of = store.values.get, store.expiries.get, store.type_name
        for key in keys:
            value = get(key)
            if value is None:
                self._data -= sizes.pop(key, 0)
            else:
                size = entry_size(key, value, expiry(key), kind_of)
                self._data += size - sizes.get(key, 0)
                sizes[key] = size
        self.check()

    def check(self) -> bool:
        """Update `peak` and `is_full`. Return whether `is_full` has changed."""
        used = self.used
        if used > self.peak:
            self.peak = used
        before = self.is_full
        self.is_full = 0 < self.limit < used
        return before is not self.is_full

    def clear(self) -> dict[bytes, int]:
        """Forget all keys. Return the former sizes; freeing them may take long, see `discard`."""
        sizes, self._sizes = self._sizes, {}
        self._data = 0
        self.check()
        return sizes
