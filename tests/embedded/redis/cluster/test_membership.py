"""Role changes by CLUSTER commands, and what the nodes log of them."""

from pathlib import Path

import pytest

from tests.embedded.redis.shard import Caller, ReplyError, Shard, in_sync, run, until


def test_takeover(tmp_path: Path) -> None:
    """A replica takes over; the others resync partially, and the old primary replicates it."""

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
    """CLUSTER REPLICATE takes a replica and a primary, and refuses everything else."""

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


def test_a_demoted_primary_logs_its_offset(tmp_path: Path) -> None:
    """A primary that its peers have demoted logs its history and the offset of the next byte."""

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


def test_a_replica_without_data(tmp_path: Path) -> None:
    """Until a restarted replica has its primary's data, CLUSTER SLOTS leaves it out."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        await a("SET", "k", "v")
        await in_sync(shard)
        shard.cut.add(("redis-b", "redis-a", "redis"))
        shard["b"].kill()
        shard["b"].start()
        b, id_ = await shard.call("b"), shard.addresses["redis-b"].id

        async def listed(client: Caller) -> set[int]:
            return {node[1] for node in (await client("CLUSTER", "SLOTS"))[0][2:]}

        tables = [shard[zone].server.nodes for zone in "ac"]
        await until(lambda: not any(it.members[id_].is_synced for it in tables))
        for client in (a, b, await shard.call("c")):
            assert await listed(client) == {7000, 7002}
        assert b"loading" in (await a("CLUSTER", "SHARDS"))[0][3][1]
        shard.cut.clear()
        await in_sync(shard)
        await until(lambda: shard["a"].server.nodes.members[id_].is_synced)
        for client in (a, b):
            assert await listed(client) == {7000, 7001, 7002}
        assert b"loading" not in (await a("CLUSTER", "SHARDS"))[0][3][1]

    run(tmp_path, test)
