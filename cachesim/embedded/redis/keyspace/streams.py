"""Streams: ids, consumer groups, and the requests that recreate them.

The entries are in fakeredis's stream, which models the nodes of Redis's radix tree: `XTRIM ~` trims
whole nodes. The stream's consumer groups are `Group`s.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from cachesim.protocols.resp import Error

if TYPE_CHECKING:
    from fakeredis.model import StreamEntryKey, XStream

INVALID_ID = "ERR Invalid stream ID specified as stream command argument"
_MOST = 2**64 - 1
_NUMBER = re.compile(rb"[ \t-\r]*[+-]?\d+")  # as strtoull() parses it


@dataclass
class Pending:
    """A delivered entry that is not acknowledged yet.

    Attributes:
        delivered: the time of the last delivery, in milliseconds since the epoch.
        count: the number of deliveries.
    """

    consumer: bytes
    delivered: int
    count: int = 1


@dataclass
class Group:
    """A consumer group.

    Attributes:
        last: the id of the last delivered entry.
        read: the number of delivered entries; None if unknown.
        consumers: when each consumer was last active, in milliseconds since the epoch.
        pending: the pending entries by id.
    """

    last: "StreamEntryKey"
    read: int | None = None
    consumers: dict[bytes, int] = field(default_factory=dict)
    pending: "dict[StreamEntryKey, Pending]" = field(default_factory=dict)

    def pending_of(self, consumer: bytes | None) -> "list[StreamEntryKey]":
        """Return the ids pending with a consumer (None: with any), in order."""
        return sorted(
            id_ for id_, held in self.pending.items() if consumer in (None, held.consumer)
        )

    def deliver(self, stream: "XStream", id_: "StreamEntryKey") -> None:
        """Note that an entry is delivered."""
        if id_ <= self.last:
            return
        if self.read is not None and not stream.has_tombstones_from(id_):
            self.read += 1
        elif stream.entries_added:
            self.read = stream.estimate_entries_read(id_)
        self.last = id_

    def lag(self, stream: "XStream") -> int | None:
        """Return the number of entries not delivered yet; None if unknown."""
        if not stream.entries_added:
            return 0
        read = self.read
        if read is None or stream.has_tombstones_from(self.last):
            read = stream.estimate_entries_read(self.last)
        return None if read is None else stream.entries_added - read


def groups_of(stream: "XStream") -> dict[bytes, Group]:
    """Return the consumer groups of a stream, by name."""
    return cast("dict[bytes, Group]", stream._groups)


def new_stream() -> "XStream":
    """Return an empty stream."""
    from fakeredis.model import XStream

    return XStream()


def make_id(milliseconds: int, sequence: int) -> "StreamEntryKey":
    """Return an id."""
    from fakeredis.model import StreamEntryKey

    return StreamEntryKey(milliseconds, sequence)


def parse_id(text: bytes, missing: int = 0) -> "StreamEntryKey":
    """Parse an id, `ms` or `ms-sequence`.

    Args:
        missing: the sequence for an id that has none.

    Raises:
        Error: the id is malformed.
    """
    milliseconds, dash, sequence = text.partition(b"\0")[0].partition(b"-")
    if len(text) > 127:
        raise Error(INVALID_ID)
    return make_id(_part(milliseconds), _part(sequence) if dash else missing)


def parse_bound(text: bytes, *, is_end: bool) -> "StreamEntryKey":
    """Parse an end of a range: an id, `(` and an id, `-`, or `+`. Return the id at this end.

    Raises:
        Error: the end is malformed, or excludes all ids.
    """
    if text in (b"-", b"+"):
        return make_id(0, 0) if text == b"-" else make_id(_MOST, _MOST)
    excludes = len(text) > 1 and text[:1] == b"("
    id_ = parse_id(text[1:] if excludes else text, _MOST if is_end else 0)
    if not excludes:
        return id_
    number = id_[0] * (_MOST + 1) + id_[1] + (-1 if is_end else 1)
    if not 0 <= number < (_MOST + 1) ** 2:
        raise Error(f"ERR invalid {'end' if is_end else 'start'} ID for the interval")
    return make_id(*divmod(number, _MOST + 1))


def _part(text: bytes) -> int:
    if not _NUMBER.fullmatch(text) or abs(number := int(text)) > _MOST:
        raise Error(INVALID_ID)
    if number < 0 and b"%d" % number == text:
        raise Error(INVALID_ID)
    return number % (_MOST + 1)


def next_id(
    stream: "XStream", asked: "StreamEntryKey | None", now: int, *, has_sequence: bool
) -> "StreamEntryKey":
    """Return the id of a new entry.

    Args:
        asked: the id that the client has given; None: the present time.
        now: milliseconds since the epoch.
        has_sequence: False for `ms-*`.

    Raises:
        Error: the id is not larger than the last id, or all ids are used up.
    """
    last = stream.last_id
    if last == (_MOST, _MOST):
        raise Error("ERR The stream has exhausted the last possible ID, unable to add more items")
    id_ = asked or make_id(now, 0)
    if asked is None and now <= last.ts:
        id_ = make_id(last.ts, last.seq + 1) if last.seq < _MOST else make_id(last.ts + 1, 0)
    elif not has_sequence and id_.ts == last.ts and last.seq < _MOST:
        id_ = make_id(last.ts, last.seq + 1)
    if id_ <= last:
        raise Error(
            "ERR The ID specified in XADD is equal or smaller than the target stream top item"
        )
    return id_


def entries(
    stream: "XStream",
    start: "StreamEntryKey",
    end: "StreamEntryKey | None" = None,
    count: int = 0,
    *,
    reverse: bool = False,
) -> "list[StreamEntryKey]":
    """Return the ids from `start` to `end`, both included; at most `count`, unless it is 0."""
    first, _ = stream.find_index(start)
    last = len(stream) if end is None else stream.find_index(end, from_left=False)[0]
    if reverse:
        chosen = stream._ids[max(first, last - count) if count else first : last]
        return chosen[::-1]
    return stream._ids[first : min(last, first + count) if count else last]


def entry(stream: "XStream", id_: "StreamEntryKey") -> list[Any]:
    """Return an entry as in replies: its id and its fields."""
    return [id_.encode(), stream._values_dict[id_]]


def set_stream_id(stream: Any, last: Any, added: int | None, deleted: Any) -> None:
    """Set the last id, the entries added and the largest deleted id, as XSETID does.

    Raises:
        Error: an id or the count is smaller than the stream's own.
    """
    if last < stream.max_deleted_id:
        raise Error("ERR The ID specified in XSETID is smaller than current max_deleted_entry_id")
    if len(stream):
        if last < stream._ids[-1]:
            raise Error("ERR The ID specified in XSETID is smaller than the target stream top item")
        if added is not None and len(stream) > added:
            raise Error(
                "ERR The entries_added specified in XSETID is smaller than the target stream length"
            )
    stream._last_id = last
    if added is not None:
        stream._entries_added = added
    if deleted is not None and deleted != (0, 0):
        stream._max_deleted_id = deleted


def radix_tree_nodes(stream: "XStream") -> int:
    """Return how many nodes Redis's radix tree of a stream has. Its keys have 16 bytes."""
    keys = [
        node.master_id.ts.to_bytes(8, "big") + node.master_id.seq.to_bytes(8, "big")
        for node in stream._nodes
    ]
    return _nodes(keys, 0) if keys else 1


def _nodes(keys: list[bytes], at: int) -> int:
    if len(keys) == 1:
        return 1 if at == 16 else 2
    common = at
    while keys[0][common] == keys[-1][common]:  # they are sorted
        common += 1
    groups: dict[int, list[bytes]] = {}
    for key in keys:
        groups.setdefault(key[common], []).append(key)
    below = sum(_nodes(group, common + 1) for group in groups.values())
    return below + (2 if common > at else 1)


def recreate_stream(key: bytes, stream: "XStream") -> Iterator[list[bytes]]:
    """Yield the requests that recreate a stream with its groups and their pending entries."""
    if not len(stream):
        yield [b"XADD", key, b"MAXLEN", b"0", b"0-1", b"x", b"y"]
    for id_ in stream._ids:
        yield [b"XADD", key, *_flat(entry(stream, id_))]
    yield [
        b"XSETID", key, stream.last_id.encode(), b"ENTRIESADDED", b"%d" % stream.entries_added,
        b"MAXDELETEDID", stream.max_deleted_id.encode(),
    ]  # fmt: skip
    for name, group in groups_of(stream).items():
        read = -1 if group.read is None else group.read
        last = group.last.encode()
        yield [b"XGROUP", b"CREATE", key, name, last, b"ENTRIESREAD", b"%d" % read]
        for consumer in group.consumers:
            yield [b"XGROUP", b"CREATECONSUMER", key, name, consumer]
        for id_, held in group.pending.items():
            yield claim(key, name, id_, held)


def claim(key: bytes, group: bytes, id_: "StreamEntryKey", held: Pending) -> list[bytes]:
    """Return the request that makes an entry pending with its consumer."""
    return [
        b"XCLAIM", key, group, held.consumer, b"0", id_.encode(), b"TIME", b"%d" % held.delivered,
        b"RETRYCOUNT", b"%d" % held.count, b"FORCE", b"JUSTID",
    ]  # fmt: skip


def _flat(record: list[Any]) -> list[bytes]:
    return [record[0], *record[1]]


def consumers_of(value: object) -> int:
    """Return how many consumers the groups of a stream have; 0 for another value."""
    groups: dict[bytes, Group] = getattr(value, "_groups", {})
    return sum(len(group.consumers) for group in groups.values())
