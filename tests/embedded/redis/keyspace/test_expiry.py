"""The expiry cycle."""

import asyncio
import time
from pathlib import Path

from tests.embedded.redis.shard import (
    MANY,
    Caller,
    Shard,
    data,
    fill,
    in_sync,
    run,
    until,
)


def test_the_primary_alone_expires_keys(tmp_path: Path) -> None:
    """A replica hides an expired key, and deletes it when the primary says so."""

    async def test(shard: Shard) -> None:
        a, b = await shard.call("a"), await shard.call("b")
        await b("READONLY")
        await a("SET", "k", 1, "PX", 30)
        await in_sync(shard)
        shard.sever(("redis-b", "redis-a", "redis"))

        async def is_gone(client: Caller) -> bool:
            return await client("GET", "k") is None

        while not await is_gone(b):
            await asyncio.sleep(0.005)
        assert b"k" in shard["b"].server.store.values
        assert await is_gone(a)
        shard.cut.clear()
        await in_sync(shard)
        assert b"k" not in shard["b"].server.store.values
        assert shard["a"].server.stats.expired == 1

    run(tmp_path, test)


def test_a_pause_keeps_expired_keys(tmp_path: Path) -> None:
    """They are hidden while writes are paused, and removed when these go on, as with Redis."""

    async def test(shard: Shard) -> None:
        a, watching = await shard.call("a"), await shard.call("a")
        await a("SET", "k", 1, "PX", 30)
        await watching("WATCH", "k")
        await a("CLIENT", "PAUSE", 100_000, "WRITE")
        server = shard["a"].server
        offset = server.stream.offset
        while await a("GET", "k") is not None:
            await asyncio.sleep(0.005)
        assert await a("DBSIZE") == 1
        assert server.stream.offset == offset
        await watching("MULTI")
        assert await watching("EXEC") is None
        await watching("WATCH", "k")
        await watching("MULTI")
        assert await watching("EXEC") == []
        await a("CLIENT", "UNPAUSE")
        assert await a("DBSIZE") == 0

    run(tmp_path, test)


def test_watched_keys_of_a_replica_expire(tmp_path: Path) -> None:
    """EXEC fails although the primary has not deleted them yet."""

    async def test(shard: Shard) -> None:
        a, b = await shard.call("a"), await shard.call("b")
        await b("READONLY")
        await a("SET", "k", 1, "PX", 100)
        await in_sync(shard)
        await b("WATCH", "k")
        shard.sever(("redis-b", "redis-a", "redis"))
        while await b("GET", "k") is not None:
            await asyncio.sleep(0.005)
        await b("MULTI")
        assert await b("EXEC") is None

    run(tmp_path, test)


def test_many_keys_expire_in_turns(tmp_path: Path) -> None:
    """Expired keys are gone at once for all clients and replicas, whenever they are removed."""

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
        assert await a("GET", f"k:{MANY - 1}") is None
        await until(lambda: not server.expiry.has_backlog)
        await in_sync(shard)
        for zone in "abc":
            assert data(shard, zone) == {b"last": (b"1", None)}

    run(tmp_path, test)
