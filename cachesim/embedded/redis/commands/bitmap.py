"""The bitmap commands. BITFIELD is in `bitfield`."""

from collections.abc import Mapping
from functools import reduce

from cachesim.embedded.redis.commands import bitfield
from cachesim.embedded.redis.commands.common.bits import (
    offset_of,
    stored,
    string_to_change,
)
from cachesim.embedded.redis.commands.string import string
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer
from cachesim.protocols.resp import Error

_NO_BIT = "ERR bit is not an integer or out of range"


def setbit(client: Client, arguments: list[bytes]) -> Answer:
    """SETBIT key offset value."""
    at = offset_of(arguments[2])
    bit = integer(arguments[3], _NO_BIT)
    if bit not in (0, 1):
        raise Error(_NO_BIT)
    value, expires, is_longer = string_to_change(client, arguments[1], at)
    mask = 0x80 >> (at & 7)
    old = value[at >> 3] & mask
    if is_longer or bool(old) != bool(bit):
        value[at >> 3] ^= mask if bool(old) != bool(bit) else 0
        client.store.put(arguments[1], bytes(value), expires)
    return int(bool(old))


def getbit(client: Client, arguments: list[bytes]) -> Answer:
    """GETBIT key offset."""
    at = offset_of(arguments[2])
    value = stored(client, arguments[1])
    return value[at >> 3] >> (7 - (at & 7)) & 1 if at >> 3 < len(value) else 0


def _is_in_bits(words: list[bytes]) -> bool:
    """Return whether a range counts bits, given what follows it: `BYTE`, `BIT` or nothing."""
    if not words:
        return False
    if len(words) > 1 or words[0].lower() not in (b"byte", b"bit"):
        raise Error(SYNTAX)
    return words[0].lower() == b"bit"


def _limits(first: int, last: int, size: int) -> tuple[int, int]:
    """Return a range whose ends may count from the end, as indexes within a size."""
    first, last = (max(0, at + size) if at < 0 else at for at in (first, last))
    return first, min(last, size - 1)


def bitcount(client: Client, arguments: list[bytes]) -> Answer:
    """BITCOUNT key [start end [BYTE | BIT]]."""
    item = string(client, arguments[1])
    if item is None:
        return 0
    value: bytes = item.value
    if len(arguments) == 2:
        return int.from_bytes(value).bit_count()
    if not 4 <= len(arguments) <= 5:
        raise Error(SYNTAX)
    first, last = integer(arguments[2]), integer(arguments[3])
    if first < 0 and last < 0 and first > last:
        return 0
    in_bits = _is_in_bits(arguments[4:])
    first, last = _limits(first, last, len(value) * (8 if in_bits else 1))
    if first > last:
        return 0
    if not in_bits:
        return int.from_bytes(value[first : last + 1]).bit_count()
    number = int.from_bytes(value[first >> 3 : (last >> 3) + 1])
    number = number >> (7 - (last & 7)) & (1 << (last - first + 1)) - 1
    return number.bit_count()


def bitpos(client: Client, arguments: list[bytes]) -> Answer:
    """BITPOS key bit [start [end [BYTE | BIT]]]."""
    bit = integer(arguments[2])
    if bit not in (0, 1):
        raise Error("ERR The bit argument must be 1 or 0.")
    item = string(client, arguments[1])
    if item is None:
        return -bit
    value: bytes = item.value
    if len(arguments) > 6:
        raise Error(SYNTAX)
    first = integer(arguments[3]) if len(arguments) > 3 else 0
    in_bits = _is_in_bits(arguments[5:])
    last = integer(arguments[4]) if len(arguments) > 4 else -1
    scale = 1 if in_bits else 8
    size = len(value) * 8 // scale
    first, last = _limits(first, last, size)
    if first > last:
        return -1
    begin, end = first * scale, (last + 1) * scale
    found = _first_bit(value, bit, begin, end)
    if found is not None:
        return found
    # Without an end the string goes on with zeros.
    return end if bit == 0 and len(arguments) < 5 else -1


def _first_bit(value: bytes, bit: int, begin: int, end: int) -> int | None:
    """Return the first position with a bit, from one position to before another one."""
    covered = bytearray(value[begin >> 3 : (end + 7) >> 3])
    if not bit:
        covered = bytearray(covered.translate(_INVERTED))
    covered[0] &= 0xFF >> (begin & 7)
    if end & 7:
        covered[-1] &= 0xFF << (8 - (end & 7)) & 0xFF
    zeros = len(covered) - len(covered.lstrip(b"\0"))
    if zeros == len(covered):
        return None
    return (begin & ~7) + zeros * 8 + 8 - covered[zeros].bit_length()


_INVERTED = bytes(range(255, -1, -1))


def bitop(client: Client, arguments: list[bytes]) -> Answer:
    """BITOP AND|OR|XOR|NOT target key..."""
    operation = arguments[1].lower()
    if operation not in (b"and", b"or", b"xor", b"not"):
        raise Error(SYNTAX)
    if operation == b"not" and len(arguments) != 4:
        raise Error("ERR BITOP NOT must be called with a single source key.")
    values = [stored(client, key) for key in arguments[3:]]
    size = max(map(len, values))
    if not size:
        client.store.remove(arguments[2])
        return 0
    numbers = [int.from_bytes(value.ljust(size, b"\0")) for value in values]
    if operation == b"not":
        result = numbers[0] ^ (1 << size * 8) - 1
    elif operation == b"and":
        result = reduce(int.__and__, numbers)
    elif operation == b"or":
        result = reduce(int.__or__, numbers)
    else:
        result = reduce(int.__xor__, numbers)
    client.store.put(arguments[2], result.to_bytes(size))
    return size


HANDLERS: Mapping[str, Handler] = {
    **bitfield.HANDLERS,
    "bitcount": bitcount,
    "bitop": bitop,
    "bitpos": bitpos,
    "getbit": getbit,
    "setbit": setbit,
}
