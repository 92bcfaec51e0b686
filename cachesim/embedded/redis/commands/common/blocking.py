"""Commands that may answer later: BLPOP and its like, XREAD BLOCK, WAIT."""

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.executor import Handler
from cachesim.embedded.redis.keyspace.values import SYNTAX, WRONG_TYPE, integer
from cachesim.embedded.redis.replication.primary import GET_ACK
from cachesim.protocols.resp import NULL_ARRAY, Error, Reply

Attempt = Callable[[bool], Answer]
"""Gives the answer, or None. Its argument says whether it is the first attempt."""


def _seconds(text: bytes) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or text != text.strip() or b"_" in text:
        raise Error("ERR timeout is not a float or out of range")
    if seconds < 0:
        raise Error("ERR timeout is negative")
    if seconds > 2**53:
        raise Error("ERR timeout is out of range")
    return seconds


def _until(
    client: Client,
    keys: list[bytes],
    seconds: float,
    attempt: Attempt,
    nothing: Reply = NULL_ARRAY,
) -> Answer:
    """The answer, now or when a key has changed."""
    from cachesim.embedded.redis.connections.session import Session

    answer = attempt(True)
    if answer is not None:
        return answer
    if not client.may_block or not isinstance(client, Session):
        return nothing
    return client.wait(tuple(dict.fromkeys(keys)), lambda: attempt(False), lambda: nothing, seconds)


def _pop(client: Client, keys: list[bytes], name: str, seconds: float) -> Answer:
    store = client.store

    def attempt(first: bool) -> Answer:
        for key in keys:
            item = store.get(key)
            if item is None:
                continue
            if type(item.value) is not list:
                if first:
                    raise Error(WRONG_TYPE)
                continue
            value = store.run(name, [key], client.resp)
            client.server.executor.effects = [[name.upper().encode(), key]]
            return [key, value]
        return None

    return _until(client, keys, seconds, attempt)


def blpop(client: Client, arguments: list[bytes]) -> Answer:
    """BLPOP key... timeout."""
    return _pop(client, arguments[1:-1], "lpop", _seconds(arguments[-1]))


def brpop(client: Client, arguments: list[bytes]) -> Answer:
    """BRPOP key... timeout."""
    return _pop(client, arguments[1:-1], "rpop", _seconds(arguments[-1]))


def _move(
    client: Client, source: bytes, target: bytes, ends: list[bytes], seconds: float
) -> Answer:
    store = client.store

    def attempt(first: bool) -> Answer:
        item = store.get(source)
        if item is None or (type(item.value) is not list and not first):
            return None
        value = store.run("lmove", [source, target, *ends], client.resp)
        client.server.executor.effects = [[b"LMOVE", source, target, *ends]]
        return value

    return _until(client, [source], seconds, attempt, None)


def blmove(client: Client, arguments: list[bytes]) -> Answer:
    """BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout."""
    ends = [word.upper() for word in arguments[3:5]]
    if any(end not in (b"LEFT", b"RIGHT") for end in ends):
        raise Error(SYNTAX)
    return _move(client, arguments[1], arguments[2], ends, _seconds(arguments[5]))


def brpoplpush(client: Client, arguments: list[bytes]) -> Answer:
    """BRPOPLPUSH source destination timeout."""
    ends = [b"RIGHT", b"LEFT"]
    return _move(client, arguments[1], arguments[2], ends, _seconds(arguments[3]))


def _pop_scored(client: Client, arguments: list[bytes], name: str) -> Answer:
    keys, seconds = arguments[1:-1], _seconds(arguments[-1])
    store = client.store

    def attempt(first: bool) -> Answer:
        for key in keys:
            item = store.get(key)
            if item is None:
                continue
            if store.type_name(item.value) != "zset":
                if first:
                    raise Error(WRONG_TYPE)
                continue
            popped = cast("list[Reply]", store.run(name, [key], client.resp))
            client.server.executor.effects = [[name.upper().encode(), key]]
            return [key, *popped]
        return None

    return _until(client, keys, seconds, attempt)


def bzpopmin(client: Client, arguments: list[bytes]) -> Answer:
    """BZPOPMIN key... timeout."""
    return _pop_scored(client, arguments, "zpopmin")


def bzpopmax(client: Client, arguments: list[bytes]) -> Answer:
    """BZPOPMAX key... timeout."""
    return _pop_scored(client, arguments, "zpopmax")


def pop_several(client: Client, arguments: list[bytes], name: str) -> Answer:
    """LMPOP and ZMPOP: what they repeat is the pop that they come to."""
    popped: Any = client.store.run(name, arguments, client.resp)
    if popped is None:
        return None
    key, elements = popped
    end = arguments[1 + int(arguments[0])].upper()
    single = {b"LEFT": b"LPOP", b"RIGHT": b"RPOP", b"MIN": b"ZPOPMIN", b"MAX": b"ZPOPMAX"}[end]
    client.server.executor.effects = [[single, key, b"%d" % len(elements)]]
    return [key, elements]


def _pop_any(client: Client, arguments: list[bytes], name: str) -> Answer:
    seconds = _seconds(arguments[1])
    rest = arguments[2:]
    kind = "list" if name == "lmpop" else "zset"
    store = client.store

    def attempt(first: bool) -> Answer:
        if not first:
            keys = rest[1 : 1 + int(rest[0])]
            held = (store.get(key) for key in keys)
            if any(i is not None and store.type_name(i.value) != kind for i in held):
                return None
        return pop_several(client, rest, name)

    answer = attempt(True)
    if answer is not None:
        return answer
    return _until(client, rest[1 : 1 + int(rest[0])], seconds, attempt)


def lmpop(client: Client, arguments: list[bytes]) -> Answer:
    """LMPOP numkeys key... LEFT|RIGHT [COUNT n]."""
    answer = pop_several(client, arguments[1:], "lmpop")
    return NULL_ARRAY if answer is None else answer


def zmpop(client: Client, arguments: list[bytes]) -> Answer:
    """ZMPOP numkeys key... MIN|MAX [COUNT n]."""
    answer = pop_several(client, arguments[1:], "zmpop")
    return NULL_ARRAY if answer is None else answer


def blmpop(client: Client, arguments: list[bytes]) -> Answer:
    """BLMPOP timeout numkeys key... LEFT|RIGHT [COUNT n]."""
    return _pop_any(client, arguments, "lmpop")


def bzmpop(client: Client, arguments: list[bytes]) -> Answer:
    """BZMPOP timeout numkeys key... MIN|MAX [COUNT n]."""
    return _pop_any(client, arguments, "zmpop")


# --- streams ----------------------------------------------------------------------------------


def _read(client: Client, arguments: list[bytes], name: str) -> Answer:
    """XREAD and XREADGROUP, with the BLOCK of theirs taken out."""
    from cachesim.embedded.redis.keyspace.keyspace import last_id

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
            del words[at : at + 2]
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
    return _until(client, keys, seconds, attempt)


def xread(client: Client, arguments: list[bytes]) -> Answer:
    """XREAD [COUNT n] [BLOCK ms] STREAMS key... id..."""
    return _read(client, arguments, "xread")


def xreadgroup(client: Client, arguments: list[bytes]) -> Answer:
    """XREADGROUP GROUP g consumer [COUNT n] [BLOCK ms] [NOACK] STREAMS key... id..."""
    return _read(client, arguments, "xreadgroup")


# --- replication ------------------------------------------------------------------------------


def wait(client: Client, arguments: list[bytes]) -> Answer:
    """WAIT numreplicas timeout."""
    from cachesim.embedded.redis.connections.session import Session

    server = client.server
    wanted = integer(arguments[1])
    milliseconds = integer(arguments[2], "ERR timeout is not an integer or out of range")
    if milliseconds < 0:
        raise Error("ERR timeout is negative")
    if server.is_replica:
        raise Error(
            "ERR WAIT cannot be used with replica instances. Please also note that since "
            "Redis 4.0 if a replica is configured to be writable (which is not the "
            "default) writes to replicas are just local and are not propagated."
        )
    offset = client.written_offset
    server.stream.flush()

    def attempt() -> Answer:
        count = server.replicas.with_offset(offset)
        return count if count >= wanted else None

    answer = attempt()
    if answer is not None or not client.may_block or not isinstance(client, Session):
        return server.replicas.with_offset(offset)
    if len(server.replicas):
        server.stream.append_requests([GET_ACK])
    return client.wait(
        (), attempt, lambda: server.replicas.with_offset(offset), milliseconds / 1000
    )


HANDLERS: Mapping[str, Handler] = {
    "blmove": blmove,
    "blmpop": blmpop,
    "blpop": blpop,
    "brpop": brpop,
    "brpoplpush": brpoplpush,
    "bzmpop": bzmpop,
    "bzpopmax": bzpopmax,
    "bzpopmin": bzpopmin,
    "lmpop": lmpop,
    "wait": wait,
    "xread": xread,
    "xreadgroup": xreadgroup,
    "zmpop": zmpop,
}
