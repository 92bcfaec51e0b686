"""Requests about streams, geographic places and HyperLogLogs."""

import random

from tests.embedded.redis.grammar.draws import (
    Grammar,
    either,
    field,
    key,
    many,
    maybe,
    number,
    one,
    options,
    seq,
    value,
    word,
)

# --- streams ---------------------------------------------------------------------------------

block = one(b"1", b"-1", b"x")  # a wait without an end would end nothing
group = one(b"g", b"h", b"i")
_IDS = (b"1-1", b"2-1", b"3-1", b"5", b"7-7", b"0-0")
_entry_id = one(*_IDS, b"x", b"-", b"1--1", b"07", b"18446744073709551615-18446744073709551615")
_new_id = one(*_IDS, b"1-2", b"1-3", b"2-2", b"3-2", b"2-*", b"9-*", b"x", b"0-*", b"*-1")
_from_id = one(*_IDS[:4], b"0", b"0", b"$", b"$", b"x", b"-")
_bound = one(
    *_IDS, b"-", b"+", b"-", b"+", b"(1-1", b"(2", b"(-", b"(+", b"(", b"x", b"(0-0",
    b"(18446744073709551615-18446744073709551615",
)  # fmt: skip
_idle = one(b"0", b"0", b"0", b"100000", b"-1", b"x")
_limit = seq(word("maxlen", "minid"), one(b"~"), one(b"5", b"1-1"), word("limit"), number)
_trimming = many(
    either(
        seq(word("maxlen"), maybe(one(b"~", b"=")), number),
        seq(word("minid"), maybe(one(b"~", b"=")), _entry_id),
        seq(word("limit"), number),
        _limit,
    ),
    most=2,
)
_entries_read = maybe(word("entriesread"), number)


def read_from(r: random.Random) -> list[bytes]:
    """Draw keys, and as many ids."""
    keys = many(key)(r)
    ids = (*_IDS, b"0", b"$", b">", b">", b">", b"x")
    return [*keys, *(r.choice(ids) for _ in keys)]


STREAM_COMMANDS: Grammar = {
    "xadd": (key, maybe(word("nomkstream"), chance=0.1), maybe(_trimming), _new_id,
             many(field, value)),
    "xtrim": (key, _trimming), "xlen": (key,), "xdel": (key, many(_entry_id)),
    "xrange": (key, _bound, _bound, maybe(word("count"), number)),
    "xrevrange": (key, _bound, _bound, maybe(word("count"), number)),
    "xread": (maybe(word("count"), number), maybe(word("block"), block, chance=0.1),
              maybe(word("noack", "foo"), chance=0.05), word("streams"), read_from),
    "xreadgroup": (word("group"), group, group, maybe(word("count"), number),
                   maybe(word("block"), block, chance=0.1), maybe(word("noack"), chance=0.2),
                   word("streams"), read_from),
    "xsetid": (key, _entry_id, maybe(word("entriesadded"), number),
               maybe(word("maxdeletedid"), _entry_id)),
    "xgroup": (either(
        seq(word("create"), key, group, _from_id, maybe(word("mkstream", "x"), chance=0.7),
            _entries_read),
        seq(word("setid"), key, group, _from_id, _entries_read),
        seq(word("destroy"), key, group),
        seq(word("createconsumer", "delconsumer", "foo"), key, group, group),
        word("help"),
    ),),
    "xack": (key, group, many(_entry_id)),
    "xpending": (key, group, maybe(maybe(word("idle"), _idle), _bound, _bound, number, maybe(group),
                                   chance=0.7)),
    "xclaim": (key, group, group, _idle, many(_entry_id), options(
        word("force", "justid", "foo"), seq(word("retrycount"), number),
        seq(word("lastid"), _entry_id), seq(word("idle", "time"), _idle), most=3, chance=0.7,
    )),
    "xautoclaim": (key, group, group, _idle, _bound, maybe(word("count"), number),
                   maybe(word("justid", "foo"))),
    "xinfo": (either(
        seq(word("stream", "groups", "consumers", "stream"), key,
            maybe(word("full", "g", "h"), maybe(word("count", "x"), number))),
        seq(word("consumers"), key, group), word("help", "foo"),
    ),),
}  # fmt: skip

# --- places ----------------------------------------------------------------------------------

_longitude = one(b"13.361389", b"15.087269", b"-180", b"180", b"2.35", b"0", b"181", b"x")
_latitude = one(b"38.115556", b"37.502669", b"85.05112878", b"-66.5", b"48.85", b"0", b"90")
_place, _unit = one(b"p", b"q", b"r", b"s", b"a"), word("m", "km", "ft", "mi", "foo")
_metres = one(b"0", b"1", b"200", b"99999.5", b"1e7", b"-1", b"x", b"inf", b"123456789")
_centres = (seq(word("frommember"), _place), seq(word("fromlonlat"), _longitude, _latitude))
_shapes = (seq(word("byradius"), _metres, _unit), seq(word("bybox"), _metres, _metres, _unit))


def _searched(r: random.Random) -> list[bytes]:
    """Draw the centre and the shape of a search, or only one of them, or too many."""
    chosen = [r.choice(_centres), r.choice(_shapes)]
    if r.random() < 0.1:
        chosen = r.sample([*_centres, *_shapes], r.randint(0, 3))
    return [w for part in chosen for w in part(r)]


_geo_options = options(
    word("withcoord", "withdist", "withhash"),
    word("asc", "desc", "any"),
    seq(word("count"), number, maybe(word("any"))),
    word("storedist"),
    most=3,
    chance=0.6,
)
_geo_store = options(_geo_options, seq(word("store", "storedist"), key), most=3)
GEO_COMMANDS: Grammar = {
    "geoadd": (key, maybe(many(word("nx", "xx", "ch"))), many(_longitude, _latitude, _place)),
    "geodist": (key, _place, _place, maybe(_unit)), "geohash": (key, many(_place)),
    "geopos": (key, many(_place)),
    "geosearch": (key, _searched, _geo_options),
    "geosearchstore": (key, key, _searched, _geo_options),
    "georadius": (key, _longitude, _latitude, _metres, _unit, _geo_store),
    "georadius_ro": (key, _longitude, _latitude, _metres, _unit, _geo_options),
    "georadiusbymember": (key, _place, _metres, _unit, _geo_store),
    "georadiusbymember_ro": (key, _place, _metres, _unit, _geo_options),
}  # fmt: skip

# --- HyperLogLogs ----------------------------------------------------------------------------

HYPERLOGLOG_COMMANDS: Grammar = {
    "pfadd": (key, maybe(many(value), chance=0.9)), "pfcount": (many(key),),
    "pfmerge": (many(key),),
}  # fmt: skip

COMMANDS: Grammar = {**STREAM_COMMANDS, **GEO_COMMANDS, **HYPERLOGLOG_COMMANDS}
