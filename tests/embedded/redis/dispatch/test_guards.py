"""What a node refuses in its present state."""

from pathlib import Path

import pytest

from tests.embedded.redis.shard import ReplyError, Shard, in_sync, run


def test_min_replicas_to_write(tmp_path: Path) -> None:
    """With too few replicas, writes are refused, and only writes."""

    async def test(shard: Shard) -> None:
        a, admin = await shard.call("a"), await shard.call("a", admin=True)
        await a("SET", "k", 1)
        await admin("CONFIG", "SET", "min-replicas-to-write", 1000)
        with pytest.raises(ReplyError, match="NOREPLICAS Not enough good replicas to write"):
            await a("SET", "k", 2)
        assert await a("GET", "k") == b"1"
        await admin("CONFIG", "SET", "min-replicas-to-write", 2)
        assert await a("SET", "k", 2) == "OK"

    run(tmp_path, test)


def test_a_full_node(tmp_path: Path) -> None:
    """A full node answers OOM to commands that take memory, until something is deleted."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")

        async def fill() -> None:
            for number in range(100):
                await a("SET", f"k:{number}", b"x" * 100_000)

        with pytest.raises(ReplyError, match="OOM command not allowed when used memory"):
            await fill()
        assert await a("GET", "k:0") == b"x" * 100_000
        await a("FLUSHALL")
        assert await a("SET", "k", 1) == "OK"

    run(tmp_path, test, settings={"maxmemory": "5000000"})


def test_a_full_replica(tmp_path: Path) -> None:
    """A replica ignores its maxmemory, as Redis's does by default: it refuses no reads in MULTI."""

    async def test(shard: Shard) -> None:
        await (await shard.call("a"))("SET", "k", "v")
        await in_sync(shard)
        admin, b = await shard.call("b", admin=True), await shard.call("b")
        await admin("CONFIG", "SET", "maxmemory", 1)
        await b("READONLY")
        await b("MULTI")
        assert await b("GET", "k") == "QUEUED"
        assert await b("EXEC") == [b"v"]
        await admin("CLUSTER", "FAILOVER", "TAKEOVER")
        with pytest.raises(ReplyError, match="OOM command not allowed when used memory"):
            await b("SET", "k", "w")

    run(tmp_path, test)
