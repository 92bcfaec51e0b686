"""Streams: their ids, and the requests that recreate them. fakeredis has no commands for this."""

from collections.abc import Iterator
from typing import Any, cast

from cachesim.protocols.resp import Error


def last_id(stream: Any) -> bytes:
    """Return the last id that a stream has generated."""
    return cast(bytes, stream.last_id.encode())


def set_stream_id(stream: Any, last: bytes, added: int | None, deleted: bytes | None) -> None:
    """Set the last id, the entries added and the largest deleted id, as XSETID does.

    Raises:
        Error: an id is malformed, or an id or the count is less than the stream's own.
    """
    from fakeredis._helpers import SimpleError
    from fakeredis.model import StreamEntryKey
    from fakeredis.model._stream import MIN_KEY

    try:
        last_id = StreamEntryKey.parse_str(last)
        deleted_id = StreamEntryKey.parse_str(deleted) if deleted is not None else None
    except SimpleError as error:
        raise Error(error.value) from None
    if deleted_id is not None and last_id < deleted_id:
        raise Error(
            "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id"
        )
    if len(stream) and last_id < stream._ids[-1]:
        raise Error("ERR The ID specified in XSETID is smaller than the target stream top item")
    if added is not None and len(stream) > added:
        raise Error(
            "ERR The entries_added specified in XSETID is smaller than the target stream length"
        )
    stream._last_id = last_id
    if added is not None:
        stream._entries_added = added
    if deleted_id is not None and deleted_id != MIN_KEY:
        stream._max_deleted_id = deleted_id


def recreate_stream(key: bytes, stream: Any) -> Iterator[list[bytes]]:
    """Yield the requests that recreate a stream with its groups and their pending entries."""
    if not len(stream):
        yield [b"XADD", key, b"MAXLEN", b"0", b"0-1", b"x", b"y"]
    for entry, fields in stream:
        yield [b"XADD", key, entry, *fields]
    yield [
        b"XSETID", key, stream.last_id.encode(), b"ENTRIESADDED", b"%d" % stream.entries_added,
        b"MAXDELETEDID", stream.max_deleted_id.encode(),
    ]  # fmt: skip
    for name, group in stream._groups.items():
        read = -1 if group.entries_read is None else group.entries_read
        last = group.last_delivered_key.encode()
        yield [b"XGROUP", b"CREATE", key, name, last, b"ENTRIESREAD", b"%d" % read]
        for consumer in group.consumers:
            yield [b"XGROUP", b"CREATECONSUMER", key, name, consumer]
        for entry, pending in group.pel.items():
            yield [
                b"XCLAIM", key, name, pending.consumer_name, b"0", entry.encode(),
                b"TIME", b"%d" % pending.time_read, b"RETRYCOUNT",
                b"%d" % pending.times_delivered, b"FORCE", b"JUSTID",
            ]  # fmt: skip
