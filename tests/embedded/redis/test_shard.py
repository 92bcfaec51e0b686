"""A shard of embedded nodes: replication, takeovers, the cluster bus, the append-only file."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cachesim.aio.pipe import pipe
from cachesim.embedded.redis.cluster.slots import slot_of
from cachesim.embedded.redis.replication.aof import _length
from cachesim.embedded.redis.replication.replica import _Connection
from cachesim.protocols.resp import request
from tests.embedded.redis.shard import NAMES, Caller, ReplyError, Shard, until

Test = Callable[[Shard], Awaitable[None]]


def run(folder: Path, test: Test, **options: Any) -> None:
    """Run a test against a shard of its own."""

    async def main() -> None:
        async with Shard(folder, **options) as shard:
            await test(shard)

    asyncio.run(main())


async def in_sync(shard: Shard, primary: str = "redis-a") -> None:
    """Wait until all others follow a primary without a lag."""
    await until(lambda: all(shard.follows(n, primary) for n in NAMES if n != primary))


async def loaded(shard: Shard) -> None:
    """Wait until the first node has loaded its file."""
    await until(lambda: not shard["a"].server.loader.is_loading)


def test_replicas_follow(tmp_path: Path) -> None:
    """Writes reach the replicas, whose readers need READONLY; WAIT counts them."""

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


def test_a_set_takes_its_own_bytes_of_the_stream(tmp_path: Path) -> None:
    """Offsets count the bytes of requests, as Redis has them."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await a("SET", "first", 1)
        before = shard["a"].server.stream.offset
        await a("SET", "split:0", 1)
        await a("SET", "split:0", 1, "NX")  # changes nothing
        assert shard["a"].server.stream.offset - before == 33

    run(tmp_path, test)


def test_takeover(tmp_path: Path) -> None:
    """A replica takes over, the others go on from where they were, the old primary follows."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await a("SET", "k", "v")
        await in_sync(shard)
        shard["a"].kill()
        with pytest.raises(ConnectionResetError):
            await a("GET", "k")
        with pytest.raises(ConnectionRefusedError):
            shard["a"].accept()
        admin = await shard.call("b", admin=True)
        assert await admin("CLUSTER", "FAILOVER", "TAKEOVER") == "OK"
        assert await admin("SET", "k", "w") == "OK"
        await until(lambda: shard.follows("redis-c", "redis-b"))
        assert shard["b"].server.stats.sync_partial_ok == 1
        shard["a"].start()
        await in_sync(shard, "redis-b")
        old = await shard.call("a")
        await old("READONLY")
        assert await old("GET", "k") == b"w"
        assert (await old("ROLE"))[0] == b"slave"

    run(tmp_path, test)


def test_replicate(tmp_path: Path) -> None:
    """CLUSTER REPLICATE makes a replica follow a primary, and nothing else follow anything."""

    async def test(shard: Shard) -> None:
        ids = [address.id for address in shard.addresses.values()]
        b = await shard.call("b", admin=True)
        a = await shard.call("a", admin=True)
        with pytest.raises(ReplyError, match="I can only replicate a master, not a replica"):
            await b("CLUSTER", "REPLICATE", ids[2])
        with pytest.raises(ReplyError, match="Can't replicate myself"):
            await b("CLUSTER", "REPLICATE", ids[1])
        with pytest.raises(ReplyError, match="Unknown node"):
            await b("CLUSTER", "REPLICATE", "0" * 40)
        shard["a"].server.nodes.members[ids[1]].primary = None
        with pytest.raises(ReplyError, match="must be empty and without assigned slots"):
            await a("CLUSTER", "REPLICATE", ids[1])
        shard["a"].server.nodes.members[ids[1]].primary = ids[0]
        shard["b"].server.nodes.me.primary = ids[2]
        assert await b("CLUSTER", "REPLICATE", ids[0]) == "OK"
        await in_sync(shard)

    run(tmp_path, test)


def test_demoted_primary_says_how_far_it_came(tmp_path: Path) -> None:
    """The log of one that was told by its peers has the history and the next byte's offset."""

    async def test(shard: Shard) -> None:
        a, b = await shard.call("a"), await shard.call("b", admin=True)
        shard.isolate("a")
        assert await a("SET", "only", "here") == "OK"
        history, offset = shard["a"].server.stream.id, shard["a"].server.stream.offset
        await b("CLUSTER", "FAILOVER", "TAKEOVER")
        shard.cut.clear()
        await in_sync(shard, "redis-b")
        assert f"request {history}:{offset + 1})" in shard["a"].logs()
        assert shard["b"].server.stream.former_id == history

    run(tmp_path, test)


@pytest.mark.parametrize("end", ["kill", "shut_down"])
def test_no_connection_to_a_process_that_ended_meanwhile(tmp_path: Path, end: str) -> None:
    """A connection that is made when the process has just ended is reset, not answered."""

    async def test(shard: Shard) -> None:
        accepted, caller = shard["c"].accept_from_listener(), Caller()
        getattr(shard["c"], end)()
        pipe(asyncio.get_running_loop(), caller, accepted)
        caller.send("PING")
        await until(lambda: caller.is_lost)
        assert caller.buffer == b""

    run(tmp_path, test)


def test_link_that_comes_too_late_is_not_followed(tmp_path: Path) -> None:
    """A connection to a former primary, made after another one was chosen, brings nothing."""

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
    """What an isolated primary took is gone when it is back."""

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


def test_short_loss_of_the_link_is_a_partial_resync(tmp_path: Path) -> None:
    """A replica goes on from the backlog."""

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


def test_backlog_that_is_too_short_is_a_full_resync(tmp_path: Path) -> None:
    """A replica that missed too much gets everything, of every type."""

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


def test_random_and_timed_commands_replicate_what_they_did(tmp_path: Path) -> None:
    """SPOP, INCRBYFLOAT, expiries, XADD * and transactions give replicas the same data."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await a("SADD", "{t}s", *range(50))
        for _ in range(20):
            await a("SPOP", "{t}s")
        await a("SPOP", "{t}s", 5)
        await a("INCRBYFLOAT", "{t}f", "1.1")
        await a("XADD", "{t}x", "*", "f", "v")
        await a("MULTI")
        await a("SET", "{t}a", 1)
        await a("SETEX", "{t}b", 100, 2)
        await a("EXEC")
        await a("LPUSH", "{t}l", 1, 2, 3)
        await a("LMPOP", 1, "{t}l", "LEFT", "COUNT", 2)
        await in_sync(shard)
        for zone in "bc":
            here, there = shard["a"].server.store, shard[zone].server.store
            assert here.values.keys() == there.values.keys()
            assert set(here.values[b"{t}s"]) == set(there.values[b"{t}s"])
            for key in (b"{t}f", b"{t}l", b"{t}b"):
                assert here.values[key] == there.values[key]
                assert here.expiries.get(key) == there.expiries.get(key)
            assert list(here.values[b"{t}x"]) == list(there.values[b"{t}x"])

    run(tmp_path, test)


def test_expiry_is_the_primarys_business(tmp_path: Path) -> None:
    """A replica hides what has expired and deletes it when it is told to."""

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


def test_fence(tmp_path: Path) -> None:
    """min-replicas-to-write refuses writes, and only these."""

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


def test_publish_over_the_bus(tmp_path: Path) -> None:
    """Messages reach listeners at other nodes over bus links, and not where these are cut."""

    async def test(shard: Shard) -> None:
        listeners = [await shard.call(zone) for zone in "abc"]
        for listener in listeners:
            assert await listener("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
        a = await shard.call("a")
        assert await a("PUBLISH", "news", "1") == 1
        for listener in listeners:
            assert await listener.receive() == [b"message", b"news", b"1"]
        shard.sever(("redis-a", "redis-b", "bus"))
        await until(lambda: len(shard["a"].server.bus.outbound) == 1)
        await a("PUBLISH", "news", "2")
        assert (await listeners[2].receive())[2] == b"2"
        shard.cut.clear()
        await until(lambda: len(shard["a"].server.bus.outbound) == 2)
        await a("PUBLISH", "news", "3")
        assert (await listeners[1].receive())[2] == b"3"

    run(tmp_path, test)


def test_pause_holds_everything(tmp_path: Path) -> None:
    """A frozen node answers nothing, old connections or new, and goes on where it was."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        shard["a"].pause()
        a.send("SET", "k", 1)
        late = asyncio.create_task(shard.call("a"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert a.buffer == b""
        assert not late.done()
        assert shard["a"].is_paused
        shard["a"].resume()
        assert await a.receive() == "OK"
        assert await (await late)("GET", "k") == b"1"

    run(tmp_path, test)


@pytest.mark.parametrize("orderly", [False, True])
def test_restart_replays_the_file(tmp_path: Path, *, orderly: bool) -> None:
    """A killed or stopped node loses nothing that it has answered."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        for number in range(100):
            await a("SET", f"k:{number}", number)
        await a("DEL", "k:0")
        (shard["a"].shut_down if orderly else shard["a"].kill)()
        shard["a"].start()
        await loaded(shard)
        assert len(shard["a"].server.store) == 99
        assert not shard["a"].server.is_replica

    run(tmp_path, test)


def test_loss_of_power_cuts_the_file(tmp_path: Path) -> None:
    """A file that is cut back in the middle of a request loses what follows, and no more."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        for number in range(10):
            await a("SET", f"k:{number}", number)
        shard["a"].server.stream.flush()
        size = shard["a"].server.aof.size
        assert f"aof_current_size:{size}".encode() in await a("INFO", "persistence")
        last = len(request([b"SET", b"k:9", b"9"]))
        shard["a"].kill()
        shard["a"].truncate_aof(size - last - 3)
        shard["a"].start()
        await loaded(shard)
        assert sorted(shard["a"].server.store.values) == [b"k:%d" % n for n in range(8)]
        assert "Truncating the AOF" in shard["a"].logs()
        await in_sync(shard)
        assert len(shard["b"].server.store) == 8

    run(tmp_path, test)


def test_transaction_in_the_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """A transaction whose end is lost is lost."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await a("SET", "{t}a", 0)
        for words in (("MULTI",), ("SET", "{t}a", 1), ("SET", "{t}b", 1), ("EXEC",)):
            await a(*words)
        shard["a"].server.stream.flush()
        size = shard["a"].server.aof.size
        shard["a"].kill()
        shard["a"].truncate_aof(size - 1)
        shard["a"].start()
        await loaded(shard)
        assert shard["a"].server.store.values == {b"{t}a": b"0"}

    run(tmp_path, test)


def test_file_is_rewritten(tmp_path: Path) -> None:
    """A rewritten file has the data, and what follows."""

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


def test_a_full_node_refuses_what_takes_memory(tmp_path: Path) -> None:
    """With noeviction: OOM by the command's flag, and room again after a deletion."""

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


def test_access(tmp_path: Path) -> None:
    """Who may do what: before AUTH, by the ACL."""

    async def test(shard: Shard) -> None:
        stranger = Caller()
        pipe(asyncio.get_running_loop(), stranger, shard["a"].accept())
        for words, error in (
            (("GET", "k"), "NOAUTH"),
            (("HELLO", "3"), "NOAUTH HELLO"),
            (("AUTH", "x"), "WRONGPASS"),
            (("HELLO", "3", "AUTH", "default", "x"), "WRONGPASS"),
        ):
            with pytest.raises(ReplyError, match=error):
                await stranger(*words)
        assert await stranger("AUTH", "t" * 32) == "OK"
        assert await stranger("PING") == "PONG"
        with pytest.raises(ReplyError, match=r"NOPERM .* 'config\|get'"):
            await stranger("CONFIG", "GET", "*")
        with pytest.raises(ReplyError, match=r"NOPERM .* 'cluster\|failover'"):
            await stranger("CLUSTER", "FAILOVER")
        admin = await shard.call("a", admin=True)
        await admin("ACL", "SETUSER", "default", "+config|get")
        assert await stranger("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]

    run(tmp_path, test)


def test_length_of_a_request() -> None:
    """What the loader counts is what is in the file."""
    for words in ([b"PING"], [b"SET", b"k", b"x" * 1000], [b""] * 12):
        assert _length(words) == len(request(words))
