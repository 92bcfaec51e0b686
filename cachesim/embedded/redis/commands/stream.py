"""The stream commands. fakeredis runs them, but does not report the keys that they change."""

from collections.abc import Mapping
from typing import Any, cast

from cachesim.embedded.redis.commands.common.blocking import answer_or_wait
from cachesim.embedded.redis.commands.common.by_fakeredis import plain
from cachesim.embedded.redis.commands.common.help import help_of
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.streams import last_id, set_stream_id
from cachesim.embedded.redis.keyspace.values import NO_KEY, SYNTAX, WRONG_TYPE, integer
from cachesim.protocols.resp import NULL_ARRAY, Error, Reply

_PLAIN = (
    "xinfo|consumers",  # key group
    "xinfo|groups",  # key
    "xinfo|stream",  # key [FULL [COUNT n]]
    "xlen",  # key
    "xpending",  # key group [[IDLE ms] start end count [consumer]]
    "xrange",  # key start end [COUNT n]
    "xrevrange",  # key end start [COUNT n]
    "xtrim",  # key MAXLEN|MINID [= | ~] n [LIMIT n]
)
_WRITES = (
    "xack",  # key group id...
    "xautoclaim",  # key group consumer ms start [COUNT n] [JUSTID]
    "xclaim",  # key group consumer ms id... [IDLE ms] [TIME ms] [RETRYCOUNT n] [FORCE] [JUSTID]
    "xgroup|create",  # key group id|$ [MKSTREAM] [ENTRIESREAD n]
    "xgroup|createconsumer",  # key group consumer
    "xgroup|delconsumer",  # key group consumer
    "xgroup|destroy",  # key group
    "xgroup|setid",  # key group id|$ [ENTRIESREAD n]
)


def _write(name: str) -> Handler:
    """Return a handler that marks the key as changed, unless the command did nothing."""
    outer, _, inner = name.partition("|")
    known, at = (f"{outer} {inner}", 2) if inner else (outer, 1)

    def run(client: Client, arguments: list[bytes]) -> Answer:
        answer = client.store.run(known, arguments[at:], client.resp)
        if answer != 0 and answer != [] and client.store.get(arguments[at]) is not None:
            client.store.dirty.append(arguments[at])
        return answer

    return run


_xdel = _write("xdel")


def xadd(client: Client, arguments: list[bytes]) -> Answer:
    """XADD key [NOMKSTREAM] [MAXLEN | MINID [= | ~] n [LIMIT n]] * | id field value..."""
    id_ = client.store.run("xadd", arguments[1:], client.resp)
    if isinstance(id_, bytes):
        at = 2
        while (word := arguments[at].lower()) in (b"nomkstream", b"maxlen", b"minid", b"limit"):
            at += 1 if word == b"nomkstream" else 2
            if arguments[at - 1] in (b"=", b"~"):
                at += 1
        client.server.executor.effects = [[*arguments[:at], id_, *arguments[at + 1 :]]]
    return id_


def xdel(client: Client, arguments: list[bytes]) -> Answer:
    """XDEL key id..."""
    if client.store.get(arguments[1]) is None:
        return 0
    return _xdel(client, arguments)


def xsetid(client: Client, arguments: list[bytes]) -> Answer:
    """XSETID key last-id [ENTRIESADDED n] [MAXDELETEDID id]."""
    item = client.store.get(arguments[1])
    if item is None:
        raise Error(NO_KEY)
    if client.store.type_name(item.value) != "stream":
        raise Error(WRONG_TYPE)
    added: int | None = None
    deleted: bytes | None = None
    for at in range(3, len(arguments), 2):
        word = arguments[at].lower()
        if word == b"entriesadded" and at + 1 < len(arguments):
            added = integer(arguments[at + 1])
            if added < 0:
                raise Error("ERR entries_added must be positive")
        elif word == b"maxdeletedid" and at + 1 < len(arguments):
            deleted = arguments[at + 1]
        else:
            raise Error(SYNTAX)
    set_stream_id(item.value, arguments[2], added, deleted)
    client.store.dirty.append(arguments[1])
    return "OK"


def _read(client: Client, arguments: list[bytes], name: str) -> Answer:
    store = client.store
    words = arguments[1:]
    seconds: float | None = None
    at = 3 if name == "xreadgroup" else 0
    while at < len(words) and words[at].lower() != b"streams":
        word = words[at].lower()
        if word == b"block" and at + 1 < len(words):
            milliseconds = integer(words[at + 1], "ERR timeout is not an integer or out of range")
            if milliseconds < 0:
                raise Error("ERR timeout is negative")
            seconds = milliseconds / 1000
            del words[at : at + 2]  # fakeredis must not wait itself
            continue
        at += 2 if word == b"count" else 1
    names = words[at + 1 :]
    keys = names[: len(names) // 2]
    ids = names[len(names) // 2 :]
    for index, (key, id_) in enumerate(zip(keys, ids, strict=False)):
        if id_ == b"$" and name == "xread":
            item = store.get(key)
            if item is not None and store.type_name(item.value) != "stream":
                raise Error(WRONG_TYPE)
            words[at + 1 + len(keys) + index] = b"0-0" if item is None else last_id(item.value)

    def attempt(first: bool) -> Answer:
        found: Any = store.run(name, words, client.resp)
        if not found:
            return None
        if name == "xreadgroup":
            store.dirty.extend(keys)
            client.server.executor.effects = [[arguments[0], *words]]
        if client.resp == 2 and isinstance(found, dict):
            return [[key, entries] for key, entries in found.items()]
        return cast(Reply, found)

    if seconds is None:
        answer = attempt(True)
        return NULL_ARRAY if answer is None else answer
    return answer_or_wait(client, keys, seconds, attempt)


def xread(client: Client, arguments: list[bytes]) -> Answer:
    """XREAD [COUNT n] [BLOCK ms] STREAMS key... id..."""
    return _read(client, arguments, "xread")


def xreadgroup(client: Client, arguments: list[bytes]) -> Answer:
    """XREADGROUP GROUP g consumer [COUNT n] [BLOCK ms] [NOACK] STREAMS key... id..."""
    return _read(client, arguments, "xreadgroup")


HANDLERS: Mapping[str, Handler] = {
    **{name: plain(name) for name in _PLAIN},
    **{name: _write(name) for name in _WRITES},
    **help_of("xgroup", "xinfo"),
    "xadd": xadd,
    "xdel": xdel,
    "xread": xread,
    "xreadgroup": xreadgroup,
    "xsetid": xsetid,
}
