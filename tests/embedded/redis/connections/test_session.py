"""Connections: authentication, long pipelines, large values."""

import asyncio
import random
from pathlib import Path

import pytest

from cachesim.aio.pipe import pipe
from cachesim.protocols.resp import request
from tests.embedded.redis.shard import (
    MANY,
    Caller,
    ReplyError,
    Shard,
    data,
    in_sync,
    loaded,
    run,
    until,
)


def test_access(tmp_path: Path) -> None:
    """Clients may do little before AUTH, and then what the ACL allows."""

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
        with pytest.raises(
            ReplyError, match=r"ERR unknown command 'CONFIG', with args beginning with: 'GET' '\*' "
        ):
            await stranger("CONFIG", "GET", "*")
        with pytest.raises(ReplyError, match="ERR unknown subcommand 'FAILOVER'"):
            await stranger("CLUSTER", "FAILOVER")
        admin = await shard.call("a", admin=True)
        await admin("ACL", "SETUSER", "default", "+config|get")
        assert await stranger("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]

    run(tmp_path, test)


def test_a_long_pipeline_is_served_in_turns(tmp_path: Path) -> None:
    """Another client is answered before it has ended, and its own replies are in order."""

    async def test(shard: Shard) -> None:
        long, short = await shard.call("a"), await shard.call("a")
        long.transport.write(request([b"INCR", b"n"]) * MANY)
        assert await short("PING") == "PONG"
        assert long.buffer.count(b"\n") < MANY / 2
        replies = b"".join(b":%d\r\n" % n for n in range(1, MANY + 1))
        await until(lambda: len(long.buffer) == len(replies))
        assert long.buffer == replies

    run(tmp_path, test)


def test_a_pipeline_is_read_whatever_its_replies_take(tmp_path: Path) -> None:
    """A client may send a long pipeline before it reads any reply."""
    megabyte, many = 1 << 20, 40

    async def test(shard: Shard) -> None:
        client = await shard.call("a")
        client.transport.pause_reading()
        for _ in range(many):
            client.send("ECHO", b"x" * megabyte)
        await until(lambda: client.transport.get_write_buffer_size() == 0)
        client.transport.resume_reading()
        whole = many * len(b"$%d\r\n%b\r\n" % (megabyte, b"x" * megabyte))
        await until(lambda: len(client.buffer) == whole)

    run(tmp_path, test)


@pytest.mark.parametrize("is_silent", [False, True])
def test_requests_before_the_end_are_run(tmp_path: Path, is_silent: bool) -> None:
    """What a client has sent before it closes is run, also by a node without processor time."""

    async def test(shard: Shard) -> None:
        shard["a"].limit_cpu(0.01)
        client, other = await shard.call("a"), await shard.call("a", admin=True)
        if is_silent:
            client.send("CLIENT", "REPLY", "OFF")
        for _ in range(20):
            client.send("INCR", "n")
        client.transport.write_eof()
        await until(lambda: client.is_lost)
        assert client.buffer == (
            b"" if is_silent else b"".join(b":%d\r\n" % n for n in range(1, 21))
        )
        assert await other("GET", "n") == b"20"

    run(tmp_path, test)


def test_requests_after_a_script_are_run_though_the_client_has_closed(tmp_path: Path) -> None:
    """The end of a connection is not noticed while a script runs."""

    async def test(shard: Shard) -> None:
        client, other = await shard.call("a"), await shard.call("a")
        client.send("EVAL", "return redis.call('INCR', KEYS[1])", 1, "n")
        client.send("INCR", "n")
        client.transport.write_eof()
        other.send("INCR", "m")
        other.transport.write_eof()
        await until(lambda: client.is_lost and other.is_lost)
        assert (client.buffer, other.buffer) == (b":1\r\n:2\r\n", b":1\r\n")

    run(tmp_path, test)


@pytest.mark.parametrize("wait", [("BLPOP", "none", 0), ("SET", "n", 1)])
def test_a_client_that_closes_while_it_waits(tmp_path: Path, wait: tuple[str, ...]) -> None:
    """A request that waits for a key or for the end of CLIENT PAUSE is forgotten."""

    async def test(shard: Shard) -> None:
        client, admin = await shard.call("a"), await shard.call("a", admin=True)
        await admin("CLIENT", "PAUSE", 100_000, "WRITE")
        client.send(*wait)
        client.transport.write_eof()
        await until(lambda: client.is_lost)
        await admin("CLIENT", "UNPAUSE")
        assert await admin("EXISTS", "n") == 0

    run(tmp_path, test)


def test_a_large_value_passes(tmp_path: Path) -> None:
    """A value of many megabytes is stored, read, replicated, and written to the file."""

    async def test(shard: Shard) -> None:
        a = await shard.call("a")
        value = random.Random(7).randbytes(10 << 20)
        assert await a("SET", "k", value) == "OK"
        assert await a("GET", "k") == value
        await in_sync(shard)
        assert data(shard, "b") == {b"k": (value, None)}
        shard["a"].kill()
        shard["a"].start()
        await loaded(shard)
        assert shard["a"].server.store.values[b"k"] == value

    run(tmp_path, test)
