"""The stream commands; see also `stream_read`, `stream_groups` and `stream_claims`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachesim.embedded.redis.commands.common.by_fakeredis import value_of
from cachesim.embedded.redis.commands.common.help import help_of, subcommand_error
from cachesim.embedded.redis.commands.stream_claims import HANDLERS as CLAIMS
from cachesim.embedded.redis.commands.stream_groups import HANDLERS as GROUPS
from cachesim.embedded.redis.commands.stream_read import HANDLERS as READS
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.streams import (
    entries,
    entry,
    groups_of,
    make_id,
    new_stream,
    next_id,
    parse_bound,
    parse_id,
    radix_tree_nodes,
    set_stream_id,
)
from cachesim.embedded.redis.keyspace.values import NO_KEY, SYNTAX, integer
from cachesim.protocols.resp import NULL_ARRAY, Error

_NODE_ENTRIES = 100  # `stream-node-max-entries`


@dataclass
class _Trim:
    """How XADD or XTRIM trims: `MAXLEN | MINID [= | ~] n [LIMIT m]`.

    Attributes:
        at: the index of `n`; 0 without trimming.
        is_exact: False for `~`.
    """

    at: int = 0
    maxlen: int | None = None
    minid: Any = None
    is_exact: bool = True
    limit: int = 0

    def run(self, stream: Any) -> int:
        """Trim a stream. Return the number of removed entries."""
        return int(
            stream.trim(
                maxlen=self.maxlen, minid=self.minid, approx=not self.is_exact, limit=self.limit
            )
        )

    def effect(self, arguments: list[bytes], stream: Any) -> list[bytes]:
        """Return the request for replicas, which gives the exact result."""
        if self.at and not self.is_exact:
            left = b"%d" % len(stream) if self.maxlen is not None else stream.first_id.encode()
            arguments = [*arguments]
            arguments[self.at - 1 : self.at + 1] = [b"=", left]
        return arguments


def _parsed(client: Client, words: list[bytes], *, is_add: bool) -> tuple[_Trim, int, bool]:
    """Return the trimming options of XADD or XTRIM, the index of the id, and NOMKSTREAM."""
    trim, limit, has_nomkstream = _Trim(), None, False
    at = 2
    while at < len(words):
        word, more = words[at].lower(), len(words) - 1 - at
        if is_add and word == b"*":
            break
        if word in (b"maxlen", b"minid") and more:
            if trim.at:
                raise Error(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible"
                )
            if more > 1 and words[at + 1] in (b"~", b"="):
                trim.is_exact = words[at + 1] == b"="
                at += 1
            trim.at = at + 1
            if word == b"minid":
                trim.minid = parse_id(words[at + 1])
            else:
                trim.maxlen = integer(words[at + 1])
                if trim.maxlen < 0:
                    raise Error("ERR The MAXLEN argument must be >= 0.")
            at += 2
        elif word == b"limit" and more:
            limit = integer(words[at + 1])
            if limit < 0:
                raise Error("ERR The LIMIT argument must be >= 0.")
            at += 2
        elif is_add and word == b"nomkstream":
            has_nomkstream = True
            at += 1
        elif is_add:
            break
        else:
            raise Error(SYNTAX)
    if is_add and at < len(words) and words[at] != b"*":
        _added_id(words[at])
    if limit and not trim.at:
        raise Error("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
    if not is_add and not trim.at:
        raise Error("ERR syntax error, XTRIM must be called with a trimming strategy")
    if not client.is_replaying:
        if limit is not None and trim.is_exact:
            raise Error("ERR syntax error, LIMIT cannot be used without the special ~ option")
        trim.limit = limit if limit is not None else 0 if trim.is_exact else 100 * _NODE_ENTRIES
    return trim, at, has_nomkstream


def _added_id(text: bytes) -> tuple[Any, bool]:
    """Return the id of a new entry, or None for `*`, and whether it has a sequence."""
    if text == b"*":
        return None, True
    if text.endswith(b"-*") and text.count(b"-") == 1:
        return parse_id(text[:-2]), False
    return parse_id(text), True


def xadd(client: Client, arguments: list[bytes]) -> Answer:
    """XADD key [NOMKSTREAM] [MAXLEN | MINID [= | ~] n [LIMIT m]] * | id field value..."""
    trim, at, has_nomkstream = _parsed(client, arguments, is_add=True)
    fields = arguments[at + 1 :]
    if len(fields) < 2 or len(fields) % 2:
        raise Error("ERR wrong number of arguments for 'xadd' command")
    asked, has_sequence = _added_id(arguments[at])
    if has_sequence and asked == (0, 0):
        raise Error("ERR The ID specified in XADD must be greater than 0-0")
    key, store = arguments[1], client.store
    stream = value_of(client, key, "stream")
    is_new = store.get(key) is None
    if is_new:
        if has_nomkstream:
            return None
        stream = new_stream()
    now = int(client.server.wall() * 1000)
    id_ = next_id(stream, asked, now, has_sequence=has_sequence)
    if is_new:
        store.put(key, stream)
    else:
        store.dirty.append(key)
    stream.add(fields, id_)
    if trim.at:
        trim.run(stream)
    effect = trim.effect(arguments, stream)
    client.server.executor.effects = [[*effect[:at], id_.encode(), *fields]]
    return id_.encode()


def xtrim(client: Client, arguments: list[bytes]) -> Answer:
    """XTRIM key MAXLEN | MINID [= | ~] n [LIMIT m]."""
    trim, _, _ = _parsed(client, arguments, is_add=False)
    stream = value_of(client, arguments[1], "stream")
    gone = trim.run(stream) if stream else 0
    if gone:
        client.store.dirty.append(arguments[1])
        client.server.executor.effects = [trim.effect(arguments, stream)]
    return gone


def xdel(client: Client, arguments: list[bytes]) -> Answer:
    """XDEL key id..."""
    stream = value_of(client, arguments[1], "stream")
    if not stream:
        return 0
    ids = [parse_id(text).encode() for text in arguments[2:]]
    gone: int = stream.delete(ids)
    if gone:
        client.store.dirty.append(arguments[1])
    return gone


def xlen(client: Client, arguments: list[bytes]) -> Answer:
    """XLEN key."""
    return len(value_of(client, arguments[1], "stream"))


def xrange(client: Client, arguments: list[bytes]) -> Answer:
    """XRANGE key start end [COUNT n], XREVRANGE key end start [COUNT n]."""
    reverse = arguments[0].lower() == b"xrevrange"
    first, last = (arguments[3], arguments[2]) if reverse else arguments[2:4]
    start, end = parse_bound(first, is_end=False), parse_bound(last, is_end=True)
    count: int | None = None
    for at in range(4, len(arguments), 2):
        if arguments[at].lower() != b"count" or at + 1 == len(arguments):
            raise Error(SYNTAX)
        count = max(0, integer(arguments[at + 1]))
    stream = value_of(client, arguments[1], "stream")
    if not stream:
        return []
    if count == 0:
        return NULL_ARRAY
    ids = entries(stream, start, end, count or 0, reverse=reverse)
    return [entry(stream, id_) for id_ in ids]


def xsetid(client: Client, arguments: list[bytes]) -> Answer:
    """XSETID key last-id [ENTRIESADDED n] [MAXDELETEDID id]."""
    last = parse_id(arguments[2])
    added: int | None = None
    deleted: Any = None
    for at in range(3, len(arguments), 2):
        word = arguments[at].lower()
        if word == b"entriesadded" and at + 1 < len(arguments):
            added = integer(arguments[at + 1])
            if added < 0:
                raise Error("ERR entries_added must be positive")
        elif word == b"maxdeletedid" and at + 1 < len(arguments):
            deleted = parse_id(arguments[at + 1])
            if last < deleted:
                raise Error(
                    "ERR The ID specified in XSETID is smaller than the provided "
                    "max_deleted_entry_id"
                )
        else:
            raise Error(SYNTAX)
    stream = value_of(client, arguments[1], "stream")
    if not stream:
        raise Error(NO_KEY)
    set_stream_id(stream, last, added, deleted)
    # Clients that watch the key or wait for it are not notified.
    client.server.record_changes([arguments[1]])
    client.server.executor.effects = [arguments]
    return "OK"


def xinfo_stream(client: Client, arguments: list[bytes]) -> Answer:
    """XINFO STREAM key [FULL [COUNT n]]."""
    stream = value_of(client, arguments[2], "stream")
    if not stream:
        raise Error(NO_KEY)
    options = [word.lower() for word in arguments[3:]]
    if options and (options[0] != b"full" or options[1:-1] not in ([], [b"count"])):
        raise subcommand_error(arguments)
    if len(options) == 2:
        raise subcommand_error(arguments)
    ids = entries(stream, make_id(0, 0))
    told: dict[Any, Any] = {
        b"length": len(stream),
        b"radix-tree-keys": len(stream._nodes),
        b"radix-tree-nodes": radix_tree_nodes(stream),
        b"last-generated-id": stream.last_id.encode(),
        b"max-deleted-entry-id": stream.max_deleted_id.encode(),
        b"entries-added": stream.entries_added,
        b"recorded-first-entry-id": stream.first_id.encode(),
    }
    if not options:
        told[b"groups"] = len(groups_of(stream))
        told[b"first-entry"] = entry(stream, ids[0]) if ids else None
        told[b"last-entry"] = entry(stream, ids[-1]) if ids else None
        return told
    count = integer(options[2]) if len(options) == 3 else 10
    most = count if count > 0 else None if count == 0 else 10
    told[b"entries"] = [entry(stream, id_) for id_ in ids[:most]]
    told[b"groups"] = [
        {
            b"name": name,
            b"last-delivered-id": group.last.encode(),
            b"entries-read": group.read,
            b"lag": group.lag(stream),
            b"pel-count": len(group.pending),
            b"pending": [
                [id_.encode(), held.consumer, held.delivered, held.count]
                for id_ in group.pending_of(None)[:most]
                for held in (group.pending[id_],)
            ],
            b"consumers": [
                {
                    b"name": consumer,
                    b"seen-time": seen,
                    b"pel-count": len(ids),
                    b"pending": [
                        [id_.encode(), group.pending[id_].delivered, group.pending[id_].count]
                        for id_ in ids[:most]
                    ],
                }
                for consumer, seen in sorted(group.consumers.items())
                for ids in (group.pending_of(consumer),)
            ],
        }
        for name, group in sorted(groups_of(stream).items())
    ]
    return told


HANDLERS: Mapping[str, Handler] = {
    **CLAIMS,
    **GROUPS,
    **READS,
    **help_of("xgroup", "xinfo"),
    "xadd": xadd,
    "xdel": xdel,
    "xinfo|stream": xinfo_stream,
    "xlen": xlen,
    "xrange": xrange,
    "xrevrange": xrange,
    "xsetid": xsetid,
    "xtrim": xtrim,
}
