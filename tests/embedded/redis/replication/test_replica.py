"""Replicas: partial and full resyncs, and links that were lost."""

import asyncio
import random
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cachesim.aio.pipe import pipe
from cachesim.embedded.redis.cluster.slots import slot_of
from cachesim.embedded.redis.keyspace.streams import groups_of
from cachesim.embedded.redis.replication.replica import _Connection
from tests.embedded.redis.shard import (
    ReplyError,
    Shard,
    change_something,
    data,
    fill,
    in_sync,
    run,
    until,
)


def test_replicas_follow(tmp_path: Path) -> None:
    """Writes reach the replicas, which serve reads after READONLY; WAIT counts the replicas."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        assert await a("SET", "k", "v", "EX", 100) == "OK"
        assert await a("WAIT", 2, 1000) == 2
        b = await shard.call("b")
        with pytest.raises(ReplyError, match=f"MOVED {slot_of(b'k')} 127.0.0.1:7000"):
            await b("GET", "k")
        await b("READONLY")
        assert await b("GET", "k") == b"v"
        assert 99 <= await b("TTL", "k") <= 100
        with pytest.raises(ReplyError, match="MOVED"):
            await b("SET", "k", 1)
        with pytest.raises(ReplyError, match="READONLY"):
            await b("FLUSHALL")

    run(tmp_path, test)


def test_replicas_of_a_new_cluster_have_an_offset(tmp_path: Path) -> None:
    """Lettuce reads from no replica at offset 0; those in containers are at 84, too."""

    async def test(shard: Shard) -> None:
        for zone in "abc":
            node = await shard.call(zone)
            assert b"\r\nmaster_repl_offset:84\r\n" in await node("INFO", "replication")
        assert shard["a"].server.stats.sync_full == 0

    run(tmp_path, test)


def test_a_paused_replica_stands_still(tmp_path: Path) -> None:
    """CLIENT PAUSE on a replica holds back what its primary sends, until it ends."""

    async def test(shard: Shard) -> None:
        a, b = await shard.call("a"), await shard.call("b")
        await a("SET", "k", "old")
        await in_sync(shard)
        await b("CLIENT", "PAUSE", 100_000, "WRITE")
        await a("SET", "k", "new")
        await until(lambda: shard["c"].server.store.values[b"k"] == b"new")
        link = shard["b"].server.replica_link
        assert link is not None
        connection = link.connection
        assert connection is not None
        await until(lambda: connection._paused)
        assert shard["b"].server.store.values[b"k"] == b"old"
        await b("CLIENT", "UNPAUSE")
        await until(lambda: shard["b"].server.store.values[b"k"] == b"new")

    run(tmp_path, test)


def test_clients_of_a_replica_hear_of_changes(tmp_path: Path) -> None:
    """What waits for a key, watches it, or has cached it on a replica hears of the write."""

    async def test(shard: Shard) -> None:
        a, waiting, watching, caching = [await shard.call(zone) for zone in "abbb"]
        for client in (waiting, watching, caching):
            await client("READONLY")
        waiting.send("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
        await until(lambda: shard["b"].server.blocked_clients.everyone)
        await watching("WATCH", "k")
        await watching("MULTI")
        await watching("GET", "k")
        await caching("HELLO", 3)
        await caching("CLIENT", "TRACKING", "ON")
        await caching("GET", "k")
        await a("SET", "k", "v")
        await a("RPUSH", "s", "x")
        await a("DEL", "s")
        await a("XADD", "s", "1-1", "f", "v")
        assert await waiting.receive() == [[b"s", [[b"1-1", [b"f", b"v"]]]]]
        assert await watching("EXEC") is None
        assert await caching.receive() == [b"invalidate", [b"k"]]

    run(tmp_path, test)


def test_keys_that_become_empty_are_gone_on_replicas(tmp_path: Path) -> None:
    """A pop that empties a key deletes it, on the primary and on the replicas."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        for fill_it, pop in (
            ("RPUSH k x", "LMPOP 1 k LEFT"),
            ("RPUSH k x", "BLMPOP 0 1 k RIGHT"),
            ("ZADD k 1 x", "ZMPOP 1 k MAX"),
            ("ZADD k 1 x", "BZMPOP 0 1 k MIN COUNT 2"),
            ("SADD k x", "SPOP k 1"),
        ):
            await a(*fill_it.split())
            await a(*pop.split())
            assert await a("EXISTS", "k") == 0, pop
            await in_sync(shard)
            assert [len(shard[zone].server.store) for zone in "abc"] == [0, 0, 0], pop

    run(tmp_path, test)


def test_what_groups_have_read_is_the_same_on_a_replica(tmp_path: Path) -> None:
    """A replica has the pending entries of groups with their consumers, times and counts."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await a("XGROUP", "CREATE", "s", "g", 0, "MKSTREAM")
        for number in range(1, 6):
            await a("XADD", "s", number, "f", "v")
        waiting = await shard.call("a")
        await waiting("XREADGROUP", "GROUP", "g", "c", "COUNT", 2, "STREAMS", "s", ">")
        await a("XREADGROUP", "GROUP", "g", "d", "COUNT", 2, "NOACK", "STREAMS", "s", ">")
        await a("XREADGROUP", "GROUP", "g", "d", "STREAMS", "s", ">")
        waiting.send("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "s", ">")
        await until(lambda: shard["a"].server.blocked_clients.everyone)
        await a("XADD", "s", 6, "f", "v")
        await waiting.receive()
        await a("XACK", "s", "g", 1)
        await a("XDEL", "s", 2)
        await a("XAUTOCLAIM", "s", "g", "e", 0, "-", "COUNT", 2)
        await a("XTRIM", "s", "MAXLEN", "~", 3)
        await in_sync(shard)
        streams = [shard[zone].server.store.values[b"s"] for zone in "abc"]
        told = [(groups_of(one)[b"g"].pending, groups_of(one)[b"g"].read) for one in streams]
        assert told[0] == told[1] == told[2]
        assert sorted(told[0][0]) == [(5, 0), (6, 0)]
        assert [sorted(groups_of(one)[b"g"].consumers) for one in streams] == [
            [b"c", b"d", b"e"]
        ] * 3

    run(tmp_path, test)


def test_a_connection_that_is_made_too_late_is_closed(tmp_path: Path) -> None:
    """A connection of a link that was stopped meanwhile brings no data."""

    async def test(shard: Shard) -> None:
        server = shard["c"].server
        before = server.replica_link
        assert before is not None
        server.become_replica(before.primary)
        await in_sync(shard)
        synced = shard["a"].server.stats.sync_partial_ok + shard["a"].server.stats.sync_full
        pipe(asyncio.get_running_loop(), _Connection(before), shard["a"].accept())
        for _ in range(100):
            await asyncio.sleep(0)
        assert before.connection is None
        told = shard["a"].server.stats
        assert told.sync_partial_ok + told.sync_full == synced

    run(tmp_path, test)


def test_divergent_writes_are_dropped(tmp_path: Path) -> None:
    """Writes to an isolated primary are gone when it is back."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await a("SET", "both", 1)
        await in_sync(shard)
        shard.isolate("a")
        for number in range(10):
            await a("SET", f"lost:{number}", 1)
        admin = await shard.call("c", admin=True)
        await admin("CLUSTER", "FAILOVER", "TAKEOVER")
        await admin("SET", "new", 1)
        shard.cut.clear()
        await in_sync(shard, "redis-c")
        assert set(shard["a"].server.store.values) == {b"both", b"new"}
        assert shard["c"].server.stats.sync_full == 1

    run(tmp_path, test)


def test_offsets_of_another_history_acknowledge_nothing(tmp_path: Path) -> None:
    """WAIT counts no replica whose history was longer, before a full resync."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await a("SET", "both", 1)
        await in_sync(shard)
        shard.isolate("a")
        await a("SET", "lost", b"x" * 10_000)
        admin = await shard.call("c", admin=True)
        await admin("CLUSTER", "FAILOVER", "TAKEOVER")
        shard.cut.clear()
        await in_sync(shard, "redis-c")
        shard["a"].pause()
        c = await shard.call("c")
        await c("SET", "new", 1)
        assert await c("WAIT", 2, 100) == 1
        told = (await c("ROLE"))[2]
        assert all(int(offset) <= shard["c"].server.stream.offset for *_, offset in told)

    run(tmp_path, test)


def test_a_short_loss_of_the_link_needs_a_partial_resync(tmp_path: Path) -> None:
    """A replica gets what it has missed from the backlog."""

    async def test(shard: Shard) -> None:
        link = ("redis-b", "redis-a", "redis")
        shard.sever(link)
        a = await shard.call("a")
        await a("SET", "k", 1)
        await until(lambda: len(shard["a"].server.replicas) == 1)
        assert b"master_link_status:down" in await (await shard.call("b"))("INFO", "replication")
        shard.cut.clear()
        await in_sync(shard)
        assert shard["a"].server.stats.sync_full == 0

    run(tmp_path, test)


def test_a_backlog_that_is_too_short_needs_a_full_resync(tmp_path: Path) -> None:
    """A replica that has missed too much gets all data, of every type."""

    async def test(shard: Shard) -> None:
        shard.sever(("redis-b", "redis-a", "redis"))
        a = await shard.call("a")
        for number in range(40):
            await a("SET", f"big:{number}", b"x" * 60_000)
        await a("SET", "s", "v", "PX", 100_000)
        await a("HSET", "h", "f", "v")
        await a("RPUSH", "l", 1, 2)
        await a("SADD", "set", 1, "x")
        await a("ZADD", "z", "1.5", "m")
        await a("XADD", "x", "1-1", "f", "v")
        await a("XGROUP", "CREATE", "x", "g", "0")
        await a("XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">")
        shard.cut.clear()
        await in_sync(shard)
        assert shard["a"].server.stats.sync_full == 1
        b = await shard.call("b")
        await b("READONLY")
        assert await b("GET", "s") == b"v"
        assert 0 < await b("PTTL", "s") <= 100_000
        assert await b("HGETALL", "h") == [b"f", b"v"]
        assert await b("LRANGE", "l", 0, -1) == [b"1", b"2"]
        assert sorted(await b("SMEMBERS", "set")) == [b"1", b"x"]
        assert await b("ZRANGE", "z", 0, -1, "WITHSCORES") == [b"m", b"1.5"]
        assert await b("XLEN", "x") == 1
        assert (await b("XPENDING", "x", "g"))[0] == 1

    run(tmp_path, test, settings={"repl-backlog-size": "16384"})


def test_requests_are_served_during_a_full_resync(tmp_path: Path) -> None:
    """The primary takes writes and the replica answers LOADING; the data is the same at the end."""

    async def test(shard: Shard) -> None:
        a, b = await shard.call("a"), await shard.call("b")
        await fill(a)
        await in_sync(shard)
        rng = random.Random(6)
        writes = 0
        shard["b"].kill()
        shard["b"].start()
        b = await shard.call("b")
        await until(lambda: not shard["b"].server.loader.is_loading)  # its own file
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


def test_a_resync_whose_primary_dies(tmp_path: Path) -> None:
    """The replica replicates the next primary."""

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


def test_a_replica_that_was_cut_off_for_long_comes_back_slowly(tmp_path: Path) -> None:
    """The timeout counts from the new connection: the primary may take its time to answer."""

    async def test(shard: Shard) -> None:
        server = shard["b"].server
        link = server.replica_link
        assert link is not None
        shard.sever(("redis-b", "redis-a", "redis"))
        await until(lambda: server.clock() - link.last_heard > 1)
        shard["a"].pause()
        shard.cut.clear()
        connection = await until(lambda: link.connection)
        begun = server.clock()
        await until(lambda: server.clock() - begun > 0.3)  # it looks every 0.1 s
        assert link.connection is connection
        shard["a"].resume()
        await in_sync(shard)
        assert "MASTER timeout" not in shard["b"].logs()

    run(tmp_path, test, settings={"repl-timeout": "1"})


def test_a_snapshot_that_takes_longer_than_the_timeout(tmp_path: Path) -> None:
    """The primary sends a sign of life while it prepares the data."""

    async def test(shard: Shard) -> None:
        server, snapshots = shard["b"].server, shard["a"].server.snapshots
        link = server.replica_link
        assert link is not None
        shard.sever(("redis-b", "redis-a", "redis"))
        server.stream.id = "?"  # so that it gets all data
        take = snapshots.take
        held: list[Callable[[], None]] = []
        snapshots.take = lambda *how: held.append(partial(take, *how))  # type: ignore[method-assign]
        shard.cut.clear()
        await until(lambda: held)
        connection, begun = link.connection, server.clock()
        await until(lambda: server.clock() - begun > 2.5)
        assert link.connection is connection
        held[0]()
        await in_sync(shard)

    run(tmp_path, test, settings={"repl-timeout": "2"})


def test_no_lag_of_a_replica_that_is_not_online(tmp_path: Path) -> None:
    """INFO gives it as 0, as Redis does."""

    async def test(shard: Shard) -> None:
        admin = await shard.call("a", admin=True)
        one, other = shard["a"].server.replicas
        one.acknowledged_at -= 5
        other.acknowledged_at -= 5
        other.state = "wait_bgsave"
        told = (await admin("INFO", "replication")).decode()
        assert re.findall(r"state=(\w+),offset=-?\d+,lag=(\d+)", told) == [
            ("online", "5"),
            ("wait_bgsave", "0"),
        ]

    run(tmp_path, test)
