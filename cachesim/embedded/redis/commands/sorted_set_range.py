"""ZRANGE and its kin, of the sorted set commands: ranges by rank, by score, and by name."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from typing import Any

from cachesim.embedded.redis.commands.common.by_fakeredis import value_of
from cachesim.embedded.redis.commands.sorted_set_algebra import put, shown
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import SYNTAX, integer, real
from cachesim.protocols.resp import Error

_NOT_FLOAT = "ERR min or max is not a float"
_NOT_LEX = "ERR min or max not valid string range item"
_LOWEST = (-math.inf,)

_Scored = tuple[float, bytes]
_Take = Callable[[Any, bool], list[_Scored]]
"""Returns the members of a range, given a sorted set and whether the order is reversed."""


def by_rank(low: bytes, high: bytes) -> _Take:
    """Return what takes the members between two ranks."""
    first, last = integer(low), integer(high)

    def take(members: Any, is_reverse: bool) -> list[_Scored]:
        size = len(members)
        begin = max(0, first + size if first < 0 else first)
        end = min(size, (last + size if last < 0 else last) + 1)
        if begin >= end:
            return []
        if is_reverse:
            return list(members.islice_score(size - end, size - begin, True))
        return list(members.islice_score(begin, end))

    return take


def _score(text: bytes) -> tuple[float, bool]:
    """Read a score, and whether it is out of the range."""
    is_excluded = text[:1] == b"("
    digits = text[is_excluded:].lstrip(b" \t\n\v\f\r")
    return real(digits, _NOT_FLOAT) if digits else 0.0, is_excluded


def by_score(low: bytes, high: bytes) -> _Take:
    """Return what takes the members between two scores."""
    (lowest, low_excluded), (highest, high_excluded) = _score(low), _score(high)

    def position(members: Any, score: float, is_after: bool) -> int:
        if not is_after:
            return int(members.zcount(_LOWEST, (score,)))
        if score == math.inf:
            return len(members)
        return int(members.zcount(_LOWEST, (math.nextafter(score, math.inf),)))

    def take(members: Any, is_reverse: bool) -> list[_Scored]:
        begin = position(members, lowest, low_excluded)
        end = position(members, highest, not high_excluded)
        return list(members.islice_score(begin, end, is_reverse)) if begin < end else []

    return take


def _name(text: bytes) -> tuple[tuple[Any, ...], bool]:
    """Read a name, as it sorts, and whether it is out of the range."""
    if text in (b"-", b"+"):
        return ((0,) if text == b"-" else (2,)), False
    if text[:1] not in (b"(", b"["):
        raise Error(_NOT_LEX)
    return (1, text[1:]), text[:1] == b"("


def by_name(low: bytes, high: bytes) -> _Take:
    """Return what takes the members between two names. It goes on to the first one outside."""
    (lowest, low_excluded), (highest, high_excluded) = _name(low), _name(high)

    def is_above(one: _Scored) -> bool:
        name = (1, one[1])
        return name > lowest if low_excluded else name >= lowest

    def is_below(one: _Scored) -> bool:
        name = (1, one[1])
        return name < highest if high_excluded else name <= highest

    def take(members: Any, is_reverse: bool) -> list[_Scored]:
        if lowest > highest or (lowest == highest and (low_excluded or high_excluded)):
            return []
        ordered = list(members.islice_score(0, len(members)))
        if not ordered or not is_above(ordered[-1]) or not is_below(ordered[0]):
            return []
        begins, goes_on = (is_below, is_above) if is_reverse else (is_above, is_below)
        if is_reverse:
            ordered.reverse()
        found = dropwhile(lambda one: not begins(one), ordered)
        return list(takewhile(goes_on, found))

    return take


_BY = {b"byscore": by_score, b"bylex": by_name}


@dataclass
class _Form:
    """How a command of ranges is written.

    Attributes:
        by: what reads the edges; None if an option tells.
        is_reverse: None if an option tells.
        stores: whether the members are stored in the first key.
    """

    by: Callable[[bytes, bytes], _Take] | None = None
    is_reverse: bool | None = None
    stores: bool = False


def _range(form: _Form) -> Handler:
    """Return the handler of a command that answers or stores a range."""

    def run(client: Client, arguments: list[bytes]) -> Answer:
        key_at = 2 if form.stores else 1
        by, is_reverse, with_scores, offset, limit = form.by, form.is_reverse, False, 0, -1
        at = key_at + 3
        while at < len(arguments):
            word = arguments[at].lower()
            if word == b"withscores" and not form.stores:
                with_scores = True
            elif word == b"limit" and at + 2 < len(arguments):
                offset, limit = integer(arguments[at + 1]), integer(arguments[at + 2])
                at += 2
            elif word == b"rev" and is_reverse is None:
                is_reverse = True
            elif word in _BY and by is None:
                by = _BY[word]
            else:
                raise Error(SYNTAX)
            at += 1
        by = by or by_rank
        if limit != -1 and by is by_rank:
            raise Error(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or "
                "BYLEX"
            )
        if with_scores and by is by_name:
            raise Error("ERR syntax error, WITHSCORES not supported in combination with BYLEX")
        low, high = arguments[key_at + 1 : key_at + 3]
        take = by(high, low) if is_reverse and by is not by_rank else by(low, high)
        members = value_of(client, arguments[key_at], "zset")
        found = take(members, bool(is_reverse)) if members else []
        if by is not by_rank:
            found = found[offset:] if offset >= 0 else []
            found = found[:limit] if limit >= 0 else found
        if form.stores:
            return put(client, arguments[1], {member: score for score, member in found})
        return shown(client, found, with_scores=with_scores)

    return run


def _count(by: Callable[[bytes, bytes], _Take]) -> Handler:
    def run(client: Client, arguments: list[bytes]) -> Answer:
        take = by(arguments[2], arguments[3])
        members = value_of(client, arguments[1], "zset")
        return len(take(members, False)) if members else 0

    return run


def _remove(by: Callable[[bytes, bytes], _Take]) -> Handler:
    def run(client: Client, arguments: list[bytes]) -> Answer:
        key, take = arguments[1], by(arguments[2], arguments[3])
        members = value_of(client, key, "zset")
        found = take(members, False) if members else []
        if not found:
            return 0
        return client.store.run("zrem", [key, *(member for _, member in found)], client.resp)

    return run


HANDLERS: Mapping[str, Handler] = {
    "zcount": _count(by_score),  # key min max
    "zlexcount": _count(by_name),  # key min max
    "zrange": _range(_Form()),  # key min max [BYSCORE | BYLEX] [REV] [LIMIT ...] [WITHSCORES]
    "zrangebylex": _range(_Form(by_name, False)),  # key min max [LIMIT offset count]
    "zrangebyscore": _range(_Form(by_score, False)),  # key min max [WITHSCORES] [LIMIT ...]
    "zrangestore": _range(_Form(stores=True)),  # target, then as ZRANGE without WITHSCORES
    "zremrangebylex": _remove(by_name),  # key min max
    "zremrangebyrank": _remove(by_rank),  # key start stop
    "zremrangebyscore": _remove(by_score),  # key min max
    "zrevrange": _range(_Form(by_rank, True)),  # key start stop [WITHSCORES]
    "zrevrangebylex": _range(_Form(by_name, True)),  # key max min [LIMIT offset count]
    "zrevrangebyscore": _range(_Form(by_score, True)),  # key max min [WITHSCORES] [LIMIT ...]
}
