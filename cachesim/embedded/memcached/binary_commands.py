"""The commands of the binary protocol."""

from collections.abc import Callable, Iterable
from struct import Struct
from typing import Final

from cachesim.embedded.memcached import conditional, stats_report
from cachesim.embedded.memcached.binary_call import (
    EXISTS,
    INVALID_ARGUMENTS,
    NO_MEMORY,
    NON_NUMERIC,
    NOT_FOUND,
    NOT_STORED,
    TOO_LARGE,
    UNKNOWN_COMMAND,
    Call,
)
from cachesim.embedded.memcached.items import Item
from cachesim.embedded.memcached.server import Server
from cachesim.protocols.memcached_binary import INVALID

_STORE, _NUMBER, _COUNT = Struct(">II"), Struct(">I"), Struct(">QQI")
_VALUE = Struct(">Q")
_NEVER = 0xFFFFFFFF
"""The expiry time with which `incr` and `decr` create no item."""


class BinaryCommands:
    """The commands of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._items = server.items
        self._counters = server.counters
        self._details = server.details
        self._handlers: dict[bytes, Callable[[Call, bytes | None], bytes]] = {
            b"get": self._get, b"gat": self._touch, b"touch": self._touch,
            b"set": self._store, b"add": self._store, b"replace": self._store,
            b"append": self._store, b"prepend": self._store,
            b"delete": self._delete, b"incr": self._add, b"decr": self._add,
            b"flush_all": self._flush_all, b"stats": self._stats, b"version": self._version,
            b"mn": self._nothing, b"quit": self._nothing,
        }  # fmt: skip

    def execute(self, words: list[bytes], value: bytes | None) -> bytes:
        """Execute a request. See `server.Execute` and `BinaryRequestParser`."""
        name, header, extras, key = words
        call = Call(header, extras, key)
        handler = self._handlers.get(name)
        if handler is None:
            return call.error(INVALID_ARGUMENTS if name == INVALID else UNKNOWN_COMMAND)
        return handler(call, value)

    # --- reading ----------------------------------------------------------------------------

    def _get(self, call: Call, _value: bytes | None) -> bytes:
        item = self._items.find(call.key)
        if item is None:
            self._counters.get_misses += 1
        else:
            self._items.used(item)
            item.slab.get_hits += 1
        return self._found(call, item)

    def _touch(self, call: Call, _value: bytes | None) -> bytes:
        item = self._items.find(call.key)
        self._counters.cmd_touch += 1
        if item is None:
            self._counters.touch_misses += 1
        else:
            self._items.used(item)
            (seconds,) = _NUMBER.unpack(call.extras)
            item.expires = self._items.moment(seconds)
            item.slab.touch_hits += 1
        return self._found(call, item)

    def _found(self, call: Call, item: Item | None) -> bytes:
        if self._details.is_on:
            self._details.count(call.key, *((0,) if item is None else (0, 1)))
        kind = call.kind
        if item is None:
            if kind.is_quiet:
                return b""
            if kind.with_key:
                return call.reply(key=call.key, status=NOT_FOUND)
            return call.error(NOT_FOUND)
        return call.reply(
            _NUMBER.pack(item.flags),
            call.key if kind.with_key else b"",
            b"" if kind.name == b"touch" else item.data[:-2],
            item.cas,
        )

    # --- changing ---------------------------------------------------------------------------

    def _store(self, call: Call, value: bytes | None) -> bytes:
        mode, items = call.kind.name, self._items
        flags, seconds = _STORE.unpack(call.extras) if call.extras else (0, 0)
        if self._details.is_on:
            self._details.count(call.key, 2)
        item = (
            None
            if value is None
            else items.make(call.key, value + b"\r\n", flags, items.moment(seconds))
        )
        if item is None:
            return self._not_made(call, flags, value)
        item.slab.cmd_set += 1
        item.cas = call.cas
        if call.cas and call.extras:
            mode = b"cas"
        result = conditional.store(items, item, mode)
        if result == conditional.STORED:
            return call.done(cas=item.cas)
        if result == conditional.EXISTS or mode == b"add":
            return call.error(EXISTS)
        if result == conditional.MISSING or mode == b"replace":
            return call.error(NOT_FOUND)
        return call.error(NOT_STORED)

    def _not_made(self, call: Call, flags: int, value: bytes | None) -> bytes:
        """Return the reply to a store whose value does not fit."""
        items = self._items
        if call.kind.name == b"set" and (old := items.find(call.key)) is not None:
            items.unlink(old)
        if value is None or not items.fits(call.key, flags, len(value) + 2):
            return call.error(TOO_LARGE)  # which 1.6 does not count here
        return call.error(NO_MEMORY, b"Out of memory allocating item")

    def _delete(self, call: Call, _value: bytes | None) -> bytes:
        if self._details.is_on:
            self._details.count(call.key, 3)
        item = self._items.find(call.key)
        if item is None:
            self._counters.delete_misses += 1
            return call.error(NOT_FOUND)
        if call.cas and call.cas != item.cas:
            return call.error(EXISTS)
        item.slab.delete_hits += 1
        self._items.unlink(item)
        return call.done()

    def _add(self, call: Call, _value: bytes | None) -> bytes:
        delta, initial, seconds = _COUNT.unpack(call.extras)
        up, items = call.kind.name == b"incr", self._items
        result, item, number = conditional.add(items, call.key, delta, up=up, cas=call.cas)
        if result == conditional.EXISTS:
            return call.error(EXISTS)
        if result == conditional.NON_NUMERIC:
            return call.error(NON_NUMERIC)
        if result == conditional.NO_MEMORY:
            return call.error(NO_MEMORY, b"Out of memory incrementing value")
        if result == conditional.MISSING:
            if seconds == _NEVER:
                if up:
                    self._counters.incr_misses += 1
                else:
                    self._counters.decr_misses += 1
                return call.error(NOT_FOUND)
            number = initial
            item = items.make(call.key, b"%d\r\n" % initial, 0, items.moment(seconds))
            if item is None:
                return call.error(NO_MEMORY, b"Out of memory allocating new item")
            items.link(item)
        assert item is not None  # noqa: S101  # it has been stored
        return call.done(_VALUE.pack(number), item.cas)

    def _flush_all(self, call: Call, _value: bytes | None) -> bytes:
        self._counters.cmd_flush += 1
        self._items.flush(_NUMBER.unpack(call.extras)[0] if call.extras else 0)
        return call.done()

    # --- the server -------------------------------------------------------------------------

    def _nothing(self, call: Call, _value: bytes | None) -> bytes:
        return call.done()

    def _version(self, call: Call, _value: bytes | None) -> bytes:
        return call.done(self._server.config.version.encode())

    def _stats(self, call: Call, _value: bytes | None) -> bytes:
        server, kind = self._server, call.key
        if not kind:
            return _report(call, stats_report.general(server))
        if kind.startswith(b"reset"):
            server.reset_stats()
            return call.reply()
        if kind.startswith(b"settings"):
            return _report(call, stats_report.settings(server))
        if kind.startswith(b"detail"):
            return self._detail(call, kind.removeprefix(b"detail"))
        if kind == b"sizes_enable":
            if server.sizes_from is None:
                server.sizes_from = server.items.new_cas()
            return call.reply(key=b"sizes_status", value=b"enabled")
        if kind == b"sizes_disable":
            server.sizes_from = None
            return call.reply(key=b"sizes_status", value=b"disabled")
        report = _REPORTS.get(kind)
        return call.error(NOT_FOUND) if report is None else _report(call, report(server))

    def _detail(self, call: Call, kind: bytes) -> bytes:
        if kind.startswith(b" dump"):
            return call.reply(key=b"detailed", value=self._details.dump()) + call.reply()
        if kind.startswith((b" on", b" off")):
            self._details.is_on = kind.startswith(b" on")
            return call.reply()
        return call.error(NOT_FOUND)


def _report(call: Call, lines: Iterable[tuple[str, object]]) -> bytes:
    replies = [call.reply(key=name.encode(), value=str(value).encode()) for name, value in lines]
    return b"".join([*replies, call.reply()])


_REPORTS: Final[dict[bytes, Callable[[Server], stats_report.Lines]]] = {
    b"items": stats_report.items,
    b"slabs": stats_report.slabs,
    b"sizes": stats_report.sizes,
}
