"""A node's process: paused, killed, shut down."""

import asyncio
from pathlib import Path

import pytest

from cachesim.aio.pipe import pipe
from tests.embedded.redis.shard import (
    Caller,
    Shard,
    run,
    until,
)


@pytest.mark.parametrize("end", ["kill", "shut_down"])
def test_a_connection_to_a_process_that_ends_meanwhile(tmp_path: Path, end: str) -> None:
    """A connection that is opened when the process has just ended is reset, not answered."""

    async def test(shard: Shard) -> None:
        accepted, caller = shard["c"].accept_from_listener(), Caller()
        getattr(shard["c"], end)()
        pipe(asyncio.get_running_loop(), caller, accepted)
        caller.send("PING")
        await until(lambda: caller.is_lost)
        assert caller.buffer == b""

    run(tmp_path, test)


def test_a_paused_node_answers_nothing(tmp_path: Path) -> None:
    """Neither old connections nor new ones are answered before the node is resumed."""

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


def test_a_pause_amid_a_pipeline_loses_nothing(tmp_path: Path) -> None:
    """Requests that wait for their turn are run after the pause, before the connection's end."""
    many = 5000

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        a.transport.write(b"INCR n\r\n" * many)
        a.transport.write_eof()
        await until(lambda: a.buffer)
        shard["a"].pause()
        so_far = a.buffer.count(b":")
        for _ in range(20):
            await asyncio.sleep(0)
        shard["a"].resume()
        await until(lambda: a.is_lost)
        assert 0 < so_far < a.buffer.count(b":") == many

    run(tmp_path, test)


def test_shut_down_waits_for_replicas(tmp_path: Path) -> None:
    """Writes wait until the replicas have caught up; what was answered before is not lost."""

    async def test(shard: Shard) -> None:
        a, writer = await shard.call("a"), await shard.call("a")
        shard["b"].pause()
        assert await a("SET", "k", "v") == "OK"
        ending = asyncio.create_task(shard["a"].shut_down_in_sync())
        await until(lambda: "Waiting for replicas" in shard["a"].logs())
        writer.send("SET", "k", "late")
        assert await a("GET", "k") == b"v"
        assert not writer.buffer
        shard["b"].resume()
        await ending
        assert not shard["a"].is_running
        assert shard["b"].server.store.values[b"k"] == shard["c"].server.store.values[b"k"] == b"v"
        assert "2 of 2 replicas are in sync when shutting down." in shard["a"].logs()

    run(tmp_path, test)


@pytest.mark.parametrize("end", ["too late", "killed"])
def test_shut_down_without_replicas_that_answer(tmp_path: Path, end: str) -> None:
    """They are not waited for longer than `shutdown-timeout`, nor if the process ends before."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        shard["b"].pause()
        await a("SET", "k", "v")
        ending = asyncio.create_task(shard["a"].shut_down_in_sync())
        await until(lambda: "Waiting for replicas" in shard["a"].logs())
        if end == "killed":
            shard["a"].kill()
            shard["a"].start()
        await ending
        assert shard["a"].is_running is (end == "killed")

    run(tmp_path, test, settings={"shutdown-timeout": "1"})
