"""Requests about keys, strings, bitmaps, hashes, lists, sets and sorted sets."""

import random

from cachesim.embedded.redis.keyspace.dump import dumped
from tests.embedded.redis.grammar.draws import (
    Draw,
    Grammar,
    either,
    field,
    key,
    many,
    maybe,
    moment,
    number,
    one,
    options,
    score,
    seconds,
    seq,
    several_keys,
    timeout,
    value,
    word,
)

_flags = many(word("nx", "xx", "gt", "lt", "foo"), most=2)
_until = either(
    seq(word("ex", "px"), seconds),
    seq(word("exat"), moment(1)),
    seq(word("pxat"), moment(1000)),
    word("ex"),
)
_set_options = options(word("nx", "xx", "get", "keepttl", "foo"), _until)
_pattern = one(b"*", b"{t}?", b"[", b"\\", b"o*r", b"f*")
# Larger than any collection, so that all is returned at once.
_scanning = options(
    seq(word("match"), _pattern), seq(word("count"), one(b"1000", b"5000", b"0", b"x")), word("foo")
)
_cursor = one(b"0", b"0", b"0", b"x", b"18446744073709551616")
_offset = one(b"0", b"7", b"100", b"#0", b"#3", b"-1", b"x", b"4294967296")
_width = one(b"u8", b"i8", b"u1", b"i64", b"u63", b"u64", b"i65", b"x", b"i0")
_get_bits = seq(word("get"), _width, _offset)
# What a real Redis has packed and compressed: a set, a hash, a sorted set, a list, two strings and
# a stream with a group.
_PACKED = (
    "0b10040000000200000090eefeff010000000a0094a105e959efec05",
    "101c1c0000000600816602dfff028167028361626304816802f1001003ff0a00f8081c9f6a19b287",
    "111d1d0000000600816202842d696e660581610283312e35048163020701ff0a0051045ee1e370efe5",
    "120102151500000004008161020a018361626304f178ec03ff0a00cd31bb5bfc0fe29a",
    "00c30b3c0361626361e02d020162630a006f6029e4afd764ac",
    "00c1d4fe0a00c6c48623febede2e",
    (
        "1301100000000000000003000000000000000122220000000c000101000102018166028167020001020100"
        "01000181760201010501ff0103010301000001010167000081ffffffffffffffff00000a00432b4bac6023"
        "af0a"
    ),
)
_payload = one(
    *(
        dumped(kind, made)
        for kind, made in (
            ("string", b"abc"), ("list", [b"a", b"b"]), ("set", {b"a", b"1"}),
            ("zset", {b"a": 1.5, b"b": 2.0}), ("string", b""),
        )
    ),
    b"x",
    dumped("string", b"abc")[:-1] + b"x",
    *map(bytes.fromhex, _PACKED),
)  # fmt: skip
_restore = (
    key, one(b"0", b"0", b"100000", b"-1", b"x"), _payload,
    options(word("replace", "replace", "foo"), word("absttl"),
            seq(word("idletime", "freq"), number)),
)  # fmt: skip
_sort = options(
    seq(word("by"), one(b"nosort", b"w", b"{t}*", b"#")),
    seq(word("limit"), number, number),
    seq(word("get"), one(b"#", b"{t}*", b"x")),
    word("asc", "desc", "alpha", "alpha", "foo"),
    most=4,
    chance=0.8,
)

KEY_COMMANDS: Grammar = {
    "del": (many(key),), "unlink": (many(key),), "exists": (many(key),), "touch": (many(key),),
    "type": (key,), "rename": (key, key), "renamenx": (key, key), "randomkey": (),
    "copy": (key, key, options(word("replace"), seq(word("db"), number))),
    "expire": (key, seconds, maybe(_flags)), "pexpire": (key, seconds, maybe(_flags)),
    "expireat": (key, moment(1), maybe(_flags)), "pexpireat": (key, moment(1000), maybe(_flags)),
    "ttl": (key,), "pttl": (key,), "expiretime": (key,), "pexpiretime": (key,), "persist": (key,),
    "keys": (_pattern,), "move": (key, number),
    "scan": (_cursor, options(
        seq(word("match"), _pattern), seq(word("count"), one(b"1000", b"5000", b"0", b"x")),
        seq(word("type"), word("string", "hash", "zset", "stream", "x")),
    )),
    "object": (word("freq", "help", "foo", "encoding", "refcount", "idletime"),
               maybe(key, chance=0.8)),
    "dump": (key,), "restore": _restore, "restore-asking": _restore,
    "sort": (key, _sort, options(seq(word("store"), key))), "sort_ro": (key, _sort),
}  # fmt: skip

STRING_COMMANDS: Grammar = {
    "get": (key,), "set": (key, value, _set_options),
    "setex": (key, seconds, value), "psetex": (key, seconds, value), "setnx": (key, value),
    "getset": (key, value), "getdel": (key,), "append": (key, value), "strlen": (key,),
    "getex": (key, _set_options, maybe(word("persist"))),
    "mget": (many(key),), "mset": (many(key, value), maybe(key, chance=0.1)),
    "msetnx": (many(key, value),), "incr": (key,), "decr": (key,), "incrby": (key, number),
    "decrby": (key, number), "incrbyfloat": (key, value), "getrange": (key, number, number),
    "setrange": (key, one(b"0", b"3", b"-1", b"x", b"99999999999"), value),
    "substr": (key, number, number),
    "lcs": (key, key, options(
        word("idx", "len", "withmatchlen", "foo"), seq(word("minmatchlen"), number),
        most=3, chance=0.7,
    )),
}  # fmt: skip

BITMAP_COMMANDS: Grammar = {
    "getbit": (key, number), "setbit": (key, one(b"0", b"7", b"-1", b"x", b"100"), number),
    "bitcount": (key, maybe(number, number, maybe(word("byte", "bit", "x")), chance=0.6)),
    "bitpos": (key, number, maybe(number, maybe(number, maybe(word("byte", "bit", "x"))),
                                  chance=0.6)),
    "bitop": (word("and", "or", "xor", "not", "x"), key, many(key)),
    "bitfield": (key, many(either(
        _get_bits, seq(word("set", "incrby"), _width, _offset, number),
        seq(word("overflow"), word("wrap", "sat", "fail", "x")), word("foo"),
    ), most=4)),
    "bitfield_ro": (key, maybe(many(either(_get_bits, _get_bits, _get_bits, seq(
        word("set"), _width, _offset, number))), chance=0.9)),
}  # fmt: skip

_how_many = one(b"0", b"1", b"5", b"100", b"-3", b"-1", b"x", b"-9223372036854775808")
HASH_COMMANDS: Grammar = {
    "hset": (key, many(field, value), maybe(field, chance=0.1)), "hmset": (key, many(field, value)),
    "hsetnx": (key, field, value), "hget": (key, field), "hmget": (key, many(field)),
    "hgetall": (key,), "hdel": (key, many(field)), "hexists": (key, field), "hlen": (key,),
    "hkeys": (key,), "hvals": (key,), "hstrlen": (key, field), "hincrby": (key, field, number),
    "hincrbyfloat": (key, field, value), "hscan": (key, _cursor, _scanning),
    "hrandfield": (key, maybe(_how_many, maybe(word("withvalues", "withvalues", "x")), chance=0.8)),
}  # fmt: skip

_end, _start_end = word("left", "right", "x"), word("left", "right")
LIST_COMMANDS: Grammar = {
    "lpush": (key, many(value)), "rpush": (key, many(value)), "lpushx": (key, many(value)),
    "rpushx": (key, many(value)), "lpop": (key, maybe(number)), "rpop": (key, maybe(number)),
    "llen": (key,), "lrange": (key, number, number), "lindex": (key, number),
    "lset": (key, number, value), "lrem": (key, number, value), "ltrim": (key, number, number),
    "linsert": (key, word("before", "after", "foo"), value, value), "rpoplpush": (key, key),
    "lmove": (key, key, _start_end, _end),
    "lpos": (key, value, options(seq(word("rank", "count", "maxlen"), number), most=3)),
    "lmpop": (several_keys, _end, options(seq(word("count", "x"), number))),
    "blmpop": (timeout, several_keys, _end, options(seq(word("count"), number))),
    "blpop": (many(key), timeout), "brpop": (many(key), timeout),
    "brpoplpush": (key, key, timeout), "blmove": (key, key, _start_end, _end, timeout),
}  # fmt: skip

SET_COMMANDS: Grammar = {
    "sadd": (key, many(value)), "srem": (key, many(value)), "smembers": (key,), "scard": (key,),
    "sismember": (key, value), "smismember": (key, many(value)), "smove": (key, key, value),
    "sinter": (many(key),), "sunion": (many(key),), "sdiff": (many(key),),
    "sinterstore": (key, many(key)), "sunionstore": (key, many(key)),
    "sdiffstore": (key, many(key)), "sscan": (key, _cursor, _scanning),
    "sintercard": (several_keys, options(seq(word("limit", "x"), number))),
    "spop": (key, maybe(one(b"100", b"0", b"-1", b"x"), chance=1)),
    "srandmember": (key, maybe(_how_many, chance=0.8)),
}  # fmt: skip


def _sources(r: random.Random) -> list[bytes]:
    """Draw a number of keys, mostly the right one, and the keys."""
    keys, wrong = many(key)(r), one(b"0", b"-1", b"1", b"2", b"100", b"x")
    return [*(wrong(r) if r.random() < 0.2 else [b"%d" % len(keys)]), *keys]


_lex = one(b"-", b"+", b"[a", b"(a", b"[x", b"y")
_edge = one(b"-", b"+", b"[a", b"(a", b"0", b"1", b"-1", b"(1", b"-inf", b"+inf", b"x", b"")


def _range(*words: str) -> Draw:
    return options(
        word(*words, "foo"),
        seq(word("limit"), number, number),
        seq(word("limit"), one(b"0"), one(b"2")),
        most=3,
        chance=0.6,
    )


_weights = options(
    seq(word("weights"), many(score)),
    seq(word("aggregate"), word("sum", "min", "max", "x")),
    word("withscores", "foo"),
)
_count = options(seq(word("count", "x"), number))
SORTED_SET_COMMANDS: Grammar = {
    "zadd": (key, maybe(_flags), maybe(word("ch", "incr")), many(score, value)),
    "zrem": (key, many(value)), "zscore": (key, value), "zcard": (key,),
    "zincrby": (key, score, value), "zrank": (key, value), "zrevrank": (key, value),
    "zcount": (key, score, score), "zmscore": (key, many(value)),
    "zrange": (key, _edge, _edge, _range("byscore", "bylex", "rev", "withscores")),
    "zrevrange": (key, number, number, maybe(word("withscores"))),
    "zrangebyscore": (key, score, score, _range("withscores")),
    "zrevrangebyscore": (key, score, score, _range("withscores")),
    "zrangestore": (key, key, score, score, _range("byscore", "bylex", "rev", "withscores")),
    "zrangebylex": (key, _lex, _lex, _range("withscores")),
    "zrevrangebylex": (key, _lex, _lex, _range("withscores")),
    "zlexcount": (key, _lex, _lex), "zremrangebylex": (key, _lex, _lex),
    "zremrangebyscore": (key, score, score), "zremrangebyrank": (key, number, number),
    "zpopmin": (key, maybe(number)), "zpopmax": (key, maybe(number)),
    "zunion": (_sources, _weights), "zinter": (_sources, _weights),
    "zdiff": (_sources, maybe(word("withscores", "withscores", "limit"))),
    "zunionstore": (key, _sources, _weights), "zinterstore": (key, _sources, _weights),
    "zdiffstore": (key, _sources), "zscan": (key, _cursor, _scanning),
    "zintercard": (_sources, options(seq(word("limit", "x"), number))),
    "zrandmember": (key, maybe(_how_many, maybe(word("withscores", "withscores", "x")),
                               chance=0.8)),
    "zmpop": (several_keys, word("min", "max", "x"), _count),
    "bzmpop": (timeout, several_keys, word("min", "max", "x"), _count),
    "bzpopmin": (many(key), timeout), "bzpopmax": (many(key), timeout),
}  # fmt: skip

COMMANDS: Grammar = {
    **KEY_COMMANDS,
    **STRING_COMMANDS,
    **BITMAP_COMMANDS,
    **HASH_COMMANDS,
    **LIST_COMMANDS,
    **SET_COMMANDS,
    **SORTED_SET_COMMANDS,
}
