"""`client-output-buffer-limit`: clients that do not read."""

from pathlib import Path

import pytest

from tests.embedded.redis.shard import Caller, Shard, run, until

_LIMIT = "client-output-buffer-limit"
_MESSAGE = b"x" * 100_000


async def subscriber(shard: Shard) -> Caller:
    """Return a subscriber that has stopped reading."""
    client = await shard.call("a")
    await client("SUBSCRIBE", "news")
    client.transport.pause_reading()
    return client


async def closed(shard: Shard, client: Caller) -> None:
    """Wait until the node has closed the connection, and check that its log says why."""
    await until(lambda: "closed for overcoming of output buffer limits" in shard["a"].logs())
    client.transport.resume_reading()
    await until(lambda: client.is_lost)


def test_hard_limit_of_subscribers(tmp_path: Path) -> None:
    """A subscriber that does not read is disconnected; by default at 32 MB."""

    async def test(shard: Shard) -> None:
        client, other = await subscriber(shard), await shard.call("a")
        admin = await shard.call("a", admin=True)
        for _ in range(20):
            assert await other("PUBLISH", "news", _MESSAGE) == 1
        await admin("CONFIG", "SET", _LIMIT, "pubsub 1mb 0 0")
        await other("PUBLISH", "news", _MESSAGE)
        await closed(shard, client)
        assert await other("PUBLISH", "news", _MESSAGE) == 0

    run(tmp_path, test)


def test_soft_limit_of_subscribers(tmp_path: Path) -> None:
    """One that is over the soft limit has some time to read."""

    async def test(shard: Shard) -> None:
        other, reading = await shard.call("a"), await shard.call("a")
        await reading("SUBSCRIBE", "news")
        client = await subscriber(shard)
        begun = shard["a"].server.clock()
        await other("PUBLISH", "news", _MESSAGE)
        await closed(shard, client)
        assert shard["a"].server.clock() - begun > 1
        assert await reading.receive() == [b"message", b"news", _MESSAGE]

    run(tmp_path, test, settings={_LIMIT: "pubsub 0 64kb 1"})


@pytest.mark.parametrize("is_limited", [False, True])
def test_other_clients(tmp_path: Path, is_limited: bool) -> None:
    """They have limits only if these are set."""

    async def test(shard: Shard) -> None:
        client, other = await shard.call("a"), await shard.call("a")
        client.transport.pause_reading()
        for _ in range(50):
            client.send("ECHO", _MESSAGE)
        client.send("SET", "k", "v")
        if is_limited:
            await closed(shard, client)
            assert await other("GET", "k") is None
        else:
            while await other("GET", "k") != b"v":
                pass
            assert not client.is_lost

    run(tmp_path, test, settings={_LIMIT: "normal 1mb 0 0"} if is_limited else {})
