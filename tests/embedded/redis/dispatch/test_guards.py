"""What a node refuses in its present state."""

import asyncio
from pathlib import Path

import pytest

from cachesim.embedded.answers import Rule
from tests.embedded.redis.shard import ReplyError, Shard, in_sync, run, until


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


def test_a_delay_that_ends_while_a_request_waits(tmp_path: Path) -> None:
    """The next delay works on the connection's next request, too."""

    async def test(shard: Shard) -> None:
        a, node = await shard.call("a"), shard["a"]
        delay = Rule(frozenset(), draw=lambda: 0.0, seconds=0.02)
        node.answer_with([delay])
        a.send("GET", "k")
        await until(lambda: node.answers.injected)
        node.answer_with([])
        assert await a.receive() is None
        node.answer_with([delay])
        await a("GET", "k")
        assert node.answers.injected == 2

    run(tmp_path, test)


@pytest.mark.parametrize("kind", ["delay", "slow"])
def test_the_end_of_a_delay(tmp_path: Path, kind: str) -> None:
    """What has waited is answered at once, on a paused node when that is resumed."""

    async def test(shard: Shard) -> None:
        a, node = await shard.call("a"), shard["a"]
        if kind == "delay":
            node.answer_with([Rule(frozenset(), draw=lambda: 0.0, seconds=1000)])
        else:
            node.limit_cpu(1e-8)
        a.send("GET", "k")
        await until(lambda: node.answers.injected)
        node.pause()
        node.answer_with([])
        node.limit_cpu(1)
        await asyncio.sleep(0.01)
        assert not a.buffer
        node.resume()
        assert await a.receive() is None

    run(tmp_path, test)


def test_nothing_waits_for_a_processor_of_before(tmp_path: Path) -> None:
    """What has waited for a slow processor keeps nobody waiting for the next one."""

    async def test(shard: Shard) -> None:
        a, node = await shard.call("a"), shard["a"]
        node.limit_cpu(1e-8)
        a.send("GET", "k")
        await until(lambda: node.answers.injected)
        node.limit_cpu(1)
        assert await a.receive() is None
        node.limit_cpu(0.5)
        assert await a("GET", "k") is None
        node.limit_cpu(1e-8)
        a.send("GET", "k")
        await until(lambda: node.answers.injected == 3)
        node.kill()
        node.start()
        now = asyncio.get_running_loop().time()
        assert node.answers.wait("get", has_keys=True, now=now) == pytest.approx(2000)

    run(tmp_path, test)
