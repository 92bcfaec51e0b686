"""Parses requests of Memcached's binary protocol, as Memcached 1.6.18 does.

The protocol's form is that of "BinaryProtocolRevamped" in Memcached's wiki.
"""

from struct import Struct
from typing import Final, NamedTuple

from cachesim.protocols.memcached import MAX_KEY, Request

REQUEST: Final = 0x80
"""The first byte of a request, which no request of the text protocol has."""
RESPONSE: Final = 0x81
HEADER: Final = Struct(">BBHBBHI4sQ")
"""Magic byte, opcode, bytes of the key, of the extras, data type, status, bytes of the body, the
client's own word, `cas`."""
UNKNOWN: Final = b""
"""The name of a request whose opcode is not served."""
INVALID: Final = b"\0"
"""The name of a request whose form is wrong."""
_BATCH = 200
"""The most requests that are returned at once."""


class Opcode(NamedTuple):
    """What an opcode stands for.

    Attributes:
        name: the command of the text protocol.
        is_quiet: whether success, or a miss, is not answered.
        with_key: whether the reply has the key.
        extras: the sizes in bytes that the extras may have.
        has_key: whether there is a key; None: there may be one.
        has_value: whether the rest of the body is a value.
    """

    name: bytes
    is_quiet: bool = False
    with_key: bool = False
    extras: tuple[int, ...] = (0,)
    has_key: bool | None = True
    has_value: bool = False


def _opcodes() -> dict[int, Opcode]:
    store, count, touch = (8,), (20,), (4,)
    loud = {
        0x00: Opcode(b"get"),
        0x01: Opcode(b"set", extras=store, has_value=True),
        0x02: Opcode(b"add", extras=store, has_value=True),
        0x03: Opcode(b"replace", extras=store, has_value=True),
        0x04: Opcode(b"delete"),
        0x05: Opcode(b"incr", extras=count),
        0x06: Opcode(b"decr", extras=count),
        0x07: Opcode(b"quit", has_key=False),
        0x08: Opcode(b"flush_all", extras=(0, 4), has_key=False),
        0x0C: Opcode(b"get", with_key=True),
        0x0E: Opcode(b"append", has_value=True),
        0x0F: Opcode(b"prepend", has_value=True),
        0x1D: Opcode(b"gat", extras=touch),
        0x23: Opcode(b"gat", extras=touch, with_key=True),
    }
    # The quiet forms of these, in the order of the loud ones.
    quiet = (0x09, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x0D, 0x19, 0x1A, 0x1E, 0x24)
    return {
        **loud,
        **{
            code: kind._replace(is_quiet=True)
            for code, kind in zip(quiet, loud.values(), strict=True)
        },
        0x0A: Opcode(b"mn", has_key=False),
        0x0B: Opcode(b"version", has_key=False),
        0x10: Opcode(b"stats", has_key=None),
        0x1C: Opcode(b"touch", extras=touch),
        # SASL's, which a server without it does not know, but whose form it checks.
        0x20: Opcode(UNKNOWN, has_key=False),
        0x21: Opcode(UNKNOWN),
        0x22: Opcode(UNKNOWN),
    }


OPCODES: Final = _opcodes()
"""What each opcode stands for."""
_UNKNOWN = Opcode(UNKNOWN)
_EXACT = frozenset((b"get", b"delete", b"incr", b"decr"))
"""The commands with a key whose body may have nothing after it."""


def is_valid(kind: Opcode, extras: int, key: int, body: int) -> bool:
    """Return whether a request has the parts that its opcode wants.

    Args:
        extras: bytes of the extras.
        key: bytes of the key.
        body: bytes of the body, with these two.
    """
    return (
        extras in kind.extras
        and (kind.has_key is None or kind.has_key == (key > 0))
        and (body == extras + key or not (kind.has_key is False or kind.name in _EXACT))
    )


class BinaryRequestParser:
    """Parses requests from bytes in pieces of any size, as `RequestParser` does.

    The words of a request are the command's name in the text protocol, the header, the extras and
    the key. The name may be `UNKNOWN` or `INVALID`. The value is None if there is none, or if it is
    too large; then it is dropped when it comes.

    Args:
        largest: the most bytes of a value.

    Attributes:
        is_broken: whether no more requests can be parsed. Then the connection must be closed.
    """

    def __init__(self, largest: int = 1024 * 1024) -> None:
        self._largest = largest
        self.is_broken = False
        self._buffer = bytearray()
        self._to_drop = 0

    @property
    def buffered(self) -> int:
        """Bytes that were fed and not returned as requests yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add received data."""
        if self.is_broken:
            return
        if self._to_drop:
            dropped = min(self._to_drop, len(data))
            self._to_drop -= dropped
            data = data[dropped:]
        self._buffer += data

    def take(self) -> list[Request]:
        """Return some complete requests. Call it until it returns none."""
        found: list[Request] = []
        buffer, at = self._buffer, 0
        while len(found) < _BATCH and not self.is_broken:
            end = self._take(at, found)
            if end == at:
                break
            at = end
        if self.is_broken:
            buffer.clear()
        else:
            del buffer[:at]
        return found

    def _take(self, at: int, found: list[Request]) -> int:
        """Take the request at a place, if it is complete. Return the place of the next one."""
        buffer = self._buffer
        here = len(buffer)
        if here - at < HEADER.size:
            return at
        header = bytes(buffer[at : at + HEADER.size])
        magic, opcode, key_size, extras_size, _, _, body, _, _ = HEADER.unpack(header)
        if magic != REQUEST:
            self.is_broken = True
            return at
        extras_at: int = at + HEADER.size
        key_at: int = extras_at + extras_size
        end: int = key_at + key_size
        if end > here:
            return at
        words = [header, bytes(buffer[extras_at:key_at]), bytes(buffer[key_at:end])]
        kind = OPCODES.get(opcode, _UNKNOWN)
        name, value, rest = kind.name, None, body - key_size - extras_size
        is_wrong = opcode in OPCODES and not is_valid(kind, extras_size, key_size, body)
        if rest < 0:
            name, self.is_broken = UNKNOWN, True
        elif key_size > MAX_KEY or is_wrong:
            name, self.is_broken = INVALID, True
        elif name == UNKNOWN or (kind.has_value and rest > self._largest):
            end = self._drop(end, rest)
        elif kind.has_value:
            if end + rest > here:
                return at
            value = bytes(buffer[end : end + rest])
            end += rest
        elif name == b"quit":
            self.is_broken = True
        found.append(([name, *words], value))
        return end

    def _drop(self, at: int, size: int) -> int:
        """Drop bytes, here or when they come. Return the place after those that are here."""
        here = min(size, len(self._buffer) - at)
        self._to_drop = size - here
        return at + here
