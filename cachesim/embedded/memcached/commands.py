"""The commands of the text protocol."""

from collections.abc import Callable

from cachesim.embedded.memcached import conditional, stats_report
from cachesim.embedded.memcached.maintenance import Maintenance
from cachesim.embedded.memcached.meta_commands import MetaCommands
from cachesim.embedded.memcached.replies import (
    BAD_CHUNK,
    BAD_EXPIRY,
    BAD_FORMAT,
    END,
    ERROR,
    NO_MEMORY,
    NON_NUMERIC,
    NOT_FOUND,
    OK,
    TOO_LARGE,
)
from cachesim.embedded.memcached.server import Execute, Server
from cachesim.embedded.memcached.session import WITH_KEYS
from cachesim.protocols.memcached import (
    MAX_KEY,
    signed32,
    unsigned,
    unsigned32,
    value_size,
)
from cachesim.servers.discovery import REQUEST

_STORED = (b"STORED\r\n", b"EXISTS\r\n", NOT_FOUND, b"NOT_STORED\r\n")
_DELETE_USAGE = b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"
_FIRST_OF_KNOWN = frozenset(b"gsacidt")
"""The first letters of commands. Other lines may come from a web browser."""
_MAX_WORDS = 23
_LAST_SLAB_CLASS = 63


COMMANDS = WITH_KEYS | {
    "mn", "stats", "flush_all", "version", "verbosity", "quit", "shutdown", "cache_memlimit",
    "refresh_certs", "config",
}  # fmt: skip
"""The names of commands, but for those of maintenance."""


class Commands:
    """The commands of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._items = server.items
        self._counters = server.counters
        self._details = server.details
        meta = MetaCommands(server)
        self._handlers: dict[bytes, Execute] = {
            b"get": self._get, b"bget": self._get, b"gets": self._get,
            b"gat": self._gat, b"gats": self._gat,
            b"set": self._store, b"add": self._store, b"replace": self._store,
            b"append": self._store, b"prepend": self._store, b"cas": self._store,
            b"delete": self._delete, b"touch": self._touch,
            b"incr": self._add, b"decr": self._add,
            b"mg": meta.get, b"ms": meta.set, b"md": meta.delete, b"ma": meta.add,
            b"me": meta.debug, b"mn": meta.nothing,
            b"stats": self._stats, b"flush_all": self._flush_all, b"version": self._version,
            b"verbosity": self._verbosity, b"quit": self._quit, b"shutdown": self._shutdown,
            b"cache_memlimit": self._memory_limit, b"refresh_certs": self._refresh_certs,
            b"config": self._config,
            **Maintenance(server).handlers,
        }  # fmt: skip

    def execute(self, words: list[bytes], value: bytes | None) -> bytes | None:
        """Execute a request. See `server.Execute`."""
        handler = self._handlers.get(words[0]) if words else None
        if handler is not None:
            return handler(words, value)
        if words and len(words[0]) >= 2 and words[0][0] not in _FIRST_OF_KNOWN:
            is_meta = words[0][0] == 0x6D and len(words[0]) == 2
            if not is_meta and words[:_MAX_WORDS][-1].startswith(b"HTTP/"):
                return None
        return ERROR

    def _config(self, words: list[bytes], _value: bytes | None) -> bytes:
        # Only ElastiCache's servers know it.
        return self._server.cluster if tuple(words) == REQUEST and self._server.cluster else ERROR

    # --- reading ----------------------------------------------------------------------------

    def _get(self, words: list[bytes], part: bytes | None) -> bytes:
        if len(words) < 2:
            return ERROR
        return self._values(words, 1, part, words[0] == b"gets")

    def _gat(self, words: list[bytes], part: bytes | None) -> bytes:
        if len(words) < 2:
            return ERROR
        seconds = signed32(words[1])
        if seconds is None:
            return BAD_EXPIRY
        return self._values(words, 2, part, words[0] == b"gats", self._items.moment(seconds))

    def _values(
        self,
        words: list[bytes],
        start: int,
        part: bytes | None,
        with_cas: bool,
        expires: int | None = None,
    ) -> bytes:
        """Return the reply with the values of the keys.

        Args:
            part: None if the reply ends after these keys; see `protocols.memcached.PART`.
            expires: the items' new expiry time; None: keep it.
        """
        items, counters, details = self._items, self._counters, self._details
        lookup = items.by_key.get
        out: list[bytes] = []
        for key in words[start:]:
            if len(key) > MAX_KEY:
                return BAD_FORMAT
            item = lookup(key)
            if item is not None and (item.expires or items.flush_at):
                item = items.alive(item)
            if details.is_on:
                details.count(key, *((0,) if item is None else (0, 1)))
            if expires is not None:
                counters.cmd_touch += 1
            if item is None:
                if expires is None:
                    counters.get_misses += 1
                else:
                    counters.touch_misses += 1
                continue
            if item.is_fetched:  # inlined `Items.used`
                item.is_active = True
                item.time = items.now
            else:
                item.is_fetched = True
            if expires is None:
                item.slab.get_hits += 1
            else:
                item.expires = expires
                item.slab.touch_hits += 1
            data = item.data
            if with_cas:
                out.append(b"VALUE %b %d %d %d\r\n" % (key, item.flags, len(data) - 2, item.cas))
            else:
                out.append(b"VALUE %b %d %d\r\n" % (key, item.flags, len(data) - 2))
            out.append(data)
        if part is None:
            out.append(END)
        return b"".join(out)

    # --- changing ---------------------------------------------------------------------------

    def _store(self, words: list[bytes], value: bytes | None) -> bytes:
        reply = self._stored(words, value)
        return b"" if words[-1] == b"noreply" and reply is not ERROR else reply

    def _stored(self, words: list[bytes], value: bytes | None) -> bytes:
        mode, items = words[0], self._items
        if value is None:
            return self._not_made(words)
        key = words[1]
        flags, seconds = unsigned32(words[2]), signed32(words[3])
        assert flags is not None  # noqa: S101  # the parser gives no value otherwise
        assert seconds is not None  # noqa: S101
        if self._details.is_on:
            self._details.count(key, 2)
        item = items.make(key, value, flags, items.moment(seconds))
        if item is None:
            return self._not_made(words)
        item.slab.cmd_set += 1
        if not value.endswith(b"\r\n"):
            items.drop(item)
            return BAD_CHUNK
        if mode == b"cas":
            item.cas = unsigned(words[5]) or 0
        return _STORED[conditional.store(items, item, mode)]

    def _not_made(self, words: list[bytes]) -> bytes:
        """Return the reply to a store without a value, or with a value that does not fit."""
        least = 6 if words[0] == b"cas" else 5
        if not least <= len(words) <= least + 1:
            return ERROR
        size = value_size(words)
        if size < 0:
            return BAD_FORMAT
        items = self._items
        if words[0] == b"set" and (old := items.find(words[1])) is not None:
            items.unlink(old)
        if not items.fits(words[1], unsigned32(words[2]) or 0, size + 2):
            self._counters.store_too_large += 1
            return TOO_LARGE
        self._counters.store_no_memory += 1
        return NO_MEMORY

    def _delete(self, words: list[bytes], _value: bytes | None) -> bytes:
        count = len(words)
        if not 2 <= count <= 4:
            return ERROR
        quiet = count > 2 and words[-1] == b"noreply"
        if count > 2:
            is_zero = words[2] == b"0"
            if not ((count == 3 and (is_zero or quiet)) or (count == 4 and is_zero and quiet)):
                if quiet:
                    return b""
                return _DELETE_USAGE
        key = words[1]
        if len(key) > MAX_KEY:
            return b"" if quiet else BAD_FORMAT
        if self._details.is_on:
            self._details.count(key, 3)
        item = self._items.find(key)
        if item is None:
            self._counters.delete_misses += 1
            return b"" if quiet else NOT_FOUND
        item.slab.delete_hits += 1
        self._items.unlink(item)
        return b"" if quiet else b"DELETED\r\n"

    def _touch(self, words: list[bytes], _value: bytes | None) -> bytes:
        if not 3 <= len(words) <= 4:
            return ERROR
        reply = self._touched(words[1], words[2])
        return b"" if words[-1] == b"noreply" else reply

    def _touched(self, key: bytes, text: bytes) -> bytes:
        if len(key) > MAX_KEY:
            return BAD_FORMAT
        seconds = signed32(text)
        if seconds is None:
            return BAD_EXPIRY
        items = self._items
        item = items.find(key)
        self._counters.cmd_touch += 1
        if item is None:
            self._counters.touch_misses += 1
            return NOT_FOUND
        items.used(item)
        item.expires = items.moment(seconds)
        item.slab.touch_hits += 1
        return b"TOUCHED\r\n"

    def _add(self, words: list[bytes], _value: bytes | None) -> bytes:
        if not 3 <= len(words) <= 4:
            return ERROR
        reply = self._added(words[1], words[2], words[0] == b"incr")
        return b"" if words[-1] == b"noreply" else reply

    def _added(self, key: bytes, text: bytes, up: bool) -> bytes:
        if len(key) > MAX_KEY:
            return BAD_FORMAT
        delta = unsigned(text)
        if delta is None:
            return b"CLIENT_ERROR invalid numeric delta argument\r\n"
        result, _, number = conditional.add(self._items, key, delta, up=up)
        if result == conditional.STORED:
            return b"%d\r\n" % number
        if result == conditional.NON_NUMERIC:
            return NON_NUMERIC
        if result == conditional.NO_MEMORY:
            return b"SERVER_ERROR out of memory\r\n"
        if up:
            self._counters.incr_misses += 1
        else:
            self._counters.decr_misses += 1
        return NOT_FOUND

    def _flush_all(self, words: list[bytes], _value: bytes | None) -> bytes:
        count = len(words)
        if count > 3:
            return ERROR
        quiet = words[-1] == b"noreply"
        self._counters.cmd_flush += 1
        delay: int | None = 0
        if count != (2 if quiet else 1):
            delay = signed32(words[1])
        if delay is None:
            return b"" if quiet else BAD_EXPIRY
        self._items.flush(delay)
        return b"" if quiet else OK

    # --- the server -------------------------------------------------------------------------

    def _version(self, _words: list[bytes], _value: bytes | None) -> bytes:
        return b"VERSION %b\r\n" % self._server.config.version.encode()

    def _verbosity(self, words: list[bytes], _value: bytes | None) -> bytes:
        if not 2 <= len(words) <= 3:
            return ERROR
        level = unsigned32(words[1])
        quiet = words[-1] == b"noreply"
        if level is None:
            return b"" if quiet else BAD_FORMAT
        self._server.verbosity = min(level, 2)
        return b"" if quiet else OK

    def _quit(self, _words: list[bytes], _value: bytes | None) -> None:
        return None

    def _shutdown(self, _words: list[bytes], _value: bytes | None) -> bytes:
        return b"ERROR: shutdown not enabled\r\n"

    def _refresh_certs(self, _words: list[bytes], _value: bytes | None) -> bytes:
        return b"Error TLS not enabled\r\n" if self._server.config.server_tls is None else OK

    def _memory_limit(self, words: list[bytes], _value: bytes | None) -> bytes:
        if not 2 <= len(words) <= 3:
            return ERROR
        quiet = words[-1] == b"noreply"
        megabytes = unsigned32(words[1])
        if megabytes is None:
            reply = ERROR
        elif megabytes < 8:
            reply = b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"
        elif megabytes > 1_000_000_000:
            reply = b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n"
        else:
            self._items.slabs.limit = megabytes * 1024 * 1024
            reply = OK
        return b"" if quiet else reply

    def _stats(self, words: list[bytes], _value: bytes | None) -> bytes:
        server = self._server
        kind = words[1] if len(words) > 1 else b""
        if not kind:
            return stats_report.encode(stats_report.general(server))
        if kind == b"reset":
            server.reset_stats()
            return b"RESET\r\n"
        if kind == b"detail":
            return self._detail(words[2] if len(words) > 2 else b"")
        if kind == b"cachedump":
            return self._cachedump(words)
        if kind == b"sizes_enable":
            if server.sizes_from is None:
                server.sizes_from = server.items.new_cas()
            return b"STAT sizes_status enabled\r\n"  # without an END, as from Memcached
        if kind == b"sizes_disable":
            server.sizes_from = None
            return b"STAT sizes_status disabled\r\n"
        if kind == b"extstore":
            return END
        report = _REPORTS.get(kind)
        return ERROR if report is None else stats_report.encode(report(server))

    def _cachedump(self, words: list[bytes]) -> bytes:
        if len(words) < 4:
            return b"CLIENT_ERROR bad command line\r\n"
        number, limit = unsigned32(words[2]), unsigned32(words[3])
        if number is None or limit is None:
            return BAD_FORMAT
        if number > _LAST_SLAB_CLASS:
            return b"CLIENT_ERROR Illegal slab id\r\n"
        classes = self._items.slabs.classes
        if not 1 <= number <= len(classes):
            return END
        return stats_report.dump(self._items, classes[number - 1], limit)

    def _detail(self, kind: bytes) -> bytes:
        if kind in (b"on", b"off"):
            self._details.is_on = kind == b"on"
            return OK
        if kind == b"dump":
            return self._details.dump()
        return b"CLIENT_ERROR usage: stats detail on|off|dump\r\n"


_REPORTS: dict[bytes, Callable[[Server], stats_report.Lines]] = {
    b"settings": stats_report.settings,
    b"items": stats_report.items,
    b"slabs": stats_report.slabs,
    b"sizes": stats_report.sizes,
    b"conns": stats_report.connections,
}
