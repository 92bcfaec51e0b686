"""The set commands. fakeredis runs them, except SSCAN. SPOP replicates as SREM or DEL."""

import random
from collections.abc import Mapping
from typing import Any, cast

from cachesim.embedded.redis.commands.common.by_fakeredis import plain, value_of
from cachesim.embedded.redis.commands.common.random_members import count_of, picked
from cachesim.embedded.redis.commands.common.scan import scan_members
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import NOT_POSITIVE, SYNTAX, encoding_of, integer
from cachesim.protocols.resp import Error, Reply, Unordered

_LIMIT = "ERR LIMIT can't be negative"
_NUMKEYS = "ERR numkeys should be greater than 0"
_PLAIN = (
    "scard",  # key
    "sdiffstore",  # destination key...
    "sinterstore",  # destination key...
    "sismember",  # key member
    "smismember",  # key member...
    "smove",  # source destination member
    "srem",  # key member...
    "sunionstore",  # destination key...
)
_UNORDERED = (
    "sdiff",  # key...
    "sinter",  # key...
    "smembers",  # key
    "sunion",  # key...
)


_sadd = plain("sadd")


def _unordered(name: str) -> Handler:
    def run(client: Client, arguments: list[bytes]) -> Answer:
        members: Any = client.store.run(name, arguments[1:], client.resp)
        return Unordered(_in_order(members))

    return run


def _in_order(members: list[bytes]) -> list[Reply]:
    """Return integers in ascending order, as Redis keeps a small set of them."""
    is_kept = encoding_of(members, "set") == "intset"
    return cast("list[Reply]", sorted(members, key=int) if is_kept else members)


def sadd(client: Client, arguments: list[bytes]) -> Answer:
    """SADD key member..."""
    count = _sadd(client, arguments)
    if count == 0:
        client.store.dirty.clear()  # nothing has changed
    return count


def sintercard(client: Client, arguments: list[bytes]) -> Answer:
    """SINTERCARD numkeys key... [LIMIT n]."""
    count = integer(arguments[1], _NUMKEYS)
    if count < 1:
        raise Error(_NUMKEYS)
    if count > len(arguments) - 2:
        raise Error("ERR Number of keys can't be greater than number of args")
    options = arguments[2 + count :]
    for at in range(0, len(options), 2):
        if options[at].lower() != b"limit" or at + 1 == len(options):
            raise Error(SYNTAX)
        if integer(options[at + 1], _LIMIT) < 0:
            raise Error(_LIMIT)
    if not min(len(value_of(client, key, "set")) for key in arguments[2 : 2 + count]):
        return 0
    # Told several times, the last limit counts. The emulation's own command takes one.
    return client.store.run("sintercard", [*arguments[1 : 2 + count], *options[-2:]], client.resp)


def spop(client: Client, arguments: list[bytes]) -> Answer:
    """SPOP key [count]: replicas remove the same elements."""
    if len(arguments) > 3:
        raise Error(SYNTAX)
    key = arguments[1]
    if len(arguments) == 3 and integer(arguments[2], NOT_POSITIVE) < 0:
        raise Error(NOT_POSITIVE)
    answer: Any = client.store.run("spop", arguments[1:], client.resp)
    if not answer:
        return Unordered() if len(arguments) == 3 else None
    taken = answer if isinstance(answer, list) else [answer]
    gone = client.store.get(key) is None
    client.server.executor.effects = [[b"DEL", key] if gone else [b"SREM", key, *taken]]
    return Unordered(_in_order(taken) if gone else taken) if isinstance(answer, list) else answer


def srandmember(client: Client, arguments: list[bytes]) -> Answer:
    """SRANDMEMBER key [count]."""
    if len(arguments) == 2:
        members = value_of(client, arguments[1], "set")
        return random.choice(list(members)) if members else None
    if len(arguments) > 3:
        raise Error(SYNTAX)
    count, _ = count_of(arguments[2:])
    return list[Reply](picked(list(value_of(client, arguments[1], "set")), count))


def sscan(client: Client, arguments: list[bytes]) -> Answer:
    """SSCAN key cursor [MATCH pattern] [COUNT n]."""
    next_cursor, found = scan_members(
        lambda: value_of(client, arguments[1], "set"),
        arguments,
        whole=lambda members: len(members) <= 512,
    )
    return [b"%d" % next_cursor, _in_order(found)]


HANDLERS: Mapping[str, Handler] = {
    **{name: plain(name) for name in _PLAIN},
    **{name: _unordered(name) for name in _UNORDERED},
    "sadd": sadd,
    "sintercard": sintercard,
    "spop": spop,
    "srandmember": srandmember,
    "sscan": sscan,
}
