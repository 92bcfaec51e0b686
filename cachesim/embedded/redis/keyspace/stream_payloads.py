"""Streams in payloads of DUMP: their entries in listpacks, and their consumer groups."""

import struct
from typing import TYPE_CHECKING, Any

from cachesim.embedded.redis.keyspace.packed import listpack_in, listpack_of
from cachesim.embedded.redis.keyspace.payloads import (
    MalformedError,
    Reader,
    length_of,
    string_of,
)
from cachesim.embedded.redis.keyspace.streams import (
    Group,
    Pending,
    groups_of,
    make_id,
    new_stream,
)

if TYPE_CHECKING:
    from fakeredis.model import StreamEntryKey, XStream

_DELETED, _SAME_FIELDS = 1, 2
_UNKNOWN = 2**64 - 1
"""How many entries a group has read, if nobody knows."""


def stream_of(stream: "XStream") -> bytes:
    """Return a stream as a payload has it."""
    spans = [stream._node_span(number) for number in range(len(stream._nodes))]
    body = bytearray(length_of(len(spans)))
    for node, (begin, end) in zip(stream._nodes, spans, strict=True):
        ids = stream._ids[begin:end]
        body += string_of(struct.pack(">QQ", *node.master_id))
        body += string_of(listpack_of(_elements(stream, node.master_id, ids)))
    body += length_of(len(stream)) + _id(stream.last_id)
    body += _id(stream.first_id if len(stream) else make_id(0, 0)) + _id(stream.max_deleted_id)
    body += length_of(stream.entries_added) + length_of(len(groups_of(stream)))
    for name, group in groups_of(stream).items():
        body += string_of(name) + _id(group.last)
        body += length_of(_UNKNOWN if group.read is None else group.read)
        body += length_of(len(group.pending))
        for id_ in group.pending_of(None):
            held = group.pending[id_]
            body += struct.pack(">QQ", *id_) + struct.pack("<q", held.delivered)
            body += length_of(held.count)
        body += length_of(len(group.consumers))
        for consumer, seen in group.consumers.items():
            ids = group.pending_of(consumer)
            body += string_of(consumer) + struct.pack("<q", seen) + length_of(len(ids))
            body += b"".join(struct.pack(">QQ", *id_) for id_ in ids)
    return bytes(body)


def _id(id_: "StreamEntryKey") -> bytes:
    return length_of(id_[0]) + length_of(id_[1])


def _elements(
    stream: "XStream", first: "StreamEntryKey", ids: "list[StreamEntryKey]"
) -> list[bytes | int]:
    """Return the elements of a node's listpack. Each entry has its own names of fields."""
    found: list[bytes | int] = [len(ids), 0, 0, 0]
    for id_ in ids:
        flat = stream._values_dict[id_]
        found += [0, id_[0] - first[0], id_[1] - first[1], len(flat) // 2, *flat, len(flat) + 4]
    return found


def read_stream(reader: Reader, *, has_counts: bool, has_activity: bool) -> Any:
    """Read a stream.

    Args:
        has_counts: whether the payload has what Redis 7.0 added: how many entries there were.
        has_activity: whether it has what Redis 7.2 added: when consumers last got entries.

    Raises:
        MalformedError: it is none.
    """
    stream = new_stream()
    for _ in range(reader.length()):
        first = make_id(*struct.unpack(">QQ", _of_size(reader.string(), 16)))
        _add_entries(stream, first, listpack_in(reader.string()))
    count = reader.length()
    last = make_id(reader.length(), reader.length())
    if count != len(stream) or (count and last < stream.last_id):
        raise MalformedError
    stream._last_id = last
    stream._entries_added = count
    if has_counts:
        reader.length(), reader.length()  # the first id
        stream._max_deleted_id = make_id(reader.length(), reader.length())
        stream._entries_added = reader.length()
    for _ in range(reader.length()):
        name = reader.string()
        group = _read_group(reader, has_counts=has_counts, has_activity=has_activity)
        groups_of(stream)[name] = group
    return stream


def _of_size(text: bytes, size: int) -> bytes:
    if len(text) != size:
        raise MalformedError
    return text


def _add_entries(stream: "XStream", first: "StreamEntryKey", elements: list[bytes]) -> None:
    """Add the entries of a node."""
    words = iter(elements)
    try:
        count, deleted, width = (int(next(words)) for _ in range(3))
        names = [next(words) for _ in range(width)]
        next(words)
        for _ in range(count + deleted):
            flags, milliseconds, sequence = (int(next(words)) for _ in range(3))
            is_same = bool(flags & _SAME_FIELDS)
            pairs = width if is_same else int(next(words))
            flat = []
            for number in range(pairs):
                flat += [names[number] if is_same else next(words), next(words)]
            next(words)
            id_ = make_id(first[0] + milliseconds, first[1] + sequence)
            if not flags & _DELETED:
                if len(stream) and id_ <= stream.last_id:
                    raise MalformedError
                stream.add(flat, id_)
    except (StopIteration, RuntimeError, ValueError):
        raise MalformedError from None


def _read_group(reader: Reader, *, has_counts: bool, has_activity: bool) -> Group:
    last = make_id(reader.length(), reader.length())
    read = reader.length() if has_counts else _UNKNOWN
    group = Group(last, None if read == _UNKNOWN else read)
    times = {}
    for _ in range(reader.length()):
        id_ = make_id(*struct.unpack(">QQ", reader.take(16)))
        times[id_] = reader.number("<q"), reader.length()
    for _ in range(reader.length()):
        consumer = reader.string()
        group.consumers[consumer] = reader.number("<q")
        if has_activity:
            reader.number("<q")
        for _ in range(reader.length()):
            id_ = make_id(*struct.unpack(">QQ", reader.take(16)))
            if id_ not in times:
                raise MalformedError
            group.pending[id_] = Pending(consumer, *times[id_])
    if group.pending.keys() != times.keys():
        raise MalformedError
    return group
