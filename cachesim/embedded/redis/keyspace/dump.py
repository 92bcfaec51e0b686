"""DUMP and RESTORE: values as Redis's own serialization, of the types whose form is plain.

fakeredis pickles values, so a client could have anything run by its RESTORE. Here bytes are bytes.
"""

import struct
from collections.abc import Callable, Iterator

from cachesim.protocols.resp import Error

_VERSION = 10  # of the format, Redis 7.0's
BAD = "ERR DUMP payload version or checksum are wrong"
_STRING, _LIST, _SET, _HASH, _ZSET = 0, 1, 2, 4, 5
_KINDS = {"string": _STRING, "list": _LIST, "set": _SET, "hash": _HASH, "zset": _ZSET}
_MOST_ELEMENTS = 1 << 24
Value = bytes | list[bytes]


def _crc_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = (value >> 1) ^ (0x95AC9329AC4BC9B5 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC = _crc_table()


def crc64(data: bytes) -> int:
    """Redis's CRC-64 (Jones, reflected)."""
    value = 0
    for byte in data:
        value = _CRC[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value


def _length(count: int) -> bytes:
    if count < 1 << 6:
        return bytes((count,))
    if count < 1 << 14:
        return struct.pack(">H", 0x4000 | count)
    return b"\x80" + struct.pack(">I", count)


def dumped(kind: str, parts: list[bytes]) -> bytes:
    """A value of a type.

    Args:
        parts: the string, the elements, fields and values in turn, or members and scores (as
            text) in turn.

    Raises:
        Error: values of that type can't be dumped here.
    """
    if kind not in _KINDS:
        raise Error(f"ERR DUMP of a {kind} is not supported by an embedded node")
    code = _KINDS[kind]
    body = bytearray((code,))
    if code == _STRING:
        body += _length(len(parts[0])) + parts[0]
    else:
        body += _length(len(parts) // (2 if code in (_HASH, _ZSET) else 1))
        for number, part in enumerate(parts):
            if code == _ZSET and number % 2:
                body += struct.pack("<d", float(part))
            else:
                body += _length(len(part)) + part
    body += struct.pack("<H", _VERSION)
    return bytes(body) + struct.pack("<Q", crc64(bytes(body)))


def restored(payload: bytes) -> tuple[str, list[bytes | float]]:
    """What `dumped` made: the type, and its parts; scores as numbers.

    Raises:
        Error: it is damaged, or in a form that is not plain.
    """
    if len(payload) < 11:
        raise Error(BAD)
    body, version, crc = payload[:-10], payload[-10:-8], payload[-8:]
    if struct.unpack("<H", version)[0] > _VERSION or struct.unpack("<Q", crc)[0] != crc64(
        body + version
    ):
        raise Error(BAD)
    code, reader = body[0], _reader(body, 1)
    kind = next((name for name, known in _KINDS.items() if known == code), None)
    if kind is None:
        raise Error("ERR Bad data format")
    try:
        return kind, list(_parts(code, reader))
    except (IndexError, struct.error):
        raise Error("ERR Bad data format") from None


def _reader(body: bytes, at: int) -> Callable[[int], bytes]:
    position = at

    def read(count: int) -> bytes:
        nonlocal position
        if count < 0 or position + count > len(body):
            raise IndexError
        position += count
        return body[position - count : position]

    return read


def _read_length(read: Callable[[int], bytes]) -> int:
    first = read(1)[0]
    form = first >> 6
    if form == 0:
        return first & 0x3F
    if form == 1:
        return (first & 0x3F) << 8 | read(1)[0]
    if first == 0x80:
        return int(struct.unpack(">I", read(4))[0])
    raise IndexError


def _read_string(read: Callable[[int], bytes]) -> bytes:
    """A string, or one of the small integers that Redis writes for strings."""
    first = read(1)[0]
    if first >> 6 == 3:
        sizes = {0xC0: "<b", 0xC1: "<h", 0xC2: "<i"}
        form = sizes.get(first)
        if form is None:
            raise IndexError
        return b"%d" % struct.unpack(form, read(struct.calcsize(form)))[0]
    if first >> 6 == 0:
        return read(first & 0x3F)
    if first >> 6 == 1:
        return read((first & 0x3F) << 8 | read(1)[0])
    return read(int(struct.unpack(">I", read(4))[0]))


def _parts(code: int, read: Callable[[int], bytes]) -> Iterator[bytes | float]:
    if code == _STRING:
        yield _read_string(read)
        return
    count = _read_length(read)
    if count > _MOST_ELEMENTS:
        raise IndexError
    for _ in range(count):
        yield _read_string(read)
        if code == _HASH:
            yield _read_string(read)
        elif code == _ZSET:
            yield float(struct.unpack("<d", read(8))[0])
