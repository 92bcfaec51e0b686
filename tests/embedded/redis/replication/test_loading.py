"""Loading: the node answers LOADING, and loses nothing."""

from pathlib import Path

import pytest

from tests.embedded.redis.shard import MANY, ReplyError, Shard, fill, in_sync, loaded, run, until


def test_a_node_that_loads(tmp_path: Path) -> None:
    """It answers LOADING, except to commands that need no data; other nodes answer as usual."""

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
        assert await a("DBSIZE") == MANY
        assert b"\r\nloading:0\r\n" in await a("INFO", "persistence")

    run(tmp_path, test)


def test_a_node_killed_while_it_loads_loses_nothing(tmp_path: Path) -> None:
    """Its file is unchanged."""

    async def test(shard: Shard) -> None:
        await fill(await shard.call("a"))
        shard["a"].kill()
        shard["a"].start()
        shard["a"].kill()
        shard["a"].start()
        await loaded(shard)
        assert len(shard["a"].server.store) == MANY

    run(tmp_path, test)


def test_keys_of_a_node_that_loads(tmp_path: Path) -> None:
    """From its start until it has loaded its file the cluster is down for it, as with Redis."""

    async def test(shard: Shard) -> None:
        await fill(await shard.call("a"))
        await in_sync(shard)
        shard["b"].kill()
        shard["b"].start()
        b, loader = await shard.call("b"), shard["b"].server.loader
        await b("READONLY")
        with pytest.raises(ReplyError, match="CLUSTERDOWN The cluster is down"):
            await b("GET", "k:0")
        assert loader.is_loading
        await until(lambda: not loader.is_loading)
        assert shard["b"].server.gossip.is_ok
        await in_sync(shard)
        assert await b("GET", "k:0") == b"v" * 100

    run(tmp_path, test)
