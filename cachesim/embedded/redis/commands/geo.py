"""The geo commands: sorted sets whose scores are geohashes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachesim.embedded.redis.commands.common.by_fakeredis import value_of
from cachesim.embedded.redis.commands.sorted_set_algebra import put
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace import geohash
from cachesim.embedded.redis.keyspace.geohash import LATITUDE, LONGITUDE, Area, Position
from cachesim.embedded.redis.keyspace.values import NOT_FLOAT, SYNTAX, integer, printed, real
from cachesim.protocols.resp import NULL_ARRAY, Error, LongDouble, Reply

_UNITS = {b"m": 1.0, b"km": 1000.0, b"ft": 0.3048, b"mi": 1609.34}
_ALPHABET = b"0123456789bcdefghjkmnpqrstuvwxyz"
_NO_MEMBER = "ERR could not decode requested zset member"


def _metres(word: bytes) -> float:
    metres = _UNITS.get(word.lower())
    if metres is None:
        raise Error("ERR unsupported unit provided. please use M, KM, FT, MI")
    return metres


def _position(words: Sequence[bytes]) -> Position:
    longitude, latitude = real(words[0], NOT_FLOAT), real(words[1], NOT_FLOAT)
    if not (LONGITUDE[0] <= longitude <= LONGITUDE[1] and LATITUDE[0] <= latitude <= LATITUDE[1]):
        raise Error(f"ERR invalid longitude,latitude pair {longitude:f},{latitude:f}")
    return longitude, latitude


def _position_of(members: Any, member: bytes) -> Position | None:
    score = members.get(member)
    return None if score is None else geohash.decode(_bits(score))


def _bits(score: float) -> int:
    """Return a score as C turns it into 64 bits, though no geohash may be so low or high."""
    if score >= 2**63:
        return int(score) if score < 2**64 else 0
    return int(score) % 2**64 if score >= -(2**63) else 2**63


def _degrees(position: Position) -> Reply:
    return [LongDouble(position[0]), LongDouble(position[1])]


def geoadd(client: Client, arguments: list[bytes]) -> Answer:
    """GEOADD key [NX | XX] [CH] longitude latitude member...: replicas get a ZADD."""
    at = 2
    while at < len(arguments) and arguments[at].lower() in (b"nx", b"xx", b"ch"):
        at += 1
    options = {word.lower() for word in arguments[2:at]}
    if (len(arguments) - at) % 3 or {b"nx", b"xx"} <= options:
        raise Error(SYNTAX)
    words = [*arguments[1:at]]
    for start in range(at, len(arguments), 3):
        score = geohash.encode(_position(arguments[start : start + 2]))
        words += [b"%d" % score, arguments[start + 2]]
    answer = client.store.run("zadd", words, client.resp)
    if client.store.dirty:
        client.server.executor.effects = [[b"zadd", *words]]
    return answer


def geodist(client: Client, arguments: list[bytes]) -> Answer:
    """GEODIST key member member [M | KM | FT | MI]."""
    if len(arguments) > 5:
        raise Error(SYNTAX)
    metres = _metres(arguments[4]) if len(arguments) == 5 else 1.0
    members = value_of(client, arguments[1], "zset")
    one, other = (_position_of(members, member) for member in arguments[2:4])
    if one is None or other is None:
        return None
    return b"%.4f" % (geohash.distance(one, other) / metres)


def geohash_(client: Client, arguments: list[bytes]) -> Answer:
    """GEOHASH key member...: the common geohash, of 11 characters."""
    members = value_of(client, arguments[1], "zset")
    found: list[bytes | None] = []
    for member in arguments[2:]:
        position = _position_of(members, member)
        if position is None:
            found.append(None)
            continue
        bits = geohash.encode(position, latitudes=(-90.0, 90.0))
        shifts = range(47, 0, -5)
        found.append(bytes(_ALPHABET[bits >> shift & 31] for shift in shifts) + b"0")
    return found


def geopos(client: Client, arguments: list[bytes]) -> Answer:
    """GEOPOS key member..."""
    members = value_of(client, arguments[1], "zset")
    found = (_position_of(members, member) for member in arguments[2:])
    return [NULL_ARRAY if one is None else _degrees(one) for one in found]


# --- searches --------------------------------------------------------------------------------


@dataclass
class _Search:
    """A search, as its arguments tell.

    Attributes:
        metres: of the unit.
        shown: of `withdist`, `withhash`, `withcoord`.
        count: the most members; 0 for all.
        any: whether to take the first ones.
        order: `asc`, `desc`, or empty.
        target: the key for the members; None to answer them.
        by_distance: whether the target's scores are distances.
        has_member: whether the centre was given as a member; `has_position`, as a position.
    """

    centre: Position = (0.0, 0.0)
    metres: float = 1.0
    radius: float | None = None
    box: tuple[float, float] | None = None
    shown: frozenset[bytes] = frozenset()
    count: int = 0
    any: bool = False
    order: bytes = b""
    target: bytes | None = None
    by_distance: bool = False
    has_member: bool = False
    has_position: bool = False

    def read_radius(self, words: Sequence[bytes]) -> None:
        """Read `radius unit`."""
        radius = real(words[0], "ERR need numeric radius")
        if radius < 0:
            raise Error("ERR radius cannot be negative")
        self.radius, self.metres = radius, _metres(words[1])

    def read_box(self, words: Sequence[bytes]) -> None:
        """Read `width height unit`."""
        box = real(words[0], "ERR need numeric width"), real(words[1], "ERR need numeric height")
        if min(box) < 0:
            raise Error("ERR height or width cannot be negative")
        self.box, self.metres = box, _metres(words[2])

    def area(self) -> Area:
        """Return the area to search."""
        if self.radius is not None:
            radius = self.radius * self.metres
            return Area(self.centre, 2 * radius, 2 * radius, radius)
        width, height = self.box or (0.0, 0.0)
        return Area(self.centre, width * self.metres, height * self.metres)


def _centre(members: Any, member: bytes) -> Position:
    position = _position_of(members, member)
    if position is None:
        raise Error(_NO_MEMBER)
    return position


def _read_options(
    search: _Search, words: Sequence[bytes], members: Any, *, searches: bool, may_store: bool
) -> None:
    """Read the options of a search.

    Args:
        members: of the sorted set; empty if the key is missing.
        searches: whether the command is GEOSEARCH or GEOSEARCHSTORE.
        may_store: whether STOREDIST is an option; STORE too, if it is not GEOSEARCHSTORE.
    """
    at = 0
    while at < len(words):
        word, left = words[at].lower(), len(words) - at - 1
        if word in (b"withdist", b"withhash", b"withcoord"):
            search.shown |= {word}
        elif word == b"any":
            search.any = True
        elif word in (b"asc", b"desc"):
            search.order = word
        elif word == b"count" and left:
            search.count = integer(words[at + 1])
            if search.count <= 0:
                raise Error("ERR COUNT must be > 0")
            at += 1
        elif not searches and may_store and word in (b"store", b"storedist") and left:
            search.target, search.by_distance = words[at + 1], word == b"storedist"
            at += 1
        elif searches and word == b"frommember" and left and not search.has_position:
            if members:
                search.centre = _centre(members, words[at + 1])
            search.has_member = True
            at += 1
        elif searches and word == b"fromlonlat" and left > 1 and not search.has_member:
            search.centre = _position(words[at + 1 : at + 3])
            search.has_position = True
            at += 2
        elif searches and word == b"byradius" and left > 1 and search.box is None:
            search.read_radius(words[at + 1 : at + 3])
            at += 2
        elif searches and word == b"bybox" and left > 2 and search.radius is None:
            search.read_box(words[at + 1 : at + 4])
            at += 3
        elif searches and may_store and word == b"storedist":
            search.by_distance = True
        else:
            raise Error(SYNTAX)
        at += 1


def _run(client: Client, search: _Search, members: Any) -> Answer:
    """Answer or store the members of an area."""
    if search.any and not search.count:
        raise Error("ERR the ANY argument requires COUNT argument")
    found = _search(search, members) if members else []
    if search.target is not None:
        return put(
            client,
            search.target,
            {member: far if search.by_distance else score for far, member, score in found},
        )
    return [_hit(search, *hit) for hit in found]


_Hit = tuple[float, bytes, float]
"""The distance in the unit, the member, and its score."""


def _search(search: _Search, members: Any) -> list[_Hit]:
    area, hits, least = search.area(), list[_Hit](), search.count if search.any else 0
    for low, high in area.ranges():
        for score, member in members.irange_score((low, b""), (high, b""), reverse=False):
            metres = area.distance_to(geohash.decode(_bits(score)))
            if metres is None or score == high:
                continue
            hits.append((metres / search.metres, member, score))
            if len(hits) == least:
                break
        if least and len(hits) >= least:
            break
    if search.order or (search.count and not search.any):
        hits.sort(key=lambda hit: hit[0], reverse=search.order == b"desc")
    return hits[: search.count] if search.count else hits


def _hit(search: _Search, far: float, member: bytes, score: float) -> Reply:
    if not search.shown:
        return member
    row: list[Reply] = [member]
    if b"withdist" in search.shown:
        row.append(b"%.4f" % far)
    if b"withhash" in search.shown:
        row.append(int(score))
    if b"withcoord" in search.shown:
        row.append(_degrees(geohash.decode(_bits(score))))
    return row


def _georadius(client: Client, arguments: list[bytes], *, by_member: bool) -> Answer:
    members = value_of(client, arguments[1], "zset")
    search = _Search()
    options = 5 if by_member else 6
    if not by_member:
        search.centre = _position(arguments[2:4])
    elif members:
        search.centre = _centre(members, arguments[2])
    if members or not by_member:
        search.read_radius(arguments[options - 2 : options])
    may_store = not arguments[0].lower().endswith(b"_ro")
    _read_options(search, arguments[options:], members, searches=False, may_store=may_store)
    if search.target is not None and search.shown:
        raise Error(
            "ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and "
            "WITHCOORD options"
        )
    return _run(client, search, members)


def georadius(client: Client, arguments: list[bytes]) -> Answer:
    """GEORADIUS, GEORADIUS_RO key longitude latitude radius M|KM|FT|MI [options]."""
    return _georadius(client, arguments, by_member=False)


def georadiusbymember(client: Client, arguments: list[bytes]) -> Answer:
    """GEORADIUSBYMEMBER, GEORADIUSBYMEMBER_RO key member radius M|KM|FT|MI [options]."""
    return _georadius(client, arguments, by_member=True)


def _geosearch(
    client: Client, arguments: list[bytes], source: bytes, target: bytes | None
) -> Answer:
    members = value_of(client, source, "zset")
    search = _Search(target=target)
    words = arguments[2 if target is None else 3 :]
    _read_options(search, words, members, searches=True, may_store=target is not None)
    name = printed(arguments[0])
    if target is not None and search.shown:
        raise Error(
            "ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
        )
    if not search.has_member and not search.has_position:
        raise Error(f"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {name}")
    if search.radius is None and search.box is None:
        raise Error(f"ERR exactly one of BYRADIUS and BYBOX can be specified for {name}")
    return _run(client, search, members)


def geosearch(client: Client, arguments: list[bytes]) -> Answer:
    """GEOSEARCH key FROMMEMBER member|FROMLONLAT x y BYRADIUS r unit|BYBOX w h unit [options]."""
    return _geosearch(client, arguments, arguments[1], None)


def geosearchstore(client: Client, arguments: list[bytes]) -> Answer:
    """GEOSEARCHSTORE target source, then as GEOSEARCH, [STOREDIST]."""
    return _geosearch(client, arguments, arguments[2], arguments[1])


HANDLERS: Mapping[str, Handler] = {
    "geoadd": geoadd,
    "geodist": geodist,
    "geohash": geohash_,
    "geopos": geopos,
    "georadius": georadius,
    "georadius_ro": georadius,
    "georadiusbymember": georadiusbymember,
    "georadiusbymember_ro": georadiusbymember,
    "geosearch": geosearch,
    "geosearchstore": geosearchstore,
}
"""Options of searches: [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT n [ANY]] [ASC | DESC].

GEORADIUS and GEORADIUSBYMEMBER also have [STORE key | STOREDIST key].
"""
