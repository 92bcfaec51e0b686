"""Redis's serialization of values, for DUMP and RESTORE, without streams and packed forms.

fakeredis pickles values, so its RESTORE would let a client run any code. This module
reads only data.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

from cachesim.embedded.redis.keyspace.values import Hash
from cachesim.protocols.resp import Error

_VERSION = 10  # of the format, Redis 7.0's
BAD = "ERR DUMP payload version or checksum are wrong"
_STRING, _LIST, _SET, _HASH, _ZSET = 0, 1, 2, 4, 5
_KINDS = {"string": _STRING, "list": _LIST, "set": _SET, "hash": _HASH, "zset": _ZSET}
_MOST_ELEMENTS = 1 << 24


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
    """Return Redis's CRC-64 (Jones, reflected)."""
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


def dumped(kind: str, value: Any) -> bytes:
    """Return a value in Redis's serialization.

    Args:
        kind: the type of the value, as `TYPE` returns it.

    Raises:
        Error: an embedded node can't dump values of that type.
    """
    if kind not in _KINDS:
        raise Error(f"ERR DUMP of a {kind} is not supported by an embedded node")
    code = _KINDS[kind]
    body = bytearray((code,))
    body += _length(len(value))
    if code == _STRING:
        body += value
    elif code == _ZSET:
        for member, score in value.items():
            body += _length(len(member)) + member + struct.pack("<d", score)
    elif code == _HASH:
        for field, content in value.items():
            body += _length(len(field)) + field + _length(len(content)) + content
    else:
        for element in value:
            body += _length(len(element)) + element
    body += struct.pack("<H", _VERSION)
    return bytes(body) + struct.pack("<Q", crc64(bytes(body)))


def restored(payload: bytes) -> Any:
    """Return the value of a payload of DUMP.

    Raises:
        Error: the payload is damaged, or uses a packed or compressed form.
    """
    if len(payload) < 11:
        raise Error(BAD)
    body, version, crc = payload[:-10], payload[-10:-8], payload[-8:]
    if struct.unpack("<H", version)[0] > _VERSION or struct.unpack("<Q", crc)[0] != crc64(
        body + version
    ):
        raise Error(BAD)
    code = body[0]
    if code not in _KINDS.values():
        raise Error("ERR Bad data format")
    try:
        parts = list(_parts(code, _reader(body, 1)))
    except (IndexError, struct.error):
        raise Error("ERR Bad data format") from None
    return _value(code, parts)


def _value(code: int, parts: list[Any]) -> Any:
    """Return the value with these elements, fields and contents, or members and scores."""
    from fakeredis.model import ExpiringMembersSet, ZSet

    if code == _STRING:
        return parts[0]
    if code == _LIST:
        return parts
    if code == _SET:
        return ExpiringMembersSet(dict.fromkeys(parts))
    if code == _HASH:
        made = Hash()
        for field, content in zip(parts[::2], parts[1::2], strict=True):
            made.put(field, content)
        return made
    scored = ZSet()
    for member, score in zip(parts[::2], parts[1::2], strict=True):
        scored.add(member, score)
    return scored


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
    """Read a string, or one of the small integers that Redis writes for strings."""
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
