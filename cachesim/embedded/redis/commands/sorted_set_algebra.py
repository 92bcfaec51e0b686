"""ZUNION, ZINTER, ZDIFF and their kin, of the sorted set commands."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import SYNTAX, WRONG_TYPE, integer, real
from cachesim.protocols.resp import Error

_LIMIT = "ERR LIMIT can't be negative"


@dataclass
class _Request:
    """A request, as its arguments tell.

    Attributes:
        sources: members and scores of each key, and the key's weight.
        limit: of ZINTERCARD; 0 for none.
    """

    sources: list[tuple[Mapping[bytes, float], float]] = field(default_factory=list)
    aggregate: bytes = b"sum"
    with_scores: bool = False
    limit: int = 0


def _members(client: Client, key: bytes) -> Mapping[bytes, float]:
    item = client.store.get(key)
    if item is None:
        return {}
    kind = client.store.type_name(item.value)
    if kind == "set":
        return dict.fromkeys(item.value, 1.0)
    if kind != "zset":
        raise Error(WRONG_TYPE)
    return dict(item.value.items())


def _read(client: Client, arguments: list[bytes], at: int) -> _Request:
    """Read `numkeys key... [options]`, which begin at an argument."""
    name = arguments[0].lower().decode()
    count = integer(arguments[at])
    if count < 1:
        raise Error(f"ERR at least 1 input key is needed for '{name}' command")
    at += 1
    if count > len(arguments) - at:
        raise Error(SYNTAX)
    weights = [1.0] * count
    members = [_members(client, key) for key in arguments[at : at + count]]
    request = _Request()
    at += count
    weighs = "diff" not in name and name != "zintercard"
    while at < len(arguments):
        word, left = arguments[at].lower(), len(arguments) - at - 1
        if weighs and word == b"weights" and left >= count:
            texts = arguments[at + 1 : at + 1 + count]
            weights = [real(text, "ERR weight value is not a float") for text in texts]
            at += count
        elif weighs and word == b"aggregate" and left:
            at += 1
            request.aggregate = arguments[at].lower()
            if request.aggregate not in (b"sum", b"min", b"max"):
                raise Error(SYNTAX)
        elif word == b"withscores" and name in ("zunion", "zinter", "zdiff"):
            request.with_scores = True
        elif word == b"limit" and name == "zintercard" and left:
            at += 1
            request.limit = integer(arguments[at], _LIMIT)
            if request.limit < 0:
                raise Error(_LIMIT)
        else:
            raise Error(SYNTAX)
        at += 1
    request.sources = list(zip(members, weights, strict=True))
    return request


def _number(score: float) -> float:
    return 0.0 if math.isnan(score) else score


def _aggregated(one: float, other: float, how: bytes) -> float:
    if how == b"sum":
        return _number(one + other)
    return min(one, other) if how == b"min" else max(one, other)


def _smallest_first(request: _Request) -> list[tuple[Mapping[bytes, float], float]]:
    return sorted(request.sources, key=lambda source: len(source[0]))


def _union(request: _Request) -> dict[bytes, float]:
    found: dict[bytes, float] = {}
    for members, weight in _smallest_first(request):
        for member, score in members.items():
            new = _number(weight * score)
            if member in found:
                new = _aggregated(found[member], new, request.aggregate)
            found[member] = new
    return found


def _intersection(request: _Request) -> Iterator[tuple[bytes, float]]:
    (first, weight), *others = _smallest_first(request)
    for member, score in first.items():
        result = _number(weight * score)
        for members, factor in others:
            if member not in members:
                break
            result = _aggregated(result, members[member] * factor, request.aggregate)
        else:
            yield member, result


def _difference(request: _Request) -> dict[bytes, float]:
    (first, _), *others = request.sources
    return {
        member: score
        for member, score in first.items()
        if not any(member in members for members, _ in others)
    }


def _result(name: bytes, request: _Request) -> dict[bytes, float]:
    if b"union" in name:
        return _union(request)
    return _difference(request) if b"diff" in name else dict(_intersection(request))


def answer(client: Client, arguments: list[bytes]) -> Answer:
    """ZUNION, ZINTER numkeys key... [WEIGHTS weight...] [AGGREGATE SUM|MIN|MAX] [WITHSCORES].

    ZDIFF numkeys key... [WITHSCORES], too.
    """
    request = _read(client, arguments, 1)
    found = _result(arguments[0].lower(), request)
    scored = sorted((score, member) for member, score in found.items())
    return shown(client, scored, with_scores=request.with_scores)


def shown(client: Client, scored: list[tuple[float, bytes]], *, with_scores: bool) -> Answer:
    """Return the reply for members in order. With scores it has pairs in RESP3."""
    if not with_scores:
        return [member for _, member in scored]
    if client.resp == 3:
        return [[member, float(score)] for score, member in scored]
    return [word for score, member in scored for word in (member, float(score))]


def store(client: Client, arguments: list[bytes]) -> Answer:
    """ZUNIONSTORE, ZINTERSTORE, ZDIFFSTORE destination, then as ZUNION, ZINTER, ZDIFF."""
    return put(client, arguments[1], _result(arguments[0].lower(), _read(client, arguments, 2)))


def put(client: Client, key: bytes, scores: Mapping[bytes, float]) -> int:
    """Set a key to a sorted set, or delete it if there is no member. Return their count."""
    from fakeredis.model import ZSet

    if not scores:
        client.store.remove(key)
        return 0
    scored = ZSet()
    for member, score in scores.items():
        scored.add(member, score)
    client.store.put(key, scored)
    return len(scores)


def zintercard(client: Client, arguments: list[bytes]) -> Answer:
    """ZINTERCARD numkeys key... [LIMIT n]."""
    request = _read(client, arguments, 1)
    count = sum(1 for _ in _intersection(request))
    return min(count, request.limit) if request.limit else count


HANDLERS: Mapping[str, Handler] = {
    "zdiff": answer,
    "zdiffstore": store,
    "zinter": answer,
    "zintercard": zintercard,
    "zinterstore": store,
    "zunion": answer,
    "zunionstore": store,
}
