"""Compares the replies of a real Redis 7.0 and of an embedded node to the same requests.

`python -m tests.embedded.redis.differential PORT --steps 10000` asks the server at that port. It
must run with `--cluster-enabled yes` and own all slots; the node runs in this process. Every reply
is compared, including the texts of errors, in RESP2 and in RESP3. Known differences are in `KNOWN`.
"""

import argparse
import asyncio
import random
import re
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cachesim.aio.pipe import pipe
from cachesim.embedded.redis.config import NodeAddress, RedisNodeConfig
from cachesim.embedded.redis.node import RedisNode
from cachesim.protocols.resp import request
from tests.embedded.redis.shard import Caller, ReplyError, _read, node_id

Words = tuple[bytes, ...]
NULL_ARRAY = "*-1"
"""The null array of RESP2, which is not its null."""

KNOWN: tuple[tuple[str, str], ...] = (
    ("INCRBYFLOAT, HINCRBYFLOAT", "decimal fractions are exact; Redis rounds them"),
    ("OBJECT ENCODING", "for sets and sorted sets: changes back when a collection shrinks"),
    ("OBJECT REFCOUNT, IDLETIME", "always 1 and 0"),
    ("SCAN, HSCAN, SSCAN, ZSCAN", "other cursors and another order; the same guarantees"),
    ("sets, large hashes", "another order of the elements"),
    (
        "ZLEXCOUNT, ZRANGE BYLEX",
        "of over 128 members with different scores: Redis promises nothing",
    ),
    ("keymiss notifications", "not sent for XREAD, XREADGROUP, XAUTOCLAIM that fail"),
    ("COMMAND DOCS", "empty"),
    ("LATENCY HISTOGRAM", "all calls of a command count with their mean"),
    ("MEMORY STATS, MEMORY MALLOC-STATS", "without an allocator's figures"),
    ("FUNCTION DUMP, FUNCTION RESTORE", "not supported; FUNCTION LIST WITHCODE is"),
    ("scripts", "an error beyond 256 MB for Lua, 128 MB of arguments, 64 MB of a reply"),
    ("scripts", "no coroutine, cmsgpack, struct; errors in some tail calls have no line number"),
    ("scripts", "cjson has no settings and decodes no `nan`, `inf`; `pairs(redis)` is empty"),
    ("SCRIPT KILL, FUNCTION KILL", "work at once, even in `pcall`; libraries lose their variables"),
    ("strings", "at most 64 MB; Redis takes 512 MB"),
    ("SRANDMEMBER, HRANDFIELD, ZRANDMEMBER", "at most 1,000,000 elements with repetitions"),
    ("blocked clients", "a key of another type that is replaced wakes them, not only a new key"),
    ("DUMP, RESTORE", "no streams, no compressed or packed forms"),
    ("DEBUG, SAVE, BGSAVE, SHUTDOWN, MIGRATE, CLUSTER MEET, CLUSTER RESET...", "not supported"),
)
"""Commands and how they differ: all that the fuzzer leaves out or treats as equal."""

_KEYS = (b"{t}a", b"{t}b", b"{t}c", b"{t}d", b"other")
_FIELDS = (b"f", b"g", b"h", b"1", b"", b"x" * 70)
_VALUES = (
    b"", b"a", b"abc", b"0", b"1", b"-1", b"10", b"007", b"3.5", b"1e3", b" 1", b"inf", b"nan",
    b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"x" * 50,
    b"\x00\xff\r\n", b"-0", b"+1",
)  # fmt: skip
_NUMBERS = (
    b"0", b"1", b"2", b"-1", b"-2", b"5", b"100", b"-100", b"x", b"", b"1.5",
    b"9223372036854775807", b"-9223372036854775808",
)  # fmt: skip
# None of them expires while requests are compared.
_TIMES = (b"0", b"-1", b"100000", b"500000", b"x", b"9223372036854775807", b"99999999999999")
_AHEAD = 4_000_000_000  # seconds since the epoch, far enough away

Draw = Callable[[random.Random], Sequence[bytes]]


def _one(choices: Sequence[bytes]) -> Draw:
    return lambda r: [r.choice(choices)]


key, value, number = _one(_KEYS), _one(_VALUES), _one(_NUMBERS)
field, seconds = _one(_FIELDS), _one(_TIMES)


def word(*choices: str) -> Draw:
    """Draw one of some words, in lower or upper case."""

    def draw(r: random.Random) -> list[bytes]:
        chosen = r.choice(choices).encode()
        return [chosen if r.random() < 0.8 else chosen.upper()]

    return draw


def maybe(*draws: Draw, chance: float = 0.3) -> Draw:
    """Draw something, or nothing."""
    return lambda r: [w for draw in draws for w in draw(r)] if r.random() < chance else []


def many(*draws: Draw, most: int = 3) -> Draw:
    """Draw something several times."""
    return lambda r: [w for _ in range(r.randint(1, most)) for draw in draws for w in draw(r)]


def _moment(scale: int) -> Draw:
    return lambda r: [r.choice((b"%d" % (_AHEAD * scale), b"1", b"-5", b"x", b"0"))]


_flags = many(word("nx", "xx", "gt", "lt", "foo"), most=2)
_set_options = many(
    lambda r: r.choice(
        (
            [b"nx"], [b"XX"], [b"get"], [b"KEEPTTL"], [b"ex", *seconds(r)], [b"PX", *seconds(r)],
            [b"exat", *_moment(1)(r)], [b"pxat", *_moment(1000)(r)], [b"foo"], [b"ex"],
        )
    ),
    most=2,
)  # fmt: skip
score = _one((b"0", b"1", b"1.5", b"-inf", b"+inf", b"(1", b"x", b"3", b"nan", b"2"))
lex = _one((b"-", b"+", b"[a", b"(a", b"[x", b"y"))

timeout = _one((b"0.001", b"0.001", b"-1", b"x", b"inf", b"1e400"))
block = _one((b"1", b"-1", b"x"))  # a wait without an end would end nothing
group = _one((b"g", b"h", b"i"))
_IDS = (b"1-1", b"2-1", b"3-1", b"5", b"7-7", b"0-0")
entry_id = _one((*_IDS, b"x", b"-", b"1--1", b"07", b"18446744073709551615-18446744073709551615"))
new_id = _one((*_IDS, b"1-2", b"1-3", b"2-2", b"3-2", b"2-*", b"9-*", b"x", b"0-*", b"*-1"))
from_id = _one((*_IDS[:4], b"0", b"0", b"$", b"x", b"-"))
bound = _one((
    *_IDS, b"-", b"+", b"-", b"+", b"(1-1", b"(2", b"(-", b"(+", b"(", b"x", b"(0-0",
    b"(18446744073709551615-18446744073709551615",
))  # fmt: skip
idle = _one((b"0", b"0", b"0", b"100000", b"-1", b"x"))
trimming = many(lambda r: r.choice((
    [b"maxlen", *number(r)], [b"MAXLEN", b"~", *number(r)], [b"minid", b"=", *entry_id(r)],
    [b"minid", *entry_id(r)], [b"limit", *number(r)],
)), most=2)  # fmt: skip


def several_keys(r: random.Random) -> list[bytes]:
    """Draw a number of keys, mostly the right one, and keys."""
    keys = many(key)(r)
    return [b"%d" % len(keys) if r.random() < 0.9 else r.choice(_NUMBERS), *keys]


def read_from(r: random.Random) -> list[bytes]:
    """Draw keys, and as many ids."""
    keys = many(key)(r)
    ids = (*_IDS, b"0", b"$", b">", b">", b">", b"x")
    return [*keys, *(r.choice(ids) for _ in keys)]


longitude = _one((b"13.361389", b"15.087269", b"-180", b"180", b"2.35", b"0", b"181", b"x"))
latitude = _one((b"38.115556", b"37.502669", b"85.05112878", b"-66.5", b"48.85", b"0", b"90"))
place, unit = _one((b"p", b"q", b"r", b"s", b"a")), word("m", "km", "ft", "mi", "foo")
metres = _one((b"0", b"1", b"200", b"99999.5", b"1e7", b"-1", b"x", b"inf", b"123456789"))


def _shape(r: random.Random) -> list[bytes]:
    """Draw the centre and the shape of a search, or only one of them, or too many."""
    parts = [
        [b"frommember", *place(r)],
        [b"FROMLONLAT", *longitude(r), *latitude(r)],
        [b"byradius", *metres(r), *unit(r)],
        [b"BYBOX", *metres(r), *metres(r), *unit(r)],
    ]
    chosen = [parts[r.randrange(2)], parts[2 + r.randrange(2)]]
    if r.random() < 0.1:
        chosen = r.sample(parts, r.randint(0, 3))
    return [w for part in chosen for w in part]


_geo_options = many(
    lambda r: r.choice(
        (
            [b"withcoord"], [b"WITHDIST"], [b"withhash"], [b"asc"], [b"DESC"],
            [b"count", *number(r)], [b"count", b"1", b"any"], [b"any"], [b"storedist"],
        )
    )
)  # fmt: skip

_edge = _one((b"-", b"+", b"[a", b"(a", b"0", b"1", b"-1", b"(1", b"-inf", b"+inf", b"x", b""))
_range_options = many(
    lambda r: r.choice(
        (
            [b"byscore"], [b"BYLEX"], [b"rev"], [b"WITHSCORES"], [b"foo"],
            [b"limit", *number(r), *number(r)], [b"limit", b"0", b"2"],
        )
    )
)  # fmt: skip
_weights = many(
    lambda r: r.choice(
        (
            [b"weights", *many(score)(r)], [b"aggregate", r.choice((b"sum", b"MIN", b"max", b"x"))],
            [b"withscores"], [b"foo"],
        )
    ),
    most=2,
)  # fmt: skip


def _sources(r: random.Random) -> list[bytes]:
    """Draw a number of keys, mostly the right one, and the keys."""
    keys, wrong = many(key)(r), _one((b"0", b"-1", b"1", b"2", b"100"))
    return [*(wrong(r) if r.random() < 0.2 else [b"%d" % len(keys)]), *keys]


_SHEBANGS = (
    b"", b"", b"", b"", b"#!lua\n", b"#!lua flags=no-writes\n", b"#!lua flags=allow-oom\n",
    b"#!lua flags=allow-cross-slot-keys\n", b"#!lua flags=no-cluster\n", b"#!lua flags=foo\n",
)  # fmt: skip
_BODIES = (
    b"return redis.call('get',KEYS[1])", b"return {1,2.5,'x'}",
    b"return redis.call('incr',KEYS[1])", b"return redis.pcall('lpush',KEYS[1],1)",
    b"return redis.call('mget',KEYS[1],'z')",
    b"redis.pcall('del','z') return redis.pcall('get',KEYS[1])",
)  # fmt: skip
_LIBRARY = b"""#!lua name=lib
redis.register_function('w', function(keys) return redis.call('SET', keys[1], 'x') end)
redis.register_function{function_name='r', flags={'no-writes'}, callback=function(keys)
  local it = redis.call('GET', keys[1])
  return it
end}
"""


def _script(r: random.Random) -> list[bytes]:
    return [r.choice(_SHEBANGS) + r.choice(_BODIES)]


COMMANDS: dict[str, tuple[Draw, ...]] = {
    # sessions and cached values: strings, expiries, hashes, counters
    "get": (key,), "set": (key, value, maybe(_set_options, chance=0.5)),
    "setex": (key, seconds, value), "psetex": (key, seconds, value), "setnx": (key, value),
    "getset": (key, value), "getdel": (key,), "append": (key, value), "strlen": (key,),
    "getex": (key, maybe(_set_options, chance=0.5), maybe(word("persist"))),
    "mget": (many(key),), "mset": (many(key, value), maybe(key, chance=0.1)),
    "msetnx": (many(key, value),), "incr": (key,), "decr": (key,), "incrby": (key, number),
    "decrby": (key, number), "incrbyfloat": (key, value), "getrange": (key, number, number),
    "setrange": (key, _one((b"0", b"3", b"-1", b"x", b"99999999999")), value),
    "substr": (key, number, number),
    "del": (many(key),), "unlink": (many(key),), "exists": (many(key),), "touch": (many(key),),
    "type": (key,), "rename": (key, key), "renamenx": (key, key),
    "copy": (key, key, maybe(word("replace"))), "dbsize": (), "randomkey_": (),
    "expire": (key, seconds, maybe(_flags)), "pexpire": (key, seconds, maybe(_flags)),
    "expireat": (key, _moment(1), maybe(_flags)), "pexpireat": (key, _moment(1000), maybe(_flags)),
    "ttl": (key,), "pttl": (key,), "expiretime": (key,), "pexpiretime": (key,), "persist": (key,),
    "hset": (key, many(field, value), maybe(field, chance=0.1)), "hmset": (key, many(field, value)),
    "hsetnx": (key, field, value), "hget": (key, field), "hmget": (key, many(field)),
    "hgetall": (key,), "hdel": (key, many(field)), "hexists": (key, field), "hlen": (key,),
    "hkeys": (key,), "hvals": (key,), "hstrlen": (key, field), "hincrby": (key, field, number),
    "hincrbyfloat": (key, field, value), "keys": (_one((b"*", b"{t}?", b"[", b"\\", b"o*r")),),
    # the rest of the data
    "lpush": (key, many(value)), "rpush": (key, many(value)), "lpushx": (key, many(value)),
    "rpushx": (key, many(value)), "lpop": (key, maybe(number)), "rpop": (key, maybe(number)),
    "llen": (key,), "lrange": (key, number, number), "lindex": (key, number),
    "lset": (key, number, value), "lrem": (key, number, value), "ltrim": (key, number, number),
    "linsert": (key, word("before", "after", "foo"), value, value), "rpoplpush": (key, key),
    "lmove": (key, key, word("left", "right"), word("left", "right", "x")),
    "lpos": (key, value, maybe(word("rank", "count", "maxlen"), number)),
    "sadd": (key, many(value)), "srem": (key, many(value)), "smembers": (key,), "scard": (key,),
    "sismember": (key, value), "smismember": (key, many(value)), "smove": (key, key, value),
    "sinter": (many(key),), "sunion": (many(key),), "sdiff": (many(key),),
    "sinterstore": (key, many(key)), "sunionstore": (key, many(key)),
    "sdiffstore": (key, many(key)),
    "sintercard": (number, many(key), maybe(word("limit"), number)),
    "zadd": (key, maybe(_flags), maybe(word("ch", "incr")), many(score, value)),
    "zrem": (key, many(value)), "zscore": (key, value), "zcard": (key,),
    "zincrby": (key, score, value), "zrank": (key, value), "zrevrank": (key, value),
    "zcount": (key, score, score), "zmscore": (key, many(value)),
    "zrange": (key, _edge, _edge, maybe(_range_options, chance=0.6)),
    "zrevrange": (key, number, number, maybe(word("withscores"))),
    "zrangebyscore": (key, score, score, maybe(_range_options, chance=0.5)),
    "zpopmin": (key, maybe(number)), "zpopmax": (key, maybe(number)),
    "zunion": (_sources, maybe(_weights, chance=0.6)),
    "zinter": (_sources, maybe(_weights, chance=0.6)), "zdiff": (_sources, maybe(_weights)),
    "zunionstore": (key, _sources, maybe(_weights)),
    "zinterstore": (key, _sources, maybe(_weights)), "zdiffstore": (key, _sources),
    "zintercard": (_sources, maybe(word("limit"), number)),
    "zrandmember": (key, _one((b"0", b"x", b"-9223372036854775808")), maybe(word("withscores"))),
    "zrangestore": (key, key, score, score, maybe(_range_options)),
    "zrangebylex": (key, lex, lex, maybe(_range_options)),
    "zrevrangebylex": (key, lex, lex, maybe(_range_options)),
    "zremrangebylex": (key, lex, lex),
    "zrevrangebyscore": (key, score, score, maybe(_range_options, chance=0.5)),
    "zlexcount": (key, lex, lex), "zremrangebyscore": (key, score, score),
    "zremrangebyrank": (key, number, number),
    "getbit": (key, number), "setbit": (key, _one((b"0", b"7", b"-1", b"x", b"100")), number),
    "bitcount": (key, maybe(number, number)), "bitpos": (key, number, maybe(number)),
    "lmpop": (several_keys, word("left", "right", "x"), maybe(word("count", "x"), number)),
    "blmpop": (timeout, several_keys, word("left", "right"), maybe(word("count"), number)),
    "zmpop": (several_keys, word("min", "max", "x"), maybe(word("count", "x"), number)),
    "bzmpop": (timeout, several_keys, word("min", "max"), maybe(word("count"), number)),
    "blpop": (many(key), timeout), "brpop": (many(key), timeout),
    "bzpopmin": (many(key), timeout), "bzpopmax": (many(key), timeout),
    "brpoplpush": (key, key, timeout),
    "blmove": (key, key, word("left", "right"), word("left", "right", "x"), timeout),
    "spop": (key, maybe(_one((b"100", b"0", b"-1", b"x")), chance=1)),
    "lcs": (key, key, maybe(many(lambda r: r.choice((
        [b"idx"], [b"LEN"], [b"withmatchlen"], [b"minmatchlen", *number(r)], [b"foo"],
    ))), chance=0.7)),
    # streams
    "xadd": (key, maybe(word("nomkstream"), chance=0.1), maybe(trimming), new_id,
             many(field, value)),
    "xtrim": (key, trimming), "xlen": (key,), "xdel": (key, many(entry_id)),
    "xrange": (key, bound, bound, maybe(word("count"), number)),
    "xrevrange": (key, bound, bound, maybe(word("count"), number)),
    "xread": (maybe(word("count"), number), maybe(word("block"), block, chance=0.1),
              maybe(word("noack", "foo"), chance=0.05), word("streams"), read_from),
    "xreadgroup": (word("group"), group, group, maybe(word("count"), number),
                   maybe(word("block"), block, chance=0.1), maybe(word("noack"), chance=0.2),
                   word("streams"), read_from),
    "xsetid": (key, entry_id, maybe(word("entriesadded"), number),
               maybe(word("maxdeletedid"), entry_id)),
    "xgroup": (lambda r: r.choice((
        [b"create", *key(r), *group(r), *from_id(r), *maybe(word("mkstream", "x"), chance=0.7)(r),
         *maybe(word("entriesread"), number)(r)],
        [b"setid", *key(r), *group(r), *from_id(r), *maybe(word("entriesread"), number)(r)],
        [b"destroy", *key(r), *group(r)], [b"CreateConsumer", *key(r), *group(r), *group(r)],
        [b"delconsumer", *key(r), *group(r), *group(r)], [b"foo", *key(r), *group(r)],
    )),),
    "xack": (key, group, many(entry_id)),
    "xpending": (key, group, maybe(maybe(word("idle"), idle), bound, bound, number, maybe(group),
                                   chance=0.7)),
    "xclaim": (key, group, group, idle, many(entry_id), many(lambda r: r.choice((
        [], [b"force"], [b"justid"], [b"retrycount", *number(r)], [b"LASTID", *entry_id(r)],
        [b"idle", *idle(r)], [b"time", *idle(r)], [b"foo"],
    )))),
    "xautoclaim": (key, group, group, idle, bound, maybe(word("count"), number),
                   maybe(word("justid", "foo"))),
    "xinfo": (word("stream", "groups", "consumers", "stream"), key,
              maybe(word("full", "g", "h"), maybe(word("count", "x"), number))),
    "pfadd": (key, maybe(many(value), chance=0.9)), "pfcount": (many(key),),
    "pfmerge": (many(key),),
    "geoadd": (key, maybe(many(word("nx", "xx", "ch"))), many(longitude, latitude, place)),
    "geodist": (key, place, place, maybe(unit)), "geohash": (key, many(place)),
    "geopos": (key, many(place)),
    "geosearch": (key, _shape, maybe(_geo_options, chance=0.6)),
    "geosearchstore": (key, key, _shape, maybe(_geo_options)),
    "georadius": (key, longitude, latitude, metres, unit, maybe(_geo_options)),
    "georadius_ro": (key, longitude, latitude, metres, unit, maybe(_geo_options)),
    "georadiusbymember": (key, place, metres, unit, maybe(_geo_options)),
    "georadiusbymember_ro": (key, place, metres, unit, maybe(_geo_options)),
    # transactions, scripts, the connection
    "multi": (), "exec": (), "discard": (), "watch": (many(key),), "unwatch": (),
    "eval": (_script, word("1", "0", "x", "-1", "2"), maybe(key, chance=0.9)),
    "eval_ro": (_script, word("1", "0", "x"), maybe(key, chance=0.9)),
    "fcall": (_one((b"w", b"R", b"x")), word("1", "0", "x", "-1"), maybe(key, chance=0.9)),
    "fcall_ro": (_one((b"W", b"r", b"x")), word("1", "0", "x", "2"), maybe(key, chance=0.9)),
    "evalsha": (_one((b"x", b"0" * 40)), word("1", "0", "x"), maybe(key, chance=0.9)),
    "script": (word("load", "exists", "flush", "kill", "foo"), maybe(_script)),
    "function": (word("delete", "kill", "foo"), maybe(_one((b"nosuch", b"LIB")))),
    "ping": (maybe(value),), "echo": (value,), "select": (number,), "swapdb": (number, number),
    "cluster": (word("keyslot", "foo", "countkeysinslot"), maybe(key, chance=0.8)),
    "object": (word("freq", "help", "foo"), maybe(key, chance=0.8)), "foo": (maybe(value),),
    "scan": (_one((b"x", b"18446744073709551616")),),
    "hello": (_one((b"4", b"x", b"1")), maybe(word("foo", "setname"))), "auth": (many(value),),
    "wait": (_one((b"0", b"x")), _one((b"0", b"-1", b"x"))), "client": (word("getname", "foo"),),
    "flushall": (maybe(word("sync", "foo"), chance=0.5),), "type_": (),
}  # fmt: skip
_WAITING = {"blpop", "brpop", "bzpopmin", "bzpopmax"}
"""Commands for which one more argument is a timeout, perhaps without end."""
_SORTED = {
    "smembers", "sinter", "sunion", "sdiff", "spop", "keys", "hgetall", "hkeys", "hvals",
}  # fmt: skip
_DRAWN = {"spop"}
"""Commands whose choice is random without their last argument, so that it is never left out."""
_ABOUT = {"ttl": 1, "pttl": 500, "expiretime": 1, "pexpiretime": 500}


def drawn(r: random.Random) -> Words:
    """Draw a request, sometimes with too few or too many arguments."""
    name = r.choice(tuple(COMMANDS)).rstrip("_")
    words = [w for draw in COMMANDS.get(name, COMMANDS.get(f"{name}_", ())) for w in draw(r)]
    if r.random() < 0.03 and words and name not in _DRAWN:
        words.pop()
    if r.random() < 0.02 and name not in _WAITING:
        words.append(r.choice(_VALUES))
    spelt = name.upper() if r.random() < 0.5 else name
    return (spelt.encode(), *words)


def is_excluded(words: Words) -> bool:
    """Return whether the replies can't be the same, by `KNOWN` or by chance."""
    name = words[0].lower()
    return name == b"randomkey"


class Real:
    """A connection to a real server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._buffer = b""

    def __call__(self, *words: bytes) -> Any:
        """Send a request if there is one. Return the next reply."""
        if words:
            self._socket.sendall(request(words))
        while True:
            try:
                reply, self._buffer = _read(self._buffer, NULL_ARRAY)
            except IndexError:
                data = self._socket.recv(1 << 20)
                if not data:
                    raise ConnectionResetError from None
                self._buffer += data
            else:
                return reply

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def messages(self) -> list[Any]:
        """Return the messages that a subscriber has got since the last call."""
        self._socket.sendall(request([b"PING", b""]))
        found: list[Any] = []
        while (message := self()) != [b"pong", b""]:
            found.append(message)
        return found


class Ours:
    """An embedded node, and connections to it: one for requests, one for a subscriber."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        address = NodeAddress(node_id("differential", "a"), "127.0.0.1", 7801, 17801)

        async def dial(*_: object) -> None:
            raise ConnectionRefusedError

        config = RedisNodeConfig(
            "redis-a", Path(self._folder.name), {"redis-a": address}, "redis-a"
        )
        self.node = RedisNode(config, dial_peer=dial, loop=self.loop)
        self.node.start()
        self._caller, self._subscriber = Caller(NULL_ARRAY), Caller()
        for caller in (self._caller, self._subscriber):
            pipe(self.loop, caller, self.node.accept())

    def subscribe(self, *words: bytes) -> None:
        """Let the subscriber send a request."""
        self.loop.run_until_complete(self._subscriber(*words))

    def messages(self) -> list[Any]:
        """Return the messages that the subscriber has got since the last call."""

        async def read() -> list[Any]:
            found: list[Any] = []
            self._subscriber.send("PING", "")
            while (message := await self._subscriber.receive()) != [b"pong", b""]:
                found.append(message)
            return found

        return self.loop.run_until_complete(read())

    def __call__(self, *words: bytes) -> Any:
        """Send a request. Return the reply."""

        async def ask() -> Any:
            try:
                return await self._caller(*words)
            except ReplyError as error:
                return error

        return self.loop.run_until_complete(ask())

    def value(self, key: bytes) -> Any:
        """Return the value of a key as the node has it."""
        return self.node.server.store.values[key]

    def close(self) -> None:
        """End the node."""
        self.node.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()
        self._folder.cleanup()


class Pair:
    """A real server and an embedded node, both empty, with the same version of the protocol.

    A subscriber of each gets all keyspace notifications.
    """

    def __init__(self, port: int, resp: int) -> None:
        self.resp = resp
        self.real, self.ours = Real(port), Ours()
        self._subscriber = Real(port)
        for server in (self.real, self.ours):
            server(b"FLUSHALL")
            server(b"FUNCTION", b"FLUSH")
            server(b"FUNCTION", b"LOAD", _LIBRARY)
            server(b"HELLO", b"%d" % resp)
        for subscribe in (self._subscriber, self.ours.subscribe):
            subscribe(b"PSUBSCRIBE", b"__key*@0__:*")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and end the node."""
        self.real.close()
        self._subscriber.close()
        self.ours.close()

    def messages(self) -> tuple[list[Any], list[Any]]:
        """Return what both subscribers have got since the last call."""
        return self._subscriber.messages(), self.ours.messages()

    def differ(self, words: Words) -> tuple[Any, Any] | None:
        """Return both replies to a request, or None if they are the same."""
        if is_excluded(words):
            return None
        real, ours = self.real(*words), self.ours(*words)
        name = words[0].lower().decode()
        if not same(name, real, ours):
            return real, ours
        # A key that expires at once is deleted a little later, at another moment.
        sent, ours_sent = (
            [message[2:] for message in got if b"expired" not in message[2] + message[3]]
            for got in self.messages()
        )
        if sent != ours_sent:
            return sent, ours_sent
        return None


def same(name: str, real: Any, ours: Any) -> bool:
    """Return whether two replies to a command differ at most as `KNOWN` allows."""
    if isinstance(real, ReplyError) or isinstance(ours, ReplyError):
        return repr(real) == repr(ours)
    if name == "hello" and real != ours:
        return bool(_without_id(real) == _without_id(ours))
    if name == "exec" and isinstance(real, list) and isinstance(ours, list):
        # Which commands they are replies to is not known here.
        return len(real) == len(ours) and all(
            same("exec", a, b) for a, b in zip(real, ours, strict=True)
        )
    if isinstance(real, int) and isinstance(ours, int) and real != ours:
        allowed = _ABOUT.get(name, 500 if name == "exec" and abs(real) > 1000 else 0)
        return abs(real - ours) <= allowed
    if isinstance(real, dict) and isinstance(ours, dict):
        return bool(real == ours)
    if (name in _SORTED or name == "exec") and isinstance(real, list) and isinstance(ours, list):
        return sorted(map(repr, real)) == sorted(map(repr, ours))
    if name in ("incrbyfloat", "hincrbyfloat") and real != ours:
        return bool(real and ours) and abs(float(real) - float(ours)) <= 1e-9 * abs(float(real))
    return repr(real) == repr(ours)


def _without_id(reply: Any) -> Any:
    """Return a reply to HELLO without the number of the connection."""
    if isinstance(reply, dict):
        return {name: value for name, value in reply.items() if name != b"id"}
    return [*reply[:7], *reply[8:]]


def main() -> None:
    """Compare many replies, and print each kind of difference once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int, help="of a real Redis 7.0 on this machine")
    parser.add_argument("--steps", type=int, default=10_000, help="requests in each protocol")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    shown: set[str] = set()
    count = 0
    for resp in (2, 3):
        r = random.Random(f"{arguments.seed} {resp}")
        pair = Pair(arguments.port, resp)
        for _ in range(arguments.steps):
            words = drawn(r)
            difference = pair.differ(words)
            if difference is None:
                continue
            count += 1
            kind = re.sub(r"\d+", "#", f"{words[0].lower()!r} {difference}")[:160]
            if kind not in shown:
                shown.add(kind)
                print(f"RESP{resp} {words}\n   real {difference[0]!r}\n   ours {difference[1]!r}")
            for server in (pair.real, pair.ours):  # from the same state again
                server(b"DISCARD")
                server(b"UNWATCH")
                server(b"FLUSHALL")
            pair.messages()
        pair.close()
    print(f"{2 * arguments.steps} requests, {count} differences of {len(shown)} kinds")


if __name__ == "__main__":
    main()
