"""The counters behind the `stats` commands of a server."""


class Counters:
    """The counters of `stats` that `stats reset` sets to 0, except those of slab classes."""

    __slots__ = (
        "bytes_read", "bytes_written", "cas_misses", "cmd_flush", "cmd_meta", "cmd_touch",
        "connections", "decr_misses", "delete_misses", "get_expired", "get_flushed", "get_misses",
        "incr_misses", "rejected_connections", "store_no_memory", "store_too_large", "total_items",
        "touch_misses",
    )  # fmt: skip

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set all counters to 0."""
        self.connections = self.rejected_connections = self.total_items = 0
        self.bytes_read = self.bytes_written = 0
        self.cmd_flush = self.cmd_touch = self.cmd_meta = 0
        self.get_misses = self.get_expired = self.get_flushed = self.touch_misses = 0
        self.delete_misses = self.incr_misses = self.decr_misses = self.cas_misses = 0
        self.store_too_large = self.store_no_memory = 0


class Details:
    """The counters of `stats detail`, by the keys' prefix before the colon.

    Attributes:
        is_on: whether `stats detail` is on, so that the caller must call `count`.
    """

    _MAX_PREFIXES = 10_000

    def __init__(self) -> None:
        self.is_on = False
        self._counts: dict[bytes, list[int]] = {}

    def clear(self) -> None:
        """Remove all counters."""
        self._counts.clear()

    def count(self, key: bytes, *kinds: int) -> None:
        """Count uses of a key. Kinds are 0: read, 1: found, 2: stored, 3: deleted."""
        prefix, colon, _ = key.partition(b":")
        if not colon:
            return
        counts = self._counts.get(prefix)
        if counts is None:
            if len(self._counts) >= self._MAX_PREFIXES:
                return
            counts = self._counts[prefix] = [0, 0, 0, 0]
        for kind in kinds:
            counts[kind] += 1

    def dump(self) -> bytes:
        """Return the counters as a reply."""
        lines = [
            b"PREFIX %b get %d hit %d set %d del %d\r\n" % (prefix, get, hit, set_, deleted)
            for prefix, (get, hit, set_, deleted) in self._counts.items()
        ]
        return b"".join([*lines, b"END\r\n"])
