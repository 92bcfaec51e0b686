"""Rewrites of the append-only file."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.embedded.redis.shard import (
    Shard,
    change_something,
    data,
    fill,
    in_sync,
    loaded,
    run,
    until,
)


def test_file_is_rewritten(tmp_path: Path) -> None:
    """A rewritten file has the data and later writes."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        for number in range(1000):
            await a("SET", "k", number)
        size = shard["a"].server.aof.size
        admin = await shard.call("a", admin=True)
        await admin("BGREWRITEAOF")
        await until(lambda: shard["a"].server.aof.size < size / 100)
        await a("SET", "after", 1)
        shard["a"].kill()
        shard["a"].start()
        await loaded(shard)
        assert shard["a"].server.store.values[b"k"] == b"999"
        assert b"after" in shard["a"].server.store.values

    run(tmp_path, test)


@pytest.mark.parametrize("flushes", [False, True])
def test_requests_are_served_while_the_file_is_rewritten(tmp_path: Path, *, flushes: bool) -> None:
    """The new file has the data and the changes made meanwhile, each once."""

    async def test(shard: Shard) -> None:
        a, admin = await shard.call("a"), await shard.call("a", admin=True)
        await fill(a)
        rng = random.Random(5)
        admin.send("BGREWRITEAOF")
        admin.send("INFO", "persistence")
        while not shard["a"].server.aof_rewrite.is_running:
            await asyncio.sleep(0)
        rounds = 0
        while shard["a"].server.aof_rewrite.is_running:
            rounds += 1
            if rounds % 3 == 0:
                change_something(a, rng)
            if flushes and rounds == 5:
                a.send("FLUSHALL")
            await asyncio.sleep(0)
        assert rounds > (5 if flushes else 2)
        await admin.receive()
        assert b"aof_rewrite_in_progress:1" in await admin.receive()
        await a("SET", "after", 1)
        before = data(shard, "a")
        shard["a"].kill()
        shard["a"].start()
        await loaded(shard)
        assert data(shard, "a") == before

    run(tmp_path, test)


def test_flushall_leaves_a_small_file(tmp_path: Path) -> None:
    """FLUSHALL rewrites the append-only files of all nodes, if they are large."""

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


def test_file_that_loads_slowly_is_rewritten(tmp_path: Path) -> None:
    """A file is rewritten at 8 MB already, and again when it has doubled since."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        aof = shard["a"].server.aof
        value = "x" * (1 << 20)
        for _ in range(6):
            await a("SET", "k", value)
        assert aof.size > 6 << 20
        for _ in range(3):
            await a("SET", "k", value)
        await until(lambda: aof.base_size > 1 << 20 and aof.size < 3 << 20)

    run(tmp_path, test)


def test_a_disk_that_is_full_ends_a_rewrite(tmp_path: Path) -> None:
    """What the disk did not take is in the file once, when it takes all again."""

    async def test(shard: Shard) -> None:
        a, admin, node = await shard.call("a"), await shard.call("a", admin=True), shard["a"]
        await fill(a)
        rewrite, aof = node.server.aof_rewrite, node.server.aof
        await admin("BGREWRITEAOF")
        assert rewrite.is_running
        node.fill_disk(is_full=True)
        assert await a("INCR", "n") == 1
        await until(lambda: aof.has_failed)
        await until(lambda: not rewrite.is_running)
        assert not rewrite.finished
        assert not list((tmp_path / "redis-a").glob("*.draft*"))
        node.fill_disk(is_full=False)
        node.kill()
        node.start()
        await loaded(shard)
        assert node.server.store.values[b"n"] == b"1"

    run(tmp_path, test)
