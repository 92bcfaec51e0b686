"""What clients are sent when the roles of nodes change. Redis 7.0 does the same."""

import re
from pathlib import Path

import pytest

from tests.embedded.redis.shard import Caller, ReplyError, Shard, in_sync, run, until


async def fail_over(shard: Shard, zone: str) -> None:
    """Promote a node."""
    admin = await shard.call(zone, admin=True)
    await admin("CLUSTER", "FAILOVER", "TAKEOVER")
    await in_sync(shard, f"redis-{zone}")


async def is_unblocked(caller: Caller) -> None:
    """Check that a blocked client has got Redis's error, and was disconnected."""
    with pytest.raises(ReplyError, match=re.escape("UNBLOCKED force unblock from blocking")):
        await caller.receive()
    await until(lambda: caller.is_lost)


def test_blocked_clients(tmp_path: Path) -> None:
    """A demoted and a re-pointed node answer blocked clients, and disconnect these alone."""

    async def test(shard: Shard) -> None:
        idle = await shard.call("a")
        await idle("XADD", "s", "1-1", "a", "b")
        await in_sync(shard)
        waiting = []
        for zone, words in (
            ("a", ("BLPOP", "q", 0)),
            ("a", ("WAIT", 5, 0)),
            ("b", ("XREAD", "BLOCK", 0, "STREAMS", "s", "$")),
            ("c", ("XREAD", "BLOCK", 0, "STREAMS", "s", "$")),
        ):
            caller = await shard.call(zone)
            await caller("READONLY")
            caller.send(*words)
            waiting.append(caller)
        await until(lambda: len(shard["a"].server.blocked_clients.everyone) == 2)
        await until(lambda: len(shard["c"].server.blocked_clients.everyone) == 1)
        await fail_over(shard, "b")
        for caller in (waiting[0], waiting[1], waiting[3]):
            await is_unblocked(caller)
        assert await idle("PING") == "PONG"
        assert len(shard["b"].server.blocked_clients.everyone) == 1
        assert not waiting[2].is_lost

    run(tmp_path, test)


def test_sharded_subscribers(tmp_path: Path) -> None:
    """They hear that another node has their slots, but not on the node that took these over."""

    async def test(shard: Shard) -> None:
        subscribers = {}
        for zone in "abc":
            caller = subscribers[zone] = await shard.call(zone, resp=3 if zone == "a" else 2)
            await caller("SSUBSCRIBE", "ch")
            await caller("SSUBSCRIBE", "{ch}2")
        other = await shard.call("a")
        await other("SUBSCRIBE", "ch")
        await fail_over(shard, "b")
        for zone in "ac":
            caller = subscribers[zone]
            assert await caller.receive() == [b"sunsubscribe", b"ch", 1]
            assert await caller.receive() == [b"sunsubscribe", b"{ch}2", 0]
            assert await caller("PING") == "PONG"
        publisher = await shard.call("b")
        assert await publisher("SPUBLISH", "ch", "m") == 1
        assert await subscribers["b"].receive() == [b"smessage", b"ch", b"m"]
        assert await publisher("PUBLISH", "ch", "m") == 0
        assert await other.receive() == [b"message", b"ch", b"m"]

    run(tmp_path, test)


def test_sharded_subscribers_of_the_promoted_node(tmp_path: Path) -> None:
    """Since 7.2 they are unsubscribed, too. The promoted node answers them from then on."""

    async def test(shard: Shard) -> None:
        caller = await shard.call("b")
        await caller("SSUBSCRIBE", "ch")
        await fail_over(shard, "b")
        assert await caller.receive() == [b"sunsubscribe", b"ch", 0]
        assert await caller("SET", "k", 1) == "OK"

    run(tmp_path, test, redis_version="7.2")


def test_full_resync(tmp_path: Path) -> None:
    """A replica whose data is replaced tells clients that cache keys once, and monitors nothing."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await a("MSET", "{k}1", 1, "{k}2", 2)
        await in_sync(shard)
        cached, everything = await shard.call("b", resp=3), await shard.call("b", resp=3)
        for caller, options in ((cached, ()), (everything, ("BCAST",))):
            await caller("READONLY")
            await caller("CLIENT", "TRACKING", "ON", *options)
            await caller("GET", "{k}1")
        monitor, waits = await shard.call("b"), await shard.call("b")
        await waits("READONLY")
        await waits("WATCH", "{k}1")
        await monitor("MONITOR")
        shard["a"].server.stream.id = "f" * 40  # nothing of it is in anybody's backlog
        shard["a"].server.replicas.drop_all()
        await until(lambda: shard["a"].server.stats.sync_full)
        await in_sync(shard)
        for caller in (cached, everything):
            assert await caller.receive() == [b"invalidate", None]
            assert await caller("PING") == "PONG"
        assert b"{k}" not in monitor.buffer
        await waits("MULTI")
        assert await waits("EXEC") is None

    run(tmp_path, test)


def test_transactions(tmp_path: Path) -> None:
    """A transaction that reads goes on, one that writes is redirected, and WATCH stays."""

    async def test(shard: Shard) -> None:
        reads, writes, watches = [await shard.call("a") for _ in range(3)]
        await reads("SET", "k", 1)
        for caller, words in ((reads, ("GET", "k")), (writes, ("SET", "k", 5))):
            await caller("READONLY")
            await caller("MULTI")
            await caller(*words)
        await watches("READONLY")
        await watches("WATCH", "k")
        await fail_over(shard, "b")
        assert await reads("EXEC") == [b"1"]
        with pytest.raises(ReplyError, match=r"^MOVED 7629 "):
            await writes("EXEC")
        await watches("MULTI")
        await watches("GET", "k")
        assert await watches("EXEC") == [b"1"]

    run(tmp_path, test)


def test_a_cluster_that_is_down(tmp_path: Path) -> None:
    """Clients that wait for keys are answered when their node has lost the primary."""

    async def test(shard: Shard) -> None:
        caller = await shard.call("b")
        await caller("READONLY")
        caller.send("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
        await until(lambda: shard["b"].server.blocked_clients.everyone)
        shard.isolate("b")
        with pytest.raises(ReplyError, match=r"^CLUSTERDOWN The cluster is down$"):
            await caller.receive()
        with pytest.raises(ReplyError, match=r"^CLUSTERDOWN The cluster is down$"):
            await caller("GET", "k")

    run(tmp_path, test, settings={"cluster-node-timeout": "1000"})
