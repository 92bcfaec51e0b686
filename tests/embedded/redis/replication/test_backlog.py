"""The replication stream."""

from pathlib import Path

from tests.embedded.redis.shard import Shard, in_sync, run


def test_offsets_count_the_bytes_of_requests(tmp_path: Path) -> None:
    """A SET moves the offset by the length of its request, as in Redis."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await a("SET", "first", 1)
        before = shard["a"].server.stream.offset
        await a("SET", "split:0", 1)
        await a("SET", "split:0", 1, "NX")  # changes nothing
        assert shard["a"].server.stream.offset - before == 33

    run(tmp_path, test)


def test_random_and_timed_commands_replicate_their_effects(tmp_path: Path) -> None:
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
