"""The commands of consumer groups, without XREADGROUP, XCLAIM and XAUTOCLAIM.

As in Redis, these commands do not change watched keys.
"""

from collections.abc import Mapping
from typing import Any, cast

from cachesim.embedded.redis.commands.common.by_fakeredis import value_of
from cachesim.embedded.redis.commands.common.help import subcommand_error
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.streams import (
    Group,
    groups_of,
    make_id,
    new_stream,
    parse_bound,
    parse_id,
)
from cachesim.embedded.redis.keyspace.values import NO_KEY, SYNTAX, integer, printed
from cachesim.protocols.resp import NULL_ARRAY, Error, Reply


def now_of(client: Client) -> int:
    """Return the time in milliseconds since the epoch."""
    return int(client.server.wall() * 1000)


def note(client: Client, key: bytes, effects: list[list[bytes]]) -> None:
    """Note that groups of a stream have changed; `effects` are the requests for replicas."""
    client.server.record_changes([key])
    executor = client.server.executor
    executor.effects = [*(executor.effects or ()), *effects]


def touch_consumer(client: Client, key: bytes, name: bytes, group: Group, consumer: bytes) -> None:
    """Note that a consumer is active; create it if it is new."""
    if consumer not in group.consumers:
        note(client, key, [[b"XGROUP", b"CREATECONSUMER", key, name, consumer]])
    group.consumers[consumer] = now_of(client)


def group_of(client: Client, key: bytes, name: bytes) -> tuple[Any, Group]:
    """Return a stream and one of its groups.

    Raises:
        Error: the stream or the group is missing.
    """
    stream = value_of(client, key, "stream")
    if not stream or name not in groups_of(stream):
        raise Error(f"NOGROUP No such key '{printed(key)}' or consumer group '{printed(name)}'")
    return stream, groups_of(stream)[name]


# --- XGROUP ---------------------------------------------------------------------------------


def _entries_read(arguments: list[bytes], *, may_create: bool) -> tuple[int | None, bool]:
    """Return the number of `[MKSTREAM] [ENTRIESREAD n]`, or None, and whether MKSTREAM is given."""
    read, creates, at = -1, False, 5
    while at < len(arguments):
        word = arguments[at].lower()
        if may_create and word == b"mkstream":
            creates = True
            at += 1
        elif word == b"entriesread" and at + 1 < len(arguments):
            read = integer(arguments[at + 1])
            if read < -1:
                raise Error("ERR value for ENTRIESREAD must be positive or -1")
            at += 2
        else:
            raise subcommand_error(arguments)
    return (None if read < 0 else read), creates


def _existing(client: Client, key: bytes) -> Any:
    stream = value_of(client, key, "stream")
    if not stream:
        raise Error(
            "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may "
            "want to use the MKSTREAM option to create an empty stream automatically."
        )
    return stream


def _existing_group(client: Client, arguments: list[bytes]) -> tuple[Any, Group]:
    key, name = arguments[2:4]
    stream = _existing(client, key)
    if name not in groups_of(stream):
        raise Error(
            f"NOGROUP No such consumer group '{printed(name)}' for key name '{printed(key)}'"
        )
    return stream, groups_of(stream)[name]


def xgroup_create(client: Client, arguments: list[bytes]) -> Answer:
    """XGROUP CREATE key group id|$ [MKSTREAM] [ENTRIESREAD n]."""
    key, name, text = arguments[2:5]
    read, creates = _entries_read(arguments, may_create=True)
    stream = value_of(client, key, "stream") if creates else _existing(client, key)
    is_new = not stream
    if len(arguments) > 8:
        raise subcommand_error(arguments)
    newest = make_id(0, 0) if is_new else stream.last_id
    last = newest if text == b"$" else parse_id(text)
    if is_new:
        stream = new_stream()
        client.store.put(key, stream)
    groups = groups_of(stream)
    if name in groups:
        raise Error("BUSYGROUP Consumer Group name already exists")
    groups[name] = Group(last, read)
    note(client, key, [arguments])
    return "OK"


def xgroup_setid(client: Client, arguments: list[bytes]) -> Answer:
    """XGROUP SETID key group id|$ [ENTRIESREAD n]."""
    read, _ = _entries_read(arguments, may_create=False)
    stream, group = _existing_group(client, arguments)
    if len(arguments) > 7:
        raise subcommand_error(arguments)
    text = arguments[4]
    if text in (b"-", b"+"):
        group.last = parse_bound(text, is_end=False)
    else:
        group.last = stream.last_id if text == b"$" else parse_id(text)
    group.read = read
    note(client, arguments[2], [arguments])
    return "OK"


def xgroup_destroy(client: Client, arguments: list[bytes]) -> Answer:
    """XGROUP DESTROY key group."""
    key = arguments[2]
    if groups_of(_existing(client, key)).pop(arguments[3], None) is None:
        return 0
    note(client, key, [arguments])
    client.server.blocked_clients.changed([key])  # clients may wait for the group
    return 1


def xgroup_createconsumer(client: Client, arguments: list[bytes]) -> Answer:
    """XGROUP CREATECONSUMER key group consumer."""
    _, group = _existing_group(client, arguments)
    key, name, consumer = arguments[2:5]
    if consumer in group.consumers:
        return 0
    touch_consumer(client, key, name, group, consumer)
    return 1


def xgroup_delconsumer(client: Client, arguments: list[bytes]) -> Answer:
    """XGROUP DELCONSUMER key group consumer."""
    _, group = _existing_group(client, arguments)
    if group.consumers.pop(arguments[4], None) is None:
        return 0
    ids = group.pending_of(arguments[4])
    for id_ in ids:
        del group.pending[id_]
    note(client, arguments[2], [arguments])
    return len(ids)


# --- pending entries ------------------------------------------------------------------------


def xack(client: Client, arguments: list[bytes]) -> Answer:
    """XACK key group id..."""
    stream = value_of(client, arguments[1], "stream")
    group = None if not stream else groups_of(stream).get(arguments[2])
    if group is None:
        return 0
    ids = [parse_id(text) for text in arguments[3:]]
    count = sum(group.pending.pop(id_, None) is not None for id_ in ids)
    if count:
        note(client, arguments[1], [arguments])
    return count


def xpending(client: Client, arguments: list[bytes]) -> Answer:
    """XPENDING key group [[IDLE ms] start end count [consumer]]."""
    words = arguments[3:]
    idle = 0
    if words and not 3 <= len(words) <= 6:
        raise Error(SYNTAX)
    if words and words[0].lower() == b"idle":
        idle = integer(words[1])
        if len(words) < 5:
            raise Error(SYNTAX)
        words = words[2:]
    if words:
        most = max(0, integer(words[2]))
        start, end = parse_bound(words[0], is_end=False), parse_bound(words[1], is_end=True)
    _, group = group_of(client, arguments[1], arguments[2])
    if not words:
        ids = group.pending_of(None)
        if not ids:
            return [0, None, None, NULL_ARRAY]
        counts = [(name, len(group.pending_of(name))) for name in sorted(group.consumers)]
        shown = [[name, b"%d" % count] for name, count in counts if count]
        return [len(ids), ids[0].encode(), ids[-1].encode(), cast(Reply, shown)]
    now = now_of(client)
    chosen: list[Reply] = [
        [id_.encode(), held.consumer, max(0, now - held.delivered), held.count]
        for id_ in group.pending_of(words[3] if len(words) > 3 else None)
        for held in (group.pending[id_],)
        if start <= id_ <= end and (idle <= 0 or now - held.delivered >= idle)
    ]
    return chosen[:most]


# --- XINFO ----------------------------------------------------------------------------------


def xinfo_groups(client: Client, arguments: list[bytes]) -> Answer:
    """XINFO GROUPS key."""
    stream = value_of(client, arguments[2], "stream")
    if not stream:
        raise Error(NO_KEY)
    return [
        {
            b"name": name,
            b"consumers": len(group.consumers),
            b"pending": len(group.pending),
            b"last-delivered-id": group.last.encode(),
            b"entries-read": group.read,
            b"lag": group.lag(stream),
        }
        for name, group in sorted(groups_of(stream).items())
    ]


def xinfo_consumers(client: Client, arguments: list[bytes]) -> Answer:
    """XINFO CONSUMERS key group."""
    key, name = arguments[2:4]
    stream = value_of(client, key, "stream")
    if not stream:
        raise Error(NO_KEY)
    group = groups_of(stream).get(name)
    if group is None:
        raise Error(
            f"NOGROUP No such consumer group '{printed(name)}' for key name '{printed(key)}'"
        )
    now = now_of(client)
    return [
        {
            b"name": consumer,
            b"pending": len(group.pending_of(consumer)),
            b"idle": max(0, now - seen),
        }
        for consumer, seen in sorted(group.consumers.items())
    ]


HANDLERS: Mapping[str, Handler] = {
    "xack": xack,
    "xgroup|create": xgroup_create,
    "xgroup|createconsumer": xgroup_createconsumer,
    "xgroup|delconsumer": xgroup_delconsumer,
    "xgroup|destroy": xgroup_destroy,
    "xgroup|setid": xgroup_setid,
    "xinfo|consumers": xinfo_consumers,
    "xinfo|groups": xinfo_groups,
    "xpending": xpending,
}
