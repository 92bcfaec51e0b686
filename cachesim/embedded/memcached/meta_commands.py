"""The commands of the meta protocol."""

import base64
from typing import Final

from cachesim.embedded.memcached import conditional
from cachesim.embedded.memcached.items import Item
from cachesim.embedded.memcached.meta_flags import Flags, decode_key
from cachesim.embedded.memcached.replies import (
    BAD_CHUNK,
    BAD_FORMAT,
    ERROR,
    NO_MEMORY,
    NON_NUMERIC,
    TOO_LARGE,
)
from cachesim.embedded.memcached.server import Server
from cachesim.protocols.memcached import MAX_KEY, signed32

_MAX_WORDS = 19
_MAX_OPAQUE = 32
_OPAQUE_TOO_LONG = b"CLIENT_ERROR opaque token too long\r\n"
_TOO_MANY_FLAGS = b"CLIENT_ERROR options flags too long\r\n"
_BAD_FLAGS = b"CLIENT_ERROR invalid or duplicate flag\r\n"
_STORES: Final = (b"HD", b"EX", b"NF", b"NS")
_MODES: Final = {
    b"": b"set", b"S": b"set", b"E": b"add", b"A": b"append", b"P": b"prepend", b"R": b"replace",
}  # fmt: skip
_UP: Final = {b"": True, b"I": True, b"+": True, b"D": False, b"-": False}


class _LineError(Exception):
    """A line that can't be executed. The exception's argument is the reply."""


_VALUE, _QUIET, _CREATES, _EXPIRES, _NO_UPDATE, _STALE, _HAS_CAS = b"vqNTuIC"
_NEED_OLD_STATE = frozenset(b"NTRlh")
"""The flags of `mg` that need the item's state before this read."""


class MetaCommands:
    """The meta commands of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._items = server.items
        self._counters = server.counters

    def get(self, words: list[bytes], _value: bytes | None) -> bytes:
        """Execute `mg`."""
        if len(words) < 2:
            return ERROR
        if len(words[1]) > MAX_KEY:
            return BAD_FORMAT
        if len(words) > _MAX_WORDS:
            return b"CLIENT_ERROR options flags are too long\r\n"
        items, counters = self._items, self._counters
        flags = Flags(words[1], words, 2, items.moment)
        if flags.error is not None:
            return flags.error
        names = flags.names
        item = items.find(flags.key)
        is_new = False
        if item is None and _CREATES in names:
            item = items.make(flags.key, b"\r\n", 0, 0)
            if item is not None:
                items.link(item)
                is_new = True
        if item is None:
            counters.get_misses += 1
            return self._miss(words, flags)
        out = [b"VA %d" % (len(item.data) - 2) if _VALUE in names else b"HD"]
        won = False
        now = items.now
        for word in words[2:]:
            name = word[0]
            if name == 0x54:  # T
                item.expires = flags.expires
            elif name == 0x4E:  # N
                if is_new:
                    item.expires = flags.create_until
                    won = True
            elif name == 0x52:  # R
                if not item.is_won and not is_new and 0 < item.expires < flags.recache_before:
                    won = True
            elif name == 0x73:  # s
                out.append(b"s%d" % (len(item.data) - 2))
            elif name == 0x74:  # t
                out.append(self._ttl(item))
            elif name == 0x63:  # c
                out.append(b"c%d" % item.cas)
            elif name == 0x66:  # f
                out.append(b"f%d" % item.flags)
            elif name == 0x6C:  # l
                out.append(b"l%d" % (now - item.time))
            elif name == 0x68:  # h
                out.append(b"h1" if item.is_fetched else b"h0")
            elif name == 0x4F:  # O
                if len(word) > _MAX_OPAQUE:
                    if names.isdisjoint(_NEED_OLD_STATE) and _NO_UPDATE not in names:
                        items.used(item)
                    return _OPAQUE_TOO_LONG
                out.append(word)
            elif name == 0x6B:  # k
                out.append(_key(item.key, item.is_binary))
        if item.is_won:
            out.append(b"Z")
        if item.is_stale:
            out.append(b"X")
            won = won or not item.is_won
        if won:
            out.append(b"W")
            item.is_won = True
        if _NO_UPDATE not in names:
            items.used(item)
        if _EXPIRES in names:
            counters.cmd_touch += 1
            item.slab.touch_hits += 1
        else:
            item.slab.get_hits += 1
        line = b" ".join(out)
        return b"%b\r\n%b" % (line, item.data) if _VALUE in names else line + b"\r\n"

    def _miss(self, words: list[bytes], flags: Flags) -> bytes:
        try:
            echo = _echo(words, flags)
        except _LineError as error:
            return bytes(error.args[0])
        return b"" if _QUIET in flags.names else b"EN%b\r\n" % echo

    def set(self, words: list[bytes], value: bytes | None) -> bytes:
        """Execute `ms`."""
        if len(words) < 2:
            return ERROR
        if len(words[1]) > MAX_KEY or len(words) == 2:
            return BAD_FORMAT
        if len(words) > _MAX_WORDS:
            return _TOO_MANY_FLAGS
        size = signed32(words[2])
        if size is None or not 0 <= size <= 2**31 - 3:
            return BAD_FORMAT
        items = self._items
        flags = Flags(words[1], words, 3, items.moment)
        if flags.error is not None:
            return flags.error
        opaque_error = any(word[0] == 0x4F and len(word) > _MAX_OPAQUE for word in words[3:])
        mode = _MODES.get(flags.mode)
        if mode is None:
            return b"CLIENT_ERROR invalid mode for ms M token\r\n"
        if opaque_error:
            return _OPAQUE_TOO_LONG
        names = flags.names
        if _HAS_CAS in names and mode in (b"set", b"replace"):
            mode = b"cas"
        item = None
        if value is not None:
            item = items.make(flags.key, value, flags.flags, flags.expires)
        if item is None:
            return self._not_made(flags, size)
        item.slab.cmd_set += 1
        if not item.data.endswith(b"\r\n"):
            items.drop(item)
            return BAD_CHUNK
        item.is_binary = flags.binary
        item.cas = flags.cas
        stale = _STALE in names and mode == b"cas"
        result = conditional.store(items, item, mode, stale=stale)
        if result == conditional.STORED and _QUIET in names:
            return b""
        out = [_STORES[result]]
        for word in words[3:]:
            name = word[0]
            if name == 0x4F:  # O
                out.append(word)
            elif name == 0x6B:  # k
                out.append(_key(item.key, item.is_binary))
            elif name == 0x63:  # c
                out.append(b"c%d" % (item.cas if result == conditional.STORED else 0))
        return b" ".join(out) + b"\r\n"

    def _not_made(self, flags: Flags, size: int) -> bytes:
        items = self._items
        old = items.find(flags.key)
        if old is not None:
            items.unlink(old)
        if not items.fits(flags.key, flags.flags, size + 2):
            self._counters.store_too_large += 1
            return TOO_LARGE
        self._counters.store_no_memory += 1
        return NO_MEMORY

    def delete(self, words: list[bytes], _value: bytes | None) -> bytes:
        """Execute `md`."""
        flags = self._parsed(words)
        if isinstance(flags, bytes):
            return flags
        try:
            echo = _echo(words, flags)
        except _LineError as error:
            return bytes(error.args[0])
        items, names = self._items, flags.names
        item = items.find(flags.key)
        if item is None:
            self._counters.delete_misses += 1
            return b"NF%b\r\n" % echo
        if _HAS_CAS in names and item.cas != flags.cas:
            self._counters.delete_misses += 1
            return b"EX%b\r\n" % echo
        if _STALE in names:
            if _EXPIRES in names:
                item.expires = flags.expires
            item.is_stale = True
            item.is_won = False
            item.cas = items.new_cas()
        else:
            item.slab.delete_hits += 1
            items.unlink(item)
        return b"" if _QUIET in names else b"HD%b\r\n" % echo

    def add(self, words: list[bytes], _value: bytes | None) -> bytes:
        """Execute `ma`."""
        flags = self._parsed(words)
        if isinstance(flags, bytes):
            return flags
        up = _UP.get(flags.mode)
        if up is None:
            return b"CLIENT_ERROR invalid mode for ma M token\r\n"
        items, names = self._items, flags.names
        result, item, number = conditional.add(items, flags.key, flags.delta, up=up, cas=flags.cas)
        if result == conditional.NON_NUMERIC:
            return NON_NUMERIC
        if result == conditional.NO_MEMORY:
            return b"SERVER_ERROR out of memory\r\n"
        is_new = False
        if result == conditional.MISSING and _CREATES in names:
            number = flags.initial
            item = items.make(flags.key, b"%d\r\n" % number, 0, 0)
            if item is None:
                return b"SERVER_ERROR Out of memory allocating new item\r\n"
            items.link(item)
            is_new = True
        if item is None:
            if result == conditional.MISSING:
                if up:
                    self._counters.incr_misses += 1
                else:
                    self._counters.decr_misses += 1
            try:
                return _STORES[result] + _echo(words, flags) + b"\r\n"
            except _LineError as error:
                return bytes(error.args[0])
        digits = b"%d" % number
        out = [b"VA %d" % len(digits) if _VALUE in names else b"HD"]
        for word in words[2:]:
            name = word[0]
            if name == 0x63:  # c
                out.append(b"c%d" % item.cas)
            elif name == 0x74:  # t
                out.append(self._ttl(item))
            elif name == 0x54:  # T
                item.expires = flags.expires
            elif name == 0x4E:  # N
                if is_new:
                    item.expires = flags.create_until
            elif name == 0x4F:  # O
                if len(word) > _MAX_OPAQUE:
                    return _OPAQUE_TOO_LONG
                out.append(word)
            elif name == 0x6B:  # k
                out.append(_key(flags.key, flags.binary))
        if _QUIET in names and not is_new:
            return b""
        line = b" ".join(out)
        return b"%b\r\n%b\r\n" % (line, digits) if _VALUE in names else line + b"\r\n"

    def _parsed(self, words: list[bytes]) -> Flags | bytes:
        """Return the flags of `md` or `ma`, or the reply if they are wrong."""
        if len(words) < 2:
            return ERROR
        if len(words[1]) > MAX_KEY:
            return BAD_FORMAT
        if len(words) > _MAX_WORDS:
            return _TOO_MANY_FLAGS
        flags = Flags(words[1], words, 2, self._items.moment)
        return flags if flags.error is None else _BAD_FLAGS

    def _ttl(self, item: Item) -> bytes:
        if not item.expires:
            return b"t-1"
        return b"t%d" % ((item.expires - self._items.now) & 0xFFFFFFFF)

    def debug(self, words: list[bytes], _value: bytes | None) -> bytes:
        """Execute `me`: report an item's state."""
        if len(words) < 2 or len(words[1]) > MAX_KEY:
            return BAD_FORMAT
        key: bytes | None = words[1]
        if len(words) > 2 and words[2] == b"b":
            key = decode_key(words[1])
            if key is None:
                return BAD_FORMAT
        items = self._items
        item = items.find(key or b"")
        self._counters.cmd_meta += 1
        if item is None:
            return b"EN\r\n"
        return b"ME %b exp=%d la=%d cas=%d fetch=%b cls=%d size=%d\r\n" % (
            base64.b64encode(item.key) if item.is_binary else item.key,
            items.now - item.expires if item.expires else -1,
            items.now - item.time,
            item.cas,
            b"yes" if item.is_fetched else b"no",
            item.slab.id,
            item.size,
        )

    def nothing(self, _words: list[bytes], _value: bytes | None) -> bytes:
        """Execute `mn`. The reply tells that all earlier requests were executed."""
        return b"MN\r\n"


def _key(key: bytes, binary: bool) -> bytes:
    return b"k%b b" % base64.b64encode(key) if binary else b"k" + key


def _echo(words: list[bytes], flags: Flags) -> bytes:
    """Return the words that the reply repeats: the opaque word and the key."""
    out = b""
    for word in words[2:]:
        if word[0] == 0x4F:  # O
            if len(word) > _MAX_OPAQUE:
                raise _LineError(_OPAQUE_TOO_LONG)
            out += b" " + word
        elif word[0] == 0x6B:  # k
            out += b" " + _key(flags.key, flags.binary)
    return out
