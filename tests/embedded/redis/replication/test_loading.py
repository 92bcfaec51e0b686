"""Loading: the node answers LOADING, and loses nothing."""

from pathlib import Path

import pytest

from tests.embedded.redis.shard import MANY, ReplyError, Shard, fill, loaded, run


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
