"""The hash commands, without fakeredis. Those about fields that expire are in `hash_expiry`."""

import random
from collections.abc import Mapping
from typing import cast

from cachesim.embedded.redis.commands.common.random_members import count_of, picked
from cachesim.embedded.redis.commands.common.scan import scan_members
from cachesim.embedded.redis.commands.hash_expiry import HANDLERS as EXPIRY
from cachesim.embedded.redis.commands.hash_expiry import find
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import (
    HIGHEST,
    LOWEST,
    Hash,
    added,
    decimal,
    integer,
)
from cachesim.protocols.resp import Error, Pairs, Reply


def _create(client: Client, key: bytes) -> Hash:
    value = find(client, key)
    if value is None:
        value = Hash()
        client.store.put(key, value)
        client.store.dirty.pop()
    return value


def hset(client: Client, arguments: list[bytes]) -> Answer:
    """HSET key field value..."""
    if len(arguments) % 2:
        raise Error("ERR wrong number of arguments for 'hset' command")
    key = arguments[1]
    value = _create(client, key)
    added = 0
    for at in range(2, len(arguments), 2):
        added += value.put(arguments[at], arguments[at + 1])
    client.store.dirty.append(key)
    return added


def hmset(client: Client, arguments: list[bytes]) -> Answer:
    """HMSET key field value..."""
    if len(arguments) % 2:
        raise Error("ERR wrong number of arguments for 'hmset' command")
    hset(client, arguments)
    return "OK"


def hsetnx(client: Client, arguments: list[bytes]) -> Answer:
    """HSETNX key field value."""
    present = find(client, arguments[1])
    if present is not None and arguments[2] in present:
        return 0
    _create(client, arguments[1]).put(arguments[2], arguments[3])
    client.store.dirty.append(arguments[1])
    return 1


def hget(client: Client, arguments: list[bytes]) -> Answer:
    """HGET key field."""
    value = find(client, arguments[1])
    return None if value is None else value.get(arguments[2])


def hmget(client: Client, arguments: list[bytes]) -> Answer:
    """HMGET key field..."""
    value = find(client, arguments[1])
    return [None if value is None else value.get(field) for field in arguments[2:]]


def hgetall(client: Client, arguments: list[bytes]) -> Answer:
    """HGETALL key."""
    value: Mapping[bytes, bytes] = find(client, arguments[1]) or {}
    return Pairs(word for pair in value.items() for word in pair)


def hkeys(client: Client, arguments: list[bytes]) -> Answer:
    """HKEYS key."""
    return list(find(client, arguments[1]) or ())


def hvals(client: Client, arguments: list[bytes]) -> Answer:
    """HVALS key."""
    return list((find(client, arguments[1]) or {}).values())


def hlen(client: Client, arguments: list[bytes]) -> Answer:
    """HLEN key: expired fields count until they are removed, as with Redis."""
    return len(client.store.value(arguments[1], Hash) or ())


def hexists(client: Client, arguments: list[bytes]) -> Answer:
    """HEXISTS key field."""
    return int(arguments[2] in (find(client, arguments[1]) or ()))


def hstrlen(client: Client, arguments: list[bytes]) -> Answer:
    """HSTRLEN key field."""
    return len((find(client, arguments[1]) or Hash()).get(arguments[2], b""))


def hdel(client: Client, arguments: list[bytes]) -> Answer:
    """HDEL key field..."""
    key = arguments[1]
    value = find(client, key)
    if value is None:
        return 0
    removed = sum(map(value.remove, arguments[2:]))
    if not value:
        client.store.remove(key)
    elif removed:
        client.store.dirty.append(key)
    return removed


def hincrby(client: Client, arguments: list[bytes]) -> Answer:
    """HINCRBY key field increment."""
    key, field = arguments[1], arguments[2]
    by = integer(arguments[3])
    value = find(client, key)
    present = (value or Hash()).get(field, b"0")
    number = integer(present, "ERR hash value is not an integer") + by
    if not LOWEST <= number <= HIGHEST:
        raise Error("ERR increment or decrement would overflow")
    _create(client, key).put(field, b"%d" % number, keeps_deadline=True)
    client.store.dirty.append(key)
    return number


def hincrbyfloat(client: Client, arguments: list[bytes]) -> Answer:
    """HINCRBYFLOAT key field increment."""
    key, field = arguments[1], arguments[2]
    by = decimal(arguments[3])
    if not by.is_finite():
        raise Error("ERR value is NaN or Infinity")
    value = find(client, key)
    present = decimal((value or Hash()).get(field, b"0"), "ERR hash value is not a float")
    if not present.is_finite():
        raise Error("ERR increment would produce NaN or Infinity")
    number = added(present, by)
    value = _create(client, key)
    value.put(field, number, keeps_deadline=True)
    client.store.dirty.append(key)
    effects = client.server.executor.effects = [[b"HSET", key, field, number]]
    if value.deadlines and (at := value.deadlines.get(field)):
        effects.append([b"HPEXPIREAT", key, b"%d" % at, b"FIELDS", b"1", field])
    return number


def hrandfield(client: Client, arguments: list[bytes]) -> Answer:
    """HRANDFIELD key [count [WITHVALUES]]."""
    if len(arguments) == 2:
        value = find(client, arguments[1])
        return random.choice(list(value)) if value else None
    count, with_values = count_of(arguments[2:], b"withvalues")
    value = find(client, arguments[1])
    if not value or not count:
        return []
    fields = picked(list(value), count)
    if not with_values:
        return cast(Reply, fields)
    if client.resp == 3:
        return [[field, value[field]] for field in fields]
    return [word for field in fields for word in (field, value[field])]


def hscan(client: Client, arguments: list[bytes]) -> Answer:
    """HSCAN key cursor [MATCH pattern] [COUNT count]."""
    next_cursor, found = scan_members(
        lambda: find(client, arguments[1]), arguments, whole=lambda value: not value.is_table
    )
    value = find(client, arguments[1]) or Hash()
    return [b"%d" % next_cursor, [word for field in found for word in (field, value[field])]]


HANDLERS: Mapping[str, Handler] = {
    **EXPIRY,
    "hdel": hdel,
    "hexists": hexists,
    "hget": hget,
    "hgetall": hgetall,
    "hincrby": hincrby,
    "hincrbyfloat": hincrbyfloat,
    "hkeys": hkeys,
    "hlen": hlen,
    "hmget": hmget,
    "hmset": hmset,
    "hrandfield": hrandfield,
    "hscan": hscan,
    "hset": hset,
    "hsetnx": hsetnx,
    "hstrlen": hstrlen,
    "hvals": hvals,
}
