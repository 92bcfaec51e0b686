"""BITFIELD and BITFIELD_RO, of the bitmap commands."""

from collections.abc import Mapping
from dataclasses import dataclass

from cachesim.embedded.redis.commands.common.bits import offset_of, stored, string_to_change
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer
from cachesim.protocols.resp import Error, Reply

_NO_TYPE = (
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but "
    "i64 is."
)
_ARGUMENTS = {b"get": 2, b"set": 3, b"incrby": 3, b"overflow": 1}


@dataclass
class _Operation:
    """One of the operations of a request.

    Attributes:
        name: `get`, `set` or `incrby`.
        at: the offset of the field, in bits.
        width: of the field, in bits.
        number: the value to set or to add.
        overflow: what to do if the result is out of range: `wrap`, `sat` or `fail`.
    """

    name: bytes
    at: int
    width: int
    is_signed: bool
    number: int
    overflow: bytes

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest number of the field."""
        half = 1 << (self.width - 1)
        return (-half, half - 1) if self.is_signed else (0, 2 * half - 1)

    def wrapped(self, number: int) -> int:
        """Return a number as the field's bits hold it."""
        number %= 1 << self.width
        return number - (1 << self.width) if number > self.limits[1] else number

    def read(self, value: bytes | bytearray) -> int:
        """Return the field's number. There are zeros after the string."""
        first, last = self.at >> 3, (self.at + self.width - 1) >> 3
        covered = bytes(value[first : last + 1]).ljust(last + 1 - first, b"\0")
        return self.wrapped(int.from_bytes(covered) >> (7 - (self.at + self.width - 1) % 8))

    def write(self, value: bytearray, number: int) -> None:
        """Set the field's number."""
        first, last = self.at >> 3, (self.at + self.width - 1) >> 3
        shift = 7 - (self.at + self.width - 1) % 8
        mask = (1 << self.width) - 1
        bits = int.from_bytes(value[first : last + 1]) & ~(mask << shift)
        bits |= (number & mask) << shift
        value[first : last + 1] = bits.to_bytes(last + 1 - first)

    def fitting(self, number: int) -> int | None:
        """Return a number as the field takes it; None if it does not."""
        lowest, highest = self.limits
        if lowest <= number <= highest:
            return number
        if self.overflow == b"fail":
            return None
        if self.overflow == b"wrap":
            return self.wrapped(number)
        return lowest if number < lowest else highest


def _width(text: bytes) -> tuple[bool, int]:
    """Return whether a type of fields has a sign, and its number of bits."""
    is_signed = text[:1] == b"i"
    width = integer(text[1:], _NO_TYPE)
    if text[:1] not in (b"i", b"u") or not 1 <= width <= (64 if is_signed else 63):
        raise Error(_NO_TYPE)
    return is_signed, width


def _operations(words: list[bytes]) -> list[_Operation]:
    found: list[_Operation] = []
    overflow, at = b"wrap", 0
    while at < len(words):
        name = words[at].lower()
        count = _ARGUMENTS.get(name)
        if count is None or at + count >= len(words):
            raise Error(SYNTAX)
        given = words[at + 1 : at + 1 + count]
        at += 1 + count
        if name == b"overflow":
            overflow = given[0].lower()
            if overflow not in (b"wrap", b"sat", b"fail"):
                raise Error("ERR Invalid OVERFLOW type specified")
            continue
        is_signed, width = _width(given[0])
        offset = offset_of(given[1], width)
        number = 0 if name == b"get" else integer(given[2])
        found.append(_Operation(name, offset, width, is_signed, number, overflow))
    return found


def bitfield(client: Client, arguments: list[bytes]) -> Answer:
    """BITFIELD key [GET | [OVERFLOW WRAP|SAT|FAIL] SET | INCRBY type offset [value]]..."""
    return _run(client, arguments[1], _operations(arguments[2:]))


def bitfield_ro(client: Client, arguments: list[bytes]) -> Answer:
    """BITFIELD_RO key [GET type offset]..."""
    operations = _operations(arguments[2:])
    if any(one.name != b"get" for one in operations):
        raise Error("ERR BITFIELD_RO only supports the GET subcommand")
    return _run(client, arguments[1], operations)


def _run(client: Client, key: bytes, operations: list[_Operation]) -> Answer:
    written = [one.at + one.width - 1 for one in operations if one.name != b"get"]
    if not written:
        value = stored(client, key)
        return [one.read(value) for one in operations]
    changed, expires, is_longer = string_to_change(client, key, max(written))
    is_changed = False
    replies: list[Reply] = []
    for one in operations:
        old = one.read(changed)
        if one.name == b"get":
            replies.append(old)
            continue
        number = old + one.number if one.name == b"incrby" else one.number
        new = one.fitting(number)
        if new is None:
            replies.append(None)
            continue
        one.write(changed, new)
        is_changed = is_changed or is_longer or new != old
        replies.append(old if one.name == b"set" else new)
    if is_changed or is_longer:
        client.store.put(key, bytes(changed), expires)
        if not is_changed:
            client.store.dirty.clear()  # Redis makes the string longer, but reports no change
    return replies


HANDLERS: Mapping[str, Handler] = {"bitfield": bitfield, "bitfield_ro": bitfield_ro}
