"""The sorted set commands. fakeredis runs all but ZSCAN, ranges and set algebra."""

import random
from collections.abc import Mapping
from typing import cast

from cachesim.embedded.redis.commands import sorted_set_algebra, sorted_set_range
from cachesim.embedded.redis.commands.common.blocking import (
    pop_or_wait,
    pop_several,
    pop_several_or_wait,
)
from cachesim.embedded.redis.commands.common.by_fakeredis import plain, value_of
from cachesim.embedded.redis.commands.common.random_members import count_of, picked
from cachesim.embedded.redis.commands.common.scan import scan_members
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import NOT_POSITIVE, SYNTAX, integer
from cachesim.protocols.resp import Error, Reply, double

_PLAIN = (
    "zadd",  # key [NX | XX] [GT | LT] [CH] [INCR] score member...
    "zcard",  # key
    "zincrby",  # key increment member
    "zmscore",  # key member...
    "zrank",  # key member
    "zrem",  # key member...
    "zrevrank",  # key member
    "zscore",  # key member
)
_popped = {name.encode(): plain(name) for name in ("zpopmax", "zpopmin")}


def zrandmember(client: Client, arguments: list[bytes]) -> Answer:
    """ZRANDMEMBER key [count [WITHSCORES]]."""
    if len(arguments) == 2:
        members = value_of(client, arguments[1], "zset")
        return random.choice(list(members)) if members else None
    count, with_scores = count_of(arguments[2:], b"withscores")
    members = value_of(client, arguments[1], "zset")
    found = picked(list(members), count)
    if not with_scores:
        return list[Reply](found)
    pairs: list[list[Reply]] = [[member, members.get(member)] for member in found]
    return list[Reply](pairs) if client.resp == 3 else [word for pair in pairs for word in pair]


def zpop(client: Client, arguments: list[bytes]) -> Answer:
    """ZPOPMIN key [count], ZPOPMAX key [count]."""
    if len(arguments) > 3:
        raise Error(SYNTAX)
    if len(arguments) == 3 and integer(arguments[2], NOT_POSITIVE) < 0:
        raise Error(NOT_POSITIVE)
    return _popped[arguments[0].lower()](client, arguments)


def zmpop(client: Client, arguments: list[bytes]) -> Answer:
    """ZMPOP numkeys key... MIN|MAX [COUNT n]."""
    return pop_several(client, arguments, "zset")


def zscan(client: Client, arguments: list[bytes]) -> Answer:
    """ZSCAN key cursor [MATCH pattern] [COUNT n]."""
    next_cursor, found = scan_members(
        lambda: value_of(client, arguments[1], "zset"),
        arguments,
        whole=lambda members: len(members) <= 128,
    )
    members = value_of(client, arguments[1], "zset")
    flat = [word for member in found for word in (member, double(members.get(member)))]
    return [b"%d" % next_cursor, cast("list[Reply]", flat)]


# --- blocking commands ----------------------------------------------------------------------


def bzpopmin(client: Client, arguments: list[bytes]) -> Answer:
    """BZPOPMIN key... timeout."""
    return pop_or_wait(client, arguments, "zpopmin", "zset")


def bzpopmax(client: Client, arguments: list[bytes]) -> Answer:
    """BZPOPMAX key... timeout."""
    return pop_or_wait(client, arguments, "zpopmax", "zset")


def bzmpop(client: Client, arguments: list[bytes]) -> Answer:
    """BZMPOP timeout numkeys key... MIN|MAX [COUNT n]."""
    return pop_several_or_wait(client, arguments, "zset")


HANDLERS: Mapping[str, Handler] = {
    **sorted_set_algebra.HANDLERS,
    **sorted_set_range.HANDLERS,
    **{name: plain(name) for name in _PLAIN},
    "bzmpop": bzmpop,
    "bzpopmax": bzpopmax,
    "bzpopmin": bzpopmin,
    "zmpop": zmpop,
    "zpopmax": zpop,
    "zpopmin": zpop,
    "zrandmember": zrandmember,
    "zscan": zscan,
}
