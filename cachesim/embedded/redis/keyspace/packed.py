"""Packed forms of values in payloads: listpacks, sets of integers, and lists of listpacks."""

import struct
from collections.abc import Iterable

from cachesim.embedded.redis.keyspace.payloads import MalformedError, Reader
from cachesim.embedded.redis.keyspace.values import is_integer

_SIZES = {1: "b", 2: "h", 4: "i", 8: "q"}
_PLAIN, _PACKED = 1, 2  # nodes of a list


def integers_in(data: bytes) -> list[bytes]:
    """Return the members of a packed set of integers."""
    if len(data) < 8:
        raise MalformedError
    size, count = struct.unpack("<II", data[:8])
    if size not in _SIZES or len(data) != 8 + size * count:
        raise MalformedError
    return [b"%d" % number for number in struct.unpack(f"<{count}{_SIZES[size]}", data[8:])]


def listpack_in(data: bytes) -> list[bytes]:
    """Return the elements of a listpack, integers as their digits."""
    if len(data) < 7 or struct.unpack("<I", data[:4])[0] != len(data) or data[-1] != 0xFF:
        raise MalformedError
    reader = Reader(data[6:-1])
    found = []
    while not reader.is_at_end:
        element, size = _element(reader)
        found.append(element)
        reader.take(1 if size < 128 else 2 if size < 1 << 14 else 3 if size < 1 << 21 else 4)
    return found


def listpack_of(elements: Iterable[bytes | int]) -> bytes:
    """Return a listpack of elements. Those that are integers of 64 bits are packed as integers."""
    body = bytearray()
    count = 0
    for element in elements:
        packed = _packed(element)
        body += packed
        size, groups = len(packed), [len(packed) & 127]
        while size := size >> 7:
            groups.append(size & 127 | 128)
        # Read from the end, the highest bit tells that there is more.
        body += bytes([*reversed(groups[1:]), groups[0] | 128] if len(groups) > 1 else groups)
        count += 1
    return struct.pack("<IH", len(body) + 7, min(count, 0xFFFF)) + bytes(body) + b"\xff"


def _packed(element: bytes | int) -> bytes:
    """Return an element without its length at the end."""
    if isinstance(element, bytes):
        if not is_integer(element):
            length = len(element)
            if length < 64:
                return bytes([0x80 | length]) + element
            if length < 4096:
                return struct.pack(">H", 0xE000 | length) + element
            return b"\xf0" + struct.pack("<I", length) + element
        element = int(element)
    if 0 <= element < 128:
        return bytes([element])
    if -4096 <= element < 4096:
        return struct.pack(">H", 0xC000 | element & 0x1FFF)
    for head, size in ((0xF1, 2), (0xF2, 3), (0xF3, 4), (0xF4, 8)):
        if -(1 << (8 * size - 1)) <= element < 1 << (8 * size - 1):
            return bytes([head]) + element.to_bytes(size, "little", signed=True)
    raise ValueError(element)


def _element(reader: Reader) -> tuple[bytes, int]:
    """Read an element. Return it, and how many bytes it took."""
    first = reader.take(1)[0]
    if first < 0x80:
        return b"%d" % first, 1
    if first < 0xC0:
        return reader.take(first & 0x3F), 1 + (first & 0x3F)
    if first < 0xE0:
        number = (first & 0x1F) << 8 | reader.take(1)[0]
        return b"%d" % (number - (1 << 13) if number >= 1 << 12 else number), 2
    if first < 0xF0:
        length = (first & 0x0F) << 8 | reader.take(1)[0]
        return reader.take(length), 2 + length
    if first == 0xF0:
        length = reader.number("<I")
        return reader.take(length), 5 + length
    if first == 0xF2:  # 24 bits
        low, high = reader.number("<H"), reader.number("<b")
        return b"%d" % (high << 16 | low), 4
    form = {0xF1: "<h", 0xF3: "<i", 0xF4: "<q"}.get(first)
    if form is None:
        raise MalformedError
    return b"%d" % reader.number(form), 1 + struct.calcsize(form)


def nodes_in(reader: Reader) -> list[bytes]:
    """Read the nodes of a list, and return their elements."""
    found: list[bytes] = []
    for _ in range(reader.length()):
        form, data = reader.length(), reader.string()
        if form == _PLAIN:
            found.append(data)
        elif form == _PACKED:
            found += listpack_in(data)
        else:
            raise MalformedError
    return found
