"""Commands with keys of each type, on a real Redis and on a node."""

from itertools import product

from cachesim.embedded.redis.dispatch.command_table import commands
from tests.embedded.redis.differential import Pair
from tests.embedded.redis.grammar import Words

KEYS = {b"K": b"{t}k", b"O": b"{t}o"}
REQUESTS = """
    append K v; bitcount K; bitfield K GET u8 0; bitfield_ro K GET u8 0; bitop AND O K;
    bitpos K 1; blmove K O LEFT LEFT 0.001; blmpop 0.001 1 K LEFT; blpop K 0.001; brpop K 0.001;
    brpoplpush K O 0.001; bzmpop 0.001 1 K MIN; bzpopmax K 0.001; bzpopmin K 0.001; copy K O;
    decr K; decrby K 1; del K; exists K; expire K 1000; expireat K 4000000000; expiretime K;
    geoadd K 1 1 a; geodist K a b; geohash K a; geopos K a; georadius K 1 1 1 m;
    georadius_ro K 1 1 1 m; georadiusbymember K a 1 m; georadiusbymember_ro K a 1 m;
    geosearch K FROMLONLAT 1 1 BYRADIUS 1 m; geosearchstore O K FROMLONLAT 1 1 BYRADIUS 1 m;
    get K; getbit K 0; getdel K; getex K; getrange K 0 1; getset K v; hdel K f; hexists K f;
    hget K f; hgetall K; hincrby K f 1; hincrbyfloat K f 1; hkeys K; hlen K; hmget K f;
    hmset K f v; hrandfield K; hscan K 0; hset K f v; hsetnx K f v; hstrlen K f; hvals K; incr K;
    incrby K 1; incrbyfloat K 1; lcs K O; lindex K 0; linsert K BEFORE a b; llen K;
    lmove K O LEFT LEFT; lmpop 1 K LEFT; lpop K; lpos K a; lpush K a; lpushx K a; lrange K 0 1;
    lrem K 0 a; lset K 0 a; ltrim K 0 1; mget K; mset K v; msetnx K v; object encoding K;
    object refcount K; persist K; pexpire K 100000; pexpireat K 4000000000000; pexpiretime K;
    pfadd K a; pfcount K; pfmerge O K; psetex K 100000 v; pttl K; rename K O; renamenx K O;
    rpop K; rpoplpush K O; rpush K a; rpushx K a; sadd K a; scard K; sdiff K O; sdiffstore O K;
    set K v GET; setbit K 0 1; setex K 1000 v; setnx K v; setrange K 0 v; sinter K O;
    sintercard 2 K O; sinterstore O K; sismember K a; smembers K; smismember K a; smove K O a;
    sort K; sort_ro K; spop K; srandmember K; srem K a; sscan K 0; strlen K; substr K 0 1;
    sunion K O; sunionstore O K; touch K; ttl K; type K; unlink K; watch K; xack K g 1;
    xadd K 9-1 a b; xautoclaim K g c 0 0; xclaim K g c 0 1; xdel K 1; xgroup create K g 0;
    xgroup createconsumer K g c; xgroup delconsumer K g c; xgroup destroy K g; xgroup setid K g 0;
    xinfo consumers K g; xinfo groups K; xinfo stream K; xlen K; xpending K g; xrange K - +;
    xread STREAMS K 0; xreadgroup GROUP g c STREAMS K >; xrevrange K + -; xsetid K 9;
    xtrim K MAXLEN 1; zadd K 1 a; zcard K; zcount K 0 1; zdiff 2 K O; zdiffstore O 1 K;
    zincrby K 1 a; zinter 2 K O; zintercard 2 K O; zinterstore O 1 K; zlexcount K - +;
    zmpop 1 K MIN; zmscore K a; zpopmax K; zpopmin K; zrandmember K; zrange K 0 1;
    zrangebylex K - +; zrangebyscore K 0 1; zrangestore O K 0 1; zrank K a; zrem K a;
    zremrangebylex K - +; zremrangebyrank K 0 1; zremrangebyscore K 0 1; zrevrange K 0 1;
    zrevrangebylex K + -; zrevrangebyscore K 1 0; zrevrank K a; zscan K 0; zscore K a;
    zunion 2 K O; zunionstore O 1 K
"""
"""A request of each command with keys: `K`, and `O`, another one."""
LEFT_OUT = {
    "dump", "eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro", "memory|usage",
    "migrate", "move", "object|freq", "object|idletime", "pfdebug", "restore", "restore-asking",
    "spublish", "ssubscribe", "sunsubscribe",
}  # fmt: skip
"""Commands that take a key of any type, or are not the same; see `differential.KNOWN`."""
OUTER = {b"object", b"xgroup", b"xinfo"}
"""Commands with subcommands."""
MADE_BY: dict[bytes, Words] = {
    b"string": (b"SET", b"a"),
    b"list": (b"RPUSH", b"a"),
    b"set": (b"SADD", b"a"),
    b"hash": (b"HSET", b"f", b"a"),
    b"zset": (b"ZADD", b"1", b"a"),
    b"stream": (b"XADD", b"1-1", b"f", b"a"),
    b"none": (),
}


def asked() -> list[Words]:
    """Return the requests."""
    return [tuple(one.encode().split()) for one in REQUESTS.split(";")]


def test_no_command_is_left_out() -> None:
    """There is a request for each command and subcommand with keys."""
    names = {
        command.name
        for outer in commands().values()
        for command in (outer, *outer.subcommands.values())
        if command.finders
    }
    tested = {
        "|".join(part.decode() for part in (words if words[0] in OUTER else words[:1])[:2])
        for words in asked()
    }
    assert names - LEFT_OUT == tested


def test_the_type_of_a_key(real: int) -> None:
    """Each command replies and does the same, whatever its keys held.

    Compared are its reply, the types of the keys then, and whether a watched key has changed.
    """
    with Pair(real, 2) as pair:
        for words in asked():
            others = (b"none", b"string", b"list", b"zset") if b"O" in words else (b"none",)
            for kind, other in product(MADE_BY, others):
                for server in (pair.real, pair.ours):
                    server(b"FLUSHALL")
                    for key, made_by in zip(KEYS.values(), (kind, other), strict=True):
                        if MADE_BY[made_by]:
                            server(MADE_BY[made_by][0], key, *MADE_BY[made_by][1:])
                sent = tuple(KEYS.get(word, word) for word in words)
                watch = b"WATCH", KEYS[b"O" if b"O" in words else b"K"]
                types = [(b"TYPE", key) for key in KEYS.values()]
                for request in (watch, sent, *types, (b"MULTI",), (b"EXEC",)):
                    assert pair.differ(request) is None, (kind, other, sent)
