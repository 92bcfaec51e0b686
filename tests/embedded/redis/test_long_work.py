"""Long work of a node: it answers meanwhile, others do too, and nothing is lost by it."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest

from cachesim.protocols.resp import request
from tests.embedded.redis.shard import Caller, ReplyError, Shard, until
from tests.embedded.redis.test_shard import in_sync, loaded, run

_MANY = 20_000


async def fill(client: Caller, *more: str) -> None:
    """Set many keys."""
    words = [word.encode() for word in more]
    sets = (request([b"SET", b"k:%d" % n, b"v" * 100, *words]) for n in range(_MANY))
    client.transport.write(b"".join(sets))
    await until(lambda: len(client.buffer) == _MANY * len(b"+OK\r\n"))
    client.buffer = b""


def data(shard: Shard, zone: str) -> dict[bytes, Any]:
    """What a node has, in a form that can be compared."""
    store = shard[zone].server.store
    return {
        key: (sorted(value) if isinstance(value, set) else value, store.expiries.get(key))
        for key, value in store.values.items()
    }


def change_something(client: Caller, rng: random.Random) -> None:
    """Ask for a few changes of which none can be done twice unnoticed."""
    for _ in range(20):
        name = rng.randrange(50)
        match rng.randrange(6):
            case 0:
                client.send("RPUSH", f"list:{name}", rng.randrange(1000))
            case 1:
                client.send("INCR", f"number:{name}")
            case 2:
                client.send("APPEND", f"k:{rng.randrange(_MANY)}", "more")
            case 3:
                client.send("DEL", f"list:{name}", f"k:{rng.randrange(_MANY)}")
            case 4:
                client.send("HINCRBY", f"hash:{name}", rng.randrange(500), 1)
            case 5:
                client.send("SET", f"new:{rng.randrange(1000)}", "x", "PX", 10**9)


def test_a_node_that_loads_says_so(tmp_path: Path) -> None:
    """It answers LOADING, or what needs no data; other nodes answer as ever."""

    async def test(shard: Shard) -> None:
        b = await shard.call("b")
        await fill(await shard.call("a"))
        shard["a"].kill()
        shard["a"].start()
        a = await shard.call("a")
        with pytest.raises(ReplyError, match="LOADING Redis is loading the dataset in memory"):
            await a("DBSIZE")
        assert b"\r\nloading:1\r\n" in await a("INFO", "persistence")
        assert await b("PING") == "PONG"
        assert shard["a"].server.loader.is_loading
        await loaded(shard)
        assert await a("DBSIZE") == _MANY
        assert b"\r\nloading:0\r\n" in await a("INFO", "persistence")

    run(tmp_path, test)


def test_a_node_killed_while_it_loads_loses_nothing(tmp_path: Path) -> None:
    """Its file is as it was."""

    async def test(shard: Shard) -> None:
        await fill(await shard.call("a"))
        shard["a"].kill()
        shard["a"].start()
        shard["a"].kill()
        shard["a"].start()
        await loaded(shard)
        assert len(shard["a"].server.store) == _MANY

    run(tmp_path, test)


@pytest.mark.parametrize("flushes", [False, True])
def test_requests_are_served_while_the_file_is_rewritten(tmp_path: Path, *, flushes: bool) -> None:
    """The new file has what was there and what has changed meanwhile, each once."""

    async def test(shard: Shard) -> None:
        a, admin = await shard.call("a"), await shard.call("a", admin=True)
        await fill(a)
        rng = random.Random(5)
        await admin("BGREWRITEAOF")
        assert b"aof_rewrite_in_progress:1" in await admin("INFO", "persistence")
        rounds = 0
        while shard["a"].server.aof_rewrite.is_running:
            rounds += 1
            if rounds % 3 == 0:
                change_something(a, rng)
            if flushes and rounds == 5:
                a.send("FLUSHALL")
            await asyncio.sleep(0)
        assert rounds > 2
        await a("SET", "after", 1)
        before = data(shard, "a")
        shard["a"].kill()
        shard["a"].start()
        await loaded(shard)
        assert data(shard, "a") == before

    run(tmp_path, test)


def test_a_full_resync_stops_nobody(tmp_path: Path) -> None:
    """The primary takes writes, the replica says LOADING, and has the same data in the end."""

    async def test(shard: Shard) -> None:
        a, b = await shard.call("a"), await shard.call("b")
        await fill(a)
        await in_sync(shard)
        rng = random.Random(6)
        writes = 0
        shard["b"].kill()
        shard["b"].start()
        b = await shard.call("b")
        await until(lambda: not shard["b"].server.loader.is_loading)  # what it had itself
        refusals = set()
        while not shard.follows("redis-b", "redis-a"):
            change_something(a, rng)
            await shard.call("c")
            writes += 1
            try:
                await b("DBSIZE")
            except ReplyError as error:
                refusals.add(str(error))
            await in_sync_if_done(shard)
        assert refusals == {"LOADING Redis is loading the dataset in memory"}
        assert writes > 2
        await in_sync(shard)
        assert data(shard, "b") == data(shard, "a")
        shard["b"].kill()
        shard["b"].start()
        await until(lambda: not shard["b"].server.loader.is_loading)
        assert len(shard["b"].server.store) == len(shard["a"].server.store)

    async def in_sync_if_done(shard: Shard) -> None:
        link = shard["b"].server.replica_link
        if link is not None and link.is_up:
            await in_sync(shard)

    run(tmp_path, test)


def test_a_replica_that_is_told_to_lead_before_it_has_the_data_does_not(tmp_path: Path) -> None:
    """A resync whose primary dies meanwhile leaves a node that follows the next one."""

    async def test(shard: Shard) -> None:
        await fill(await shard.call("a"))
        await in_sync(shard)
        shard["b"].kill()
        shard["b"].start()
        await until(lambda: (link := shard["b"].server.replica_link) and link.state == "sync")
        shard["a"].kill()
        c = await shard.call("c", admin=True)
        await c("CLUSTER", "FAILOVER", "TAKEOVER")
        await until(lambda: shard.follows("redis-b", "redis-c"))
        assert data(shard, "b") == data(shard, "c")

    run(tmp_path, test)


def test_a_long_pipeline_is_served_in_turns(tmp_path: Path) -> None:
    """Another client is answered before it is done, and its own replies are in order."""

    async def test(shard: Shard) -> None:
        long, short = await shard.call("a"), await shard.call("a")
        long.transport.write(request([b"INCR", b"n"]) * _MANY)
        assert await short("PING") == "PONG"
        assert long.buffer.count(b"\n") < _MANY / 2
        replies = b"".join(b":%d\r\n" % n for n in range(1, _MANY + 1))
        await until(lambda: len(long.buffer) == len(replies))
        assert long.buffer == replies

    run(tmp_path, test)


def test_many_keys_expire_in_turns(tmp_path: Path) -> None:
    """What has expired is gone at once for everybody, replicas included, whenever it is removed."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await fill(a, "EX", "100")
        for _ in range(5):
            await a("INCR", "last")
        await a("EXPIRE", "last", 200)
        await in_sync(shard)
        server = shard["a"].server
        server.wall = lambda: time.time() + 1000
        assert await a("INCR", "last") == 1
        assert server.expiry.has_backlog
        assert await a("GET", f"k:{_MANY - 1}") is None
        await until(lambda: not server.expiry.has_backlog)
        await in_sync(shard)
        for zone in "abc":
            assert data(shard, zone) == {b"last": (b"1", None)}

    run(tmp_path, test)


def test_a_large_value_passes(tmp_path: Path) -> None:
    """Values of many megabytes come and go, are replicated, and are in the file."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        value = random.Random(7).randbytes(10 << 20)
        assert await a("SET", "k", value) == "OK"
        assert await a("GET", "k") == value
        await in_sync(shard)
        assert data(shard, "b") == {b"k": (value, None)}
        shard["a"].kill()
        shard["a"].start()
        await loaded(shard)
        assert shard["a"].server.store.values[b"k"] == value

    run(tmp_path, test)


def test_what_is_deleted_leaves_a_small_file(tmp_path: Path) -> None:
    """FLUSHALL begins the append-only files anew, if they are large."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await fill(a)
        await in_sync(shard)
        assert shard["a"].server.aof.size > 1 << 20
        assert await a("FLUSHALL") == "OK"
        await until(lambda: all(shard[zone].server.aof.size < 1000 for zone in "abc"))
        assert await a("SET", "k", 1) == "OK"
        shard["a"].kill()
        shard["a"].start()
        await loaded(shard)
        assert shard["a"].server.store.values == {b"k": b"1"}

    run(tmp_path, test)
