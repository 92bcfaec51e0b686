"""XREAD and XREADGROUP."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cachesim.embedded.redis.commands.common.blocking import answer_or_wait
from cachesim.embedded.redis.commands.common.by_fakeredis import value_of
from cachesim.embedded.redis.commands.stream_groups import note, now_of, touch_consumer
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.streams import (
    Pending,
    claim,
    entries,
    entry,
    groups_of,
    make_id,
    parse_id,
)
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer, printed
from cachesim.protocols.resp import NULL_ARRAY, Error

_MOST_AFTER_WAIT = 1000  # entries for a client that has waited without COUNT


@dataclass
class _Wanted:
    """The arguments of XREAD or XREADGROUP. `seconds` is None without BLOCK."""

    keys: list[bytes]
    ids: list[bytes]
    count: int = 0
    seconds: float | None = None
    group: bytes | None = None
    consumer: bytes = b""
    has_noack: bool = False


def _wanted(client: Client, words: list[bytes], name: str) -> _Wanted:
    wanted = _Wanted([], [])
    with_group = name == "xreadgroup"
    at = 1
    while at < len(words):
        word, more = words[at].lower(), len(words) - 1 - at
        at += 1
        if word == b"block" and more:
            if client.in_script:
                shown = words[0].decode(errors="replace")
                raise Error(f"ERR {shown} command is not allowed with BLOCK option from scripts")
            milliseconds = integer(words[at], "ERR timeout is not an integer or out of range")
            if milliseconds < 0:
                raise Error("ERR timeout is negative")
            wanted.seconds = milliseconds / 1000
            at += 1
        elif word == b"count" and more:
            wanted.count = max(0, integer(words[at]))
            at += 1
        elif word == b"streams" and more:
            if more % 2:
                raise Error(
                    "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must "
                    "be specified."
                )
            wanted.keys, wanted.ids = words[at : at + more // 2], words[at + more // 2 :]
            break
        elif (word == b"group" and more > 1) or word == b"noack":
            if not with_group:
                raise Error(
                    f"ERR The {word.upper().decode()} option is only supported by XREADGROUP. "
                    "You called XREAD instead."
                )
            if word == b"noack":
                wanted.has_noack = True
            else:
                wanted.group, wanted.consumer = words[at : at + 2]
                at += 2
        else:
            raise Error(SYNTAX)
    if not wanted.keys:
        raise Error(SYNTAX)
    if with_group and wanted.group is None:
        raise Error("ERR Missing GROUP option for XREADGROUP")
    return wanted


def _answer(client: Client, found: list[list[Any]]) -> Answer:
    """Return the answer with the found keys and their entries; None if nothing was found."""
    if client.resp == 3 and found:
        return dict(found)
    return found or None


def _entries_after(stream: Any, id_: Any, count: int) -> list[Any]:
    if id_ >= stream.last_id:
        return []
    return entries(stream, make_id(id_.ts, id_.seq + 1), None, count)


def xread(client: Client, arguments: list[bytes]) -> Answer:
    """XREAD [COUNT n] [BLOCK ms] STREAMS key... id..."""
    wanted = _wanted(client, arguments, "xread")
    after: list[tuple[bytes, Any]] = []
    for key, text in zip(wanted.keys, wanted.ids, strict=True):
        stream = value_of(client, key, "stream")
        if text == b">":
            raise Error(
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP "
                "<group> <consumer> option."
            )
        newest = stream.last_id if stream else make_id(0, 0)
        after.append((key, newest if text == b"$" else parse_id(text)))

    def first(_keys: list[bytes]) -> Answer:
        found = []
        for key, id_ in after:
            stream = value_of(client, key, "stream")
            if stream and (ids := _entries_after(stream, id_, wanted.count)):
                found.append([key, [entry(stream, id_) for id_ in ids]])
        return _answer(client, found)

    def again(keys: list[bytes]) -> Answer:
        key, id_ = next(pair for pair in after if pair[0] == keys[0])
        stream = value_of(client, key, "stream")
        if stream.last_id <= id_:
            return None
        ids = _entries_after(stream, id_, wanted.count or _MOST_AFTER_WAIT)
        return _answer(client, [[key, [entry(stream, id_) for id_ in ids]]])

    if wanted.seconds is None:
        return first(wanted.keys) or NULL_ARRAY
    return answer_or_wait(client, wanted.keys, "stream", wanted.seconds, first, again=again)


def xreadgroup(client: Client, arguments: list[bytes]) -> Answer:
    """XREADGROUP GROUP g consumer [COUNT n] [BLOCK ms] [NOACK] STREAMS key... id..."""
    wanted = _wanted(client, arguments, "xreadgroup")
    name = wanted.group or b""
    after: list[tuple[bytes, Any]] = []
    for key, text in zip(wanted.keys, wanted.ids, strict=True):
        stream = value_of(client, key, "stream")
        if not stream or name not in groups_of(stream):
            raise Error(
                f"NOGROUP No such key '{printed(key)}' or consumer group '{printed(name)}' in "
                "XREADGROUP with GROUP option"
            )
        if text == b"$":
            raise Error(
                "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the "
                "history of this consumer by specifying a proper ID, or use the > ID to get new "
                "messages. The $ ID would just return an empty result set."
            )
        after.append((key, None if text == b">" else parse_id(text)))

    def first(_keys: list[bytes]) -> Answer:
        found = []
        for key, id_ in after:
            stream = value_of(client, key, "stream")
            if id_ is not None:
                found.append([key, _history(client, wanted, key, stream, id_)])
            elif len(stream) and stream._ids[-1] > groups_of(stream)[name].last:
                found.append([key, _deliver(client, wanted, key, stream, wanted.count)])
        return _answer(client, found)

    def again(keys: list[bytes]) -> Answer:
        stream = value_of(client, keys[0], "stream")
        group = groups_of(stream).get(name)
        if group is None:
            raise Error("NOGROUP the consumer group this client was blocked on no longer exists")
        if stream.last_id <= group.last:
            return None
        count = wanted.count or _MOST_AFTER_WAIT
        return _answer(client, [[keys[0], _deliver(client, wanted, keys[0], stream, count)]])

    if wanted.seconds is None:
        return first(wanted.keys) or NULL_ARRAY
    lost = Error("UNBLOCKED the stream key no longer exists")
    return answer_or_wait(
        client, wanted.keys, "stream", wanted.seconds, first, again=again, lost=lost
    )


def _deliver(client: Client, wanted: _Wanted, key: bytes, stream: Any, count: int) -> list[Any]:
    """Deliver new entries to a consumer. Replicas get the outcome for each entry."""
    name = wanted.group or b""
    group, now = groups_of(stream)[name], now_of(client)
    touch_consumer(client, key, name, group, wanted.consumer)
    ids = _entries_after(stream, group.last, count)
    effects = []
    for id_ in ids:
        group.deliver(stream, id_)
        if not wanted.has_noack:
            group.pending[id_] = Pending(wanted.consumer, now)
            effects.append(claim(key, name, id_, group.pending[id_]))
    read = -1 if group.read is None else group.read
    effects.append(
        [b"XGROUP", b"SETID", key, name, group.last.encode(), b"ENTRIESREAD", b"%d" % read]
    )
    note(client, key, effects)
    return [entry(stream, id_) for id_ in ids]


def _history(client: Client, wanted: _Wanted, key: bytes, stream: Any, after: Any) -> list[Any]:
    """Return a consumer's pending entries. Replicas do not get the number of reads."""
    name = wanted.group or b""
    group, now = groups_of(stream)[name], now_of(client)
    touch_consumer(client, key, name, group, wanted.consumer)
    ids = [id_ for id_ in group.pending_of(wanted.consumer) if id_ > after]
    records: list[Any] = []
    for id_ in ids[: wanted.count or None]:
        if id_ in stream:
            held = group.pending[id_]
            held.delivered, held.count = now, held.count + 1
            records.append(entry(stream, id_))
        else:
            records.append([id_.encode(), NULL_ARRAY])
    return records


HANDLERS: Mapping[str, Handler] = {"xread": xread, "xreadgroup": xreadgroup}
