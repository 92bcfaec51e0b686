"""The cluster bus."""

from pathlib import Path

from tests.embedded.redis.shard import Shard, run, until


def test_publish_over_the_bus(tmp_path: Path) -> None:
    """Messages reach the subscribers of other nodes over bus links, unless these are cut."""

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
