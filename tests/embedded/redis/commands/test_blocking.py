"""Blocked clients: who is answered, when, and with what; on a real Redis and on a node."""

import random
from typing import Any

import pytest

from tests.embedded.redis.several import OurClients, RealClients, transcript

SEEDS = 8

SCRIPTS = {
    "a list is no stream": """
        B: XREAD BLOCK 0 STREAMS s $
        A: RPUSH s x
        C: RPUSH s y
        A: DEL s
        A: XADD s 1-1 f v
    """,
    "a string is no stream": """
        B: XREAD BLOCK 0 STREAMS k $
        A: SET k v
        A: SET k w
        A: DEL k
        A: XADD k 1-1 f v
    """,
    "a hash is no list": """
        B: BLPOP k 0
        C: BLMPOP 0 1 k LEFT COUNT 2
        D: BLMOVE k {k}d LEFT RIGHT 0
        E: BZPOPMIN k 0
        F: BZMPOP 0 1 k MAX
        A: HSET k f v
        A: DEL k
        A: ZADD k 1 a
        A: ZADD k 1 a 2 b
        A: RPUSH k a b c d e f
        A: RPUSH k a b c d e f
        A: LRANGE {k}d 0 -1
    """,
    "a key that is overwritten": """
        A: RPUSH {t}l 1 2
        A: ZADD {t}z 1 a
        A: MSET {t}k v {t}m v
        B: BLPOP {t}k 0
        A: SORT {t}l STORE {t}k
        C: BZPOPMIN {t}m 0
        A: ZUNIONSTORE {t}m 1 {t}z
        A: DEL {t}k {t}m
        A: SORT {t}l STORE {t}k
        A: ZRANGESTORE {t}m {t}z 0 -1
    """,
    "the target is no list": """
        A: SET {s}d v
        B: BLMOVE s{s} {s}d LEFT RIGHT 0
        C: BRPOPLPUSH s{s} {s}d 0
        D: BLPOP s{s} 0
        A: RPUSH s{s} x
        A: EXISTS s{s}
    """,
    "the first key to change": """
        B: BLPOP {t}a {t}b 0
        A: MULTI
        A: RPUSH {t}b 1
        A: RPUSH {t}a 2
        A: EXEC
        A: LRANGE {t}a 0 -1
        C: BLMPOP 0 2 {t}x {t}y RIGHT
        A: EVAL "redis.call('rpush', KEYS[2], 'y'); redis.call('rpush', KEYS[1], 'x')" 2 {t}x {t}y
        D: BZPOPMAX {t}m {t}n 0
        A: MULTI
        A: ZADD {t}n 1 n
        A: ZADD {t}m 1 m
        A: EXEC
        E: XREAD BLOCK 0 STREAMS {t}p {t}q $ $
        A: MULTI
        A: XADD {t}q 1-1 f v
        A: XADD {t}p 1-1 f v
        A: EXEC
    """,
    "in the order in which they came": """
        B: BLPOP k 0
        C: BLPOP k 0
        D: BRPOP k 0
        A: RPUSH k 1 2
        A: RPUSH k 3
    """,
    "pipelines go on": """
        B: BLPOP k 0
        B: SET other 1
        B: GET other
        A: LPUSH k 1
    """,
    "a key that is emptied at once": """
        B: BLPOP k 0
        A: MULTI
        A: RPUSH k 1
        A: DEL k
        A: EXEC
        A: RPUSH k 2
        C: XREAD BLOCK 0 STREAMS s $
        A: MULTI
        A: XADD s 1-1 f v
        A: XDEL s 1-1
        A: EXEC
        C: PING
    """,
    "XSETID wakes nobody": """
        A: XADD s 1-1 f v
        B: XREAD BLOCK 0 STREAMS s $
        A: XSETID s 5-5
        A: XADD s 6-6 f v
    """,
    "a chain": """
        B: BLMOVE {t}a {t}b LEFT RIGHT 0
        C: BLMOVE {t}b {t}c LEFT RIGHT 0
        D: BLPOP {t}c 0
        A: RPUSH {t}a x
        A: EXISTS {t}a {t}b {t}c
    """,
    "the group is gone": """
        A: XGROUP CREATE s g $ MKSTREAM
        B: XREADGROUP GROUP g c BLOCK 0 STREAMS s >
        C: XREADGROUP GROUP g d COUNT 1 BLOCK 0 STREAMS s >
        A: XADD s 1-1 f v
        A: XADD s 2-1 f v
        B: XREADGROUP GROUP g c BLOCK 0 STREAMS s >
        A: XGROUP DESTROY s g
        A: XGROUP CREATE s g $
        B: XREADGROUP GROUP g c BLOCK 0 STREAMS s >
        A: DEL s
        A: XGROUP CREATE s g $ MKSTREAM
        B: XREADGROUP GROUP g c BLOCK 0 STREAMS s >
        A: SET s v
        A: DEL s
        A: XGROUP CREATE s g $ MKSTREAM
        B: XREADGROUP GROUP g c BLOCK 0 STREAMS s >
        A: FLUSHALL
    """,
    "a key by another way": """
        B: BLPOP {t}k 0
        A: RPUSH {t}l 1 2
        A: RENAME {t}l {t}k
        A: LRANGE {t}k 0 -1
        A: DEL {t}k
        C: BLPOP {t}k 0
        A: RPUSH {t}l 1 2
        A: COPY {t}l {t}k
        D: BZPOPMIN {t}z 0
        A: ZADD {t}y 1 a
        A: ZUNIONSTORE {t}z 1 {t}y
        E: BLPOP {t}s 0
        A: SORT {t}l STORE {t}s
    """,
    "watched keys": """
        A: RPUSH l a
        W: WATCH l
        A: LMPOP 1 l LEFT
        W: MULTI
        W: EXEC
        W: EXISTS l
        A: XADD s 1-1 f v
        W: WATCH s
        A: XGROUP CREATE s g 0
        A: XREADGROUP GROUP g c STREAMS s >
        A: XACK s g 1-1
        W: MULTI
        W: EXEC
        W: WATCH s
        A: XADD s 2-1 f v
        W: MULTI
        W: EXEC
    """,
    "where nobody may wait": """
        B: CLIENT ID
        B: XREAD BLOCK 0 STREAMS s $
        A: EVAL "return redis.pcall('xread', 'block', '0', 'streams', KEYS[1], '$')" 1 s
        A: MULTI
        A: XREAD BLOCK 0 STREAMS s $
        A: BLPOP l 0
        A: BLMOVE l l LEFT LEFT 0
        A: BLMPOP 0 1 l LEFT
        A: BZMPOP 0 1 l MIN
        A: EXEC
    """,
    "keys that become empty": """
        A: RPUSH l a
        A: LMPOP 1 l LEFT
        A: RPUSH l a
        A: BLMPOP 0 1 l RIGHT COUNT 5
        A: ZADD z 1 a
        A: ZMPOP 1 z MIN COUNT 5
        A: ZADD z 1 a
        A: BZMPOP 0 1 z MAX
        A: SADD s a
        A: SPOP s 1
        A: EXISTS l z s
        A: DBSIZE
    """,
}  # fmt: skip


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("name", SCRIPTS)
def test_as_redis(real: int, name: str, resp: int) -> None:
    """All clients get the same replies at the same time, from a real Redis and from a node."""
    lines = list(filter(None, map(str.strip, SCRIPTS[name].splitlines())))
    hello = [f"{who}: HELLO {resp}" for who in dict.fromkeys(line[0] for line in lines)]
    skipped = len(hello) if resp == 3 else 0  # these replies differ in the ids of the connections
    script = "\n".join([*hello[: len(hello) if resp == 3 else 0], *lines])

    def without_hello(said: list[tuple[str, str, list[object]]]) -> list[object]:
        return [one for one in said[skipped:] if "CLIENT ID" not in one[0]]

    expected = without_hello(transcript(RealClients(real), script))
    assert without_hello(transcript(OurClients(), script)) == expected
    assert expected


REQUESTS = """
    BLPOP K K 0; BRPOP K 0; BLMOVE K K LEFT RIGHT 0; BRPOPLPUSH K K 0; BLMPOP 0 2 K K LEFT COUNT 2;
    BZPOPMIN K K 0; BZPOPMAX K 0; BZMPOP 0 2 K K MAX COUNT 2; XREAD BLOCK 0 STREAMS K K $ 0;
    XREAD COUNT 1 BLOCK 0 STREAMS K $; XREADGROUP GROUP g c BLOCK 0 STREAMS K >;
    XREADGROUP GROUP g d BLOCK 0 COUNT 1 STREAMS K >; RPUSH K a; LPUSH K a b c; RPUSH K a b;
    ZADD K 1 a; ZADD K 1 a 2 b 3 c; XADD K * f v; XADD K * f v; SET K v; DEL K; DEL K; RENAME K K;
    COPY K K REPLACE; XGROUP CREATE K g $ MKSTREAM; XGROUP CREATE K g $ MKSTREAM;
    XGROUP DESTROY K g; LRANGE K 0 -1; ZRANGE K 0 -1 WITHSCORES; XLEN K; TYPE K; XPENDING K g;
    MULTI; MULTI; EXEC; EXEC; EXEC; WATCH K; FLUSHALL; LMPOP 1 K LEFT; XTRIM K MAXLEN 0;
    SADD K a; SPOP K; EVAL PUSHES 2 K K; PING
"""
PUSHES = "redis.call('rpush', KEYS[2], 'x') redis.call('rpush', KEYS[1], 'y')"


def drawn(r: random.Random, count: int) -> str:
    """Draw requests of some clients. Ids of streams are counted, and so the same everywhere."""
    lines = []
    for number in range(1, count + 1):
        words = [
            {"K": f"{{t}}{r.choice('abc')}", "*": str(number), "PUSHES": f'"{PUSHES}"'}.get(w, w)
            for w in r.choice(REQUESTS.split(";")).split()
        ]
        lines.append(f"{r.choice('ABCDE')}: {' '.join(words)}")
    return "\n".join(lines)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_any_requests_of_several_clients(real: int, seed: int) -> None:
    """All clients get the same replies at the same time, whatever they ask."""
    script = drawn(random.Random(seed), 120)
    expected = transcript(RealClients(real), script, pipelined=False)
    said = transcript(OurClients(), script, pipelined=False)
    for number, one in enumerate(expected):
        assert said[number : number + 1] == [one], number
    assert len(said) == len(expected)


def test_a_failure_stays_with_the_client_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer gets its reply, even if the answer to a client that waits can't be made."""
    clients = OurClients()
    run = clients.server.store.run

    def failing(name: str, arguments: list[bytes], resp: int) -> Any:
        if name == "lpop":
            raise RuntimeError
        return run(name, arguments, resp)

    monkeypatch.setattr(clients.server.store, "run", failing)
    script = """
        B: BLPOP k 0
        A: RPUSH k x
        A: LLEN k
        B: PING
    """
    assert transcript(clients, script) == [
        ("A: RPUSH k x", "B", ["ReplyError('ERR internal error')"]),
        ("A: RPUSH k x", "A", [1]),
        ("A: LLEN k", "A", [1]),
        ("B: PING", "B", ["PONG"]),
    ]
