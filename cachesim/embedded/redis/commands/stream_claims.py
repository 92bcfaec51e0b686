"""XCLAIM and XAUTOCLAIM, of the stream commands: they give pending entries to another consumer."""

from collections.abc import Mapping
from typing import Any

from cachesim.embedded.redis.commands.stream_groups import (
    group_of,
    note,
    now_of,
    touch_consumer,
)
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.streams import (
    Pending,
    claim,
    entry,
    make_id,
    parse_bound,
    parse_id,
)
from cachesim.embedded.redis.keyspace.values import HIGHEST, SYNTAX, integer, printed
from cachesim.protocols.resp import Error

_MOST_CLAIMED = HIGHEST // 16


def _creates_at_once(client: Client) -> bool:
    """Return whether a claim without entries creates its consumer too, as since Redis 7.2."""
    return "7.2" in client.server.version.releases


def xclaim(client: Client, arguments: list[bytes]) -> Answer:
    """XCLAIM key group consumer ms id... [option...].

    The options are IDLE ms, TIME ms, RETRYCOUNT n, FORCE, JUSTID, LASTID id.
    """
    key, name, consumer = arguments[1:4]
    stream, group = group_of(client, key, name)
    least = integer(arguments[4], "ERR Invalid min-idle-time argument for XCLAIM")
    ids, at = [], 5
    while at < len(arguments):
        try:
            ids.append(parse_id(arguments[at]))
        except Error:
            break
        at += 1
    now = now_of(client)
    numbers: dict[str, int] = {}
    flags, last = set(), make_id(0, 0)
    while at < len(arguments):
        word = arguments[at].upper()
        has_more = at + 1 < len(arguments)
        if word in (b"FORCE", b"JUSTID"):
            flags.add(word)
        elif word in (b"IDLE", b"TIME", b"RETRYCOUNT") and has_more:
            at += 1
            option = word.decode()
            refusal = f"ERR Invalid {option} option argument for XCLAIM"
            numbers[option] = integer(arguments[at], refusal)
            if option == "IDLE":
                numbers["TIME"] = now - numbers[option]
        elif word == b"LASTID" and has_more:
            at += 1
            last = parse_id(arguments[at])
        else:
            raise Error(f"ERR Unrecognized XCLAIM option '{printed(arguments[at])}'")
        at += 1
    effects: list[list[bytes]] = []
    if last > group.last:
        group.last = last
        effects.append([b"XGROUP", b"SETID", key, name, last.encode()])
    delivered = numbers.get("TIME", now)
    if not 0 <= delivered <= now:
        delivered = now
    is_touched = _creates_at_once(client)
    if is_touched:
        touch_consumer(client, key, name, group, consumer)
    answer: list[Any] = []
    for id_ in ids:
        held = group.pending.get(id_)
        if id_ not in stream:
            if held is not None:
                effects.append(claim(key, name, id_, group.pending.pop(id_)))
            continue
        if held is None:
            if b"FORCE" not in flags:
                continue
            held = group.pending[id_] = Pending(consumer, now)
        elif least > 0 and now - held.delivered < least:
            continue
        if not is_touched:
            touch_consumer(client, key, name, group, consumer)
            is_touched = True
        held.consumer, held.delivered = consumer, delivered
        retries = numbers.get("RETRYCOUNT", -1)
        if retries >= 0:
            held.count = retries
        elif b"JUSTID" not in flags:
            held.count += 1
        answer.append(id_.encode() if b"JUSTID" in flags else entry(stream, id_))
        effects.append(claim(key, name, id_, held))
    if effects:
        note(client, key, effects)
    return answer


def xautoclaim(client: Client, arguments: list[bytes]) -> Answer:
    """XAUTOCLAIM key group consumer ms start [COUNT n] [JUSTID]."""
    key, name, consumer = arguments[1:4]
    least = integer(arguments[4], "ERR Invalid min-idle-time argument for XAUTOCLAIM")
    start = parse_bound(arguments[5], is_end=False)
    most, is_just_id, at = 100, False, 6
    while at < len(arguments):
        word = arguments[at].lower()
        if word == b"count" and at + 1 < len(arguments):
            most = integer(arguments[at + 1], "ERR COUNT must be > 0")
            if not 1 <= most <= _MOST_CLAIMED:
                raise Error("ERR COUNT must be > 0")
            at += 1
        elif word == b"justid":
            is_just_id = True
        else:
            raise Error(SYNTAX)
        at += 1
    stream, group = group_of(client, key, name)
    is_touched = _creates_at_once(client)
    if is_touched:
        touch_consumer(client, key, name, group, consumer)
    now, left = now_of(client), most
    answer: list[Any] = []
    gone: list[Any] = []
    effects: list[list[bytes]] = []
    following = (id_ for id_ in group.pending_of(None) if id_ >= start)
    cursor = make_id(0, 0)
    for number, id_ in enumerate(following):
        if number >= 10 * most or not left:
            cursor = id_
            break
        held = group.pending[id_]
        if id_ not in stream:
            effects.append(claim(key, name, id_, group.pending.pop(id_)))
            gone.append(id_.encode())
            left -= 1
        elif least <= 0 or now - held.delivered >= least:
            if not is_touched:
                touch_consumer(client, key, name, group, consumer)
                is_touched = True
            held.consumer, held.delivered = consumer, now
            held.count += not is_just_id
            answer.append(id_.encode() if is_just_id else entry(stream, id_))
            effects.append(claim(key, name, id_, held))
            left -= 1
    if effects:
        note(client, key, effects)
    return [cursor.encode(), answer, gone]


HANDLERS: Mapping[str, Handler] = {"xautoclaim": xautoclaim, "xclaim": xclaim}
