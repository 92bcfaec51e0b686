"""Redis's serialization of values, for DUMP and RESTORE.

RESTORE reads the packed and compressed forms of Redis 7.0, DUMP writes the plain ones. fakeredis
pickles values, so its RESTORE would let a client run any code. This module reads only data.
"""

import struct
from typing import Any

from cachesim.embedded.redis.keyspace.packed import integers_in, listpack_in, nodes_in
from cachesim.embedded.redis.keyspace.payloads import (
    MalformedError,
    Reader,
    length_of,
    opened,
    sealed,
    string_of,
)
from cachesim.embedded.redis.keyspace.stream_payloads import read_stream, stream_of
from cachesim.embedded.redis.keyspace.values import Hash, real
from cachesim.protocols.resp import Error

_STRING, _LIST, _SET, _HASH, _ZSET = 0, 1, 2, 4, 5
_KINDS = {"string": _STRING, "list": _LIST, "set": _SET, "hash": _HASH, "zset": _ZSET}
_INTSET, _PACKED_HASH, _PACKED_ZSET, _NODES, _PACKED_SET = 11, 16, 17, 18, 20
_STREAMS = {15: (False, False), 19: (True, False), 21: (True, True)}
"""For each form of streams: whether it has counts, and the activity of consumers."""
_STREAM = 19
_MOST_ELEMENTS = 1 << 24


def dumped(kind: str, value: Any) -> bytes:
    """Return a value in Redis's serialization.

    Args:
        kind: the type of the value, as `TYPE` returns it.
    """
    if kind == "stream":
        return sealed(bytes((_STREAM,)) + stream_of(value))
    code = _KINDS[kind]
    body = bytearray((code,))
    body += length_of(len(value))
    if code == _STRING:
        body += value
    elif code == _ZSET:
        for member, score in value.items():
            body += string_of(member) + struct.pack("<d", score)
    elif code == _HASH:
        for field, content in value.items():
            body += string_of(field) + string_of(content)
    else:
        for element in value:
            body += string_of(element)
    return sealed(bytes(body))


def restored(payload: bytes) -> Any:
    """Return the value of a payload of DUMP.

    Raises:
        Error: the payload is damaged, or has a form that Redis 7.0 does not write.
    """
    reader = Reader(opened(payload))
    try:
        code = reader.take(1)[0]
        value = _read(code, reader)
    except (MalformedError, struct.error):
        raise Error("ERR Bad data format") from None
    if code not in _STREAMS and not value and not isinstance(value, bytes):
        raise Error("ERR Bad data format")
    return value


def _read(code: int, reader: Reader) -> Any:
    """Read a value of a type."""
    if code == _STRING:
        return reader.string()
    if code == _LIST:
        return [reader.string() for _ in range(_count(reader))]
    if code == _NODES:
        return nodes_in(reader)
    if code in (_SET, _INTSET, _PACKED_SET):
        if code == _SET:
            return _set([reader.string() for _ in range(_count(reader))])
        return _set((integers_in if code == _INTSET else listpack_in)(reader.string()))
    if code == _HASH:
        return _hash([reader.string() for _ in range(2 * _count(reader))])
    if code == _PACKED_HASH:
        return _hash(listpack_in(reader.string()))
    if code == _ZSET:
        pairs = [(reader.string(), _double(reader)) for _ in range(_count(reader))]
        return _sorted_set(pairs)
    if code == _PACKED_ZSET:
        parts = listpack_in(reader.string())
        try:
            return _sorted_set(list(zip(parts[::2], map(real, parts[1::2]), strict=True)))
        except (Error, ValueError):
            raise MalformedError from None
    if code in _STREAMS:
        has_counts, has_activity = _STREAMS[code]
        return read_stream(reader, has_counts=has_counts, has_activity=has_activity)
    raise MalformedError


def _count(reader: Reader) -> int:
    count = reader.length()
    if count > _MOST_ELEMENTS:
        raise MalformedError
    return count


def _double(reader: Reader) -> float:
    return float(struct.unpack("<d", reader.take(8))[0])


def _set(members: list[bytes]) -> Any:
    from fakeredis.model import ExpiringMembersSet

    return ExpiringMembersSet(dict.fromkeys(members))


def _hash(parts: list[bytes]) -> Hash:
    made = Hash()
    if len(parts) % 2:
        raise MalformedError
    for field, content in zip(parts[::2], parts[1::2], strict=True):
        made.put(field, content)
    return made


def _sorted_set(pairs: list[tuple[bytes, float]]) -> Any:
    from fakeredis.model import ZSet

    scored = ZSet()
    for member, score in pairs:
        scored.add(member, score)
    return scored
