"""The sorted set commands. fakeredis runs those that no range, union, or difference is part of."""

from collections.abc import Mapping
from typing import cast

from cachesim.embedded.redis.commands import sorted_set_algebra, sorted_set_range
from cachesim.embedded.redis.commands.common.blocking import (
    pop_or_wait,
    pop_several,
    pop_several_or_wait,
)
from cachesim.embedded.redis.commands.common.by_fakeredis import (
    plain,
    random_members,
    value_of,
)
from cachesim.embedded.redis.commands.common.scan import scan_members
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import NOT_POSITIVE, SYNTAX, WRONG_TYPE, integer
from cachesim.protocols.resp import Error, Reply, double

_PLAIN = (
    "zadd",  # key [NX | XX] [GT | LT] [CH] [INCR] score member...
    "zcard",  # key
    "zincrby",  # key increment member
    "zmscore",  # key member...
    "zrangebylex",  # key min max [LIMIT offset count]
    "zrank",  # key member
    "zrem",  # key member...
    "zrevrank",  # key member
    "zscore",  # key member
)
_checked = {
    name.encode(): plain(name)
    for name in (
        "zpopmax", "zpopmin", "zrange", "zrangebyscore", "zrangestore", "zrevrange",
        "zrevrangebyscore",
    )
}  # fmt: skip
"""The commands that fakeredis runs after checks of our own."""
_random = random_members("zrandmember")


def zrange(client: Client, arguments: list[bytes]) -> Answer:
    """ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES].

    Also ZREVRANGE key start stop [WITHSCORES]. fakeredis accepts ranks that are no integers.
    """
    name = arguments[0].lower()
    if (
        name == b"zrevrange"
        and arguments[4:]
        and (len(arguments) > 5 or arguments[4].lower() != b"withscores")
    ):
        raise Error(SYNTAX)
    by = {word.lower() for word in arguments[4:]}
    if not by & {b"byscore", b"bylex"} and not by - {b"rev", b"withscores"}:
        for rank in arguments[2:4]:
            integer(rank)
    return _checked[name](client, arguments)


def zrangebyscore(client: Client, arguments: list[bytes]) -> Answer:
    """ZRANGEBYSCORE, ZREVRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]."""
    at = 4
    while at < len(arguments):
        word = arguments[at].lower()
        if word == b"limit" and at + 2 < len(arguments):
            at += 2
        elif word != b"withscores":
            raise Error(SYNTAX)
        at += 1
    return _checked[arguments[0].lower()](client, arguments)


def zrangestore(client: Client, arguments: list[bytes]) -> Answer:
    """ZRANGESTORE target source min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]."""
    by = {word.lower() for word in arguments[5:]}
    if not by - {b"rev"}:
        for rank in arguments[3:5]:
            integer(rank)
    try:
        return _checked[b"zrangestore"](client, arguments)
    except Error as error:
        if error.text != WRONG_TYPE:
            raise
    value_of(client, arguments[2], "zset")
    client.store.remove(arguments[1])  # whatever the target held
    return _checked[b"zrangestore"](client, arguments)


def zrandmember(client: Client, arguments: list[bytes]) -> Answer:
    """ZRANDMEMBER key [count [WITHSCORES]]."""
    answer = _random(client, arguments)
    if len(arguments) == 2 and isinstance(answer, list):
        return answer[0] if answer else None
    return answer


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
    members = value_of(client, arguments[1], "zset")
    next_cursor, found = scan_members(list(members), arguments, whole=len(members) <= 128)
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
    "zrange": zrange,
    "zrangebyscore": zrangebyscore,
    "zrangestore": zrangestore,
    "zrevrange": zrange,
    "zrevrangebyscore": zrangebyscore,
    "zscan": zscan,
}
