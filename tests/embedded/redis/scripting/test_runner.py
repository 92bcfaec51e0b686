"""Scripts that take long: their node answers BUSY, as a real one, and all other nodes go on."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.embedded.redis.shard import Caller, ReplyError, Shard, until

ENDLESS = "while true do end"
BUSY = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
QUICK = {"busy-reply-threshold": "50"}


async def error_of(client: Caller, *words: str | bytes | int) -> str:
    """Return the error that a request is answered with."""
    with pytest.raises(ReplyError) as refused:
        await client(*words)
    return str(refused.value)


async def busy(shard: Shard, script: str = ENDLESS) -> tuple[Caller, Caller]:
    """Return a client that has sent an endless script, and another one that was answered BUSY."""
    sender, other = await shard.call("a"), await shard.call("a")
    await sender("EVAL", "return 1", 0)  # starts the process
    sender.send("EVAL", script, 1, "k")
    assert await error_of(other, "GET", "k") == BUSY
    return sender, other


async def with_shard(folder: Path, main: Any, **options: Any) -> None:
    """Run a test with a shard that soon answers BUSY."""
    async with Shard(folder, settings=QUICK, **options) as shard:
        await main(shard)


@pytest.mark.parametrize(
    "script",
    [
        ENDLESS,
        "while true do pcall(function() while true do end end) end",
        "xpcall(function() while true do end end, function() while true do end end)",
        "return xpcall(function() error() end, function() while true do end end)",
        "string.find(string.rep('a', 3000), string.rep('.-', 6) .. 'b')",
        "while true do redis.call('GET', KEYS[1]) end",
        "while true do redis.log(redis.LOG_WARNING, 'again') end",
        "return setmetatable({}, {__index = function() while true do end end}).x",
        "return tostring(setmetatable({}, {__tostring = function() while true do end end}))",
    ],
)
def test_it_is_killed(tmp_path: Path, script: str) -> None:
    """SCRIPT KILL ends a script whatever it is doing; other nodes answer all the time."""

    async def main(shard: Shard) -> None:
        witness = await shard.call("b")
        sender, other = await busy(shard, script)
        for _ in range(20):
            assert await witness("PING") == "PONG"
        assert await other("SCRIPT", "KILL") == "OK"
        with pytest.raises(ReplyError, match=r"Script killed by user with SCRIPT KILL\.\.\. scri"):
            await sender.receive()
        assert await other("EVAL", "return 1", 0) == 1

    asyncio.run(with_shard(tmp_path, main))


def test_requests_during_a_slow_script(tmp_path: Path) -> None:
    """Other clients get the answers that Redis 7.0 gives while a script runs."""

    async def main(shard: Shard) -> None:
        _, other = await busy(shard)
        for words in (("PING",), ("EVAL", "return 1", 0), ("INFO",), ("FUNCTION", "STATS")):
            assert await error_of(other, *words) == BUSY
        assert await error_of(other, "FUNCTION", "KILL") == BUSY
        assert await other("WATCH", "k") == "OK"
        assert (await other("HELLO", 2))[1] == b"redis"
        assert await other("MULTI") == "OK"
        assert await error_of(other, "GET", "k") == BUSY
        assert "EXECABORT" in await error_of(other, "EXEC")
        assert "unknown command" in await error_of(other, "FOO")
        assert await other("SCRIPT", "KILL") == "OK"
        assert "NOTBUSY" in await error_of(other, "SCRIPT", "KILL")

    asyncio.run(with_shard(tmp_path, main))


def test_a_slow_function(tmp_path: Path) -> None:
    """FUNCTION STATS shows it, and FUNCTION KILL kills it."""

    async def main(shard: Shard) -> None:
        sender, other = await shard.call("a"), await shard.call("a")
        code = "#!lua name=l\nredis.register_function('f', function() while true do end end)"
        await sender("FUNCTION", "LOAD", code)
        sender.send("FCALL", "f", 0)
        busy = BUSY.replace("SCRIPT KILL", "FUNCTION KILL")
        assert await error_of(other, "GET", "k") == busy
        assert await error_of(other, "SCRIPT", "KILL") == busy
        stats = await other("FUNCTION", "STATS")
        assert stats[1][:4] == [b"name", b"f", b"command", [b"FCALL", b"f", b"0"]]
        assert await other("FUNCTION", "KILL") == "OK"
        with pytest.raises(ReplyError, match=r"killed.*script: f, on @user_function"):
            await sender.receive()

    asyncio.run(with_shard(tmp_path, main))


def test_after_a_write(tmp_path: Path) -> None:
    """A script that has written can't be killed; it ends with its node, and its writes are lost."""

    async def main(shard: Shard) -> None:
        _, other = await busy(shard, "redis.call('SET', KEYS[1], 'v') while true do end")
        assert "UNKILLABLE" in await error_of(other, "SCRIPT", "KILL")
        shard["a"].kill()
        shard["a"].start()
        client = await shard.call("a")
        await until(lambda: shard["a"].server.gossip.is_ok)
        assert await client("GET", "k") is None
        assert await client("EVAL", "return 1", 0) == 1

    asyncio.run(with_shard(tmp_path, main))


def test_others_wait_before_it_is_slow(tmp_path: Path) -> None:
    """Other clients see a script as one step."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            sender, other = await shard.call("a"), await shard.call("a")
            script = "for i = 1, 300 do redis.call('INCR', KEYS[1]) end return 7"
            await sender("EVAL", "return 1", 0)
            sender.send("EVAL", script, 1, "k")
            sender.send("GET", "k")
            await until(lambda: shard["a"].server.store.values.get(b"k"))
            assert shard["a"].server.script_runner.running is not None
            assert await other("GET", "k") == b"300"
            assert await sender.receive() == 7
            assert await sender.receive() == b"300"

    asyncio.run(main())


async def asked_meanwhile(shard: Shard, script: str) -> Any:
    """Return the answer to a script of 0.2 s, during which another client sends requests."""
    sender, other = await shard.call("a"), await shard.call("a")
    await sender("EVAL", "return 1", 0)
    sender.send("EVAL", script.replace("WAIT", "for _ = 1, 2e7 do end"), 1, "k")
    answer = asyncio.ensure_future(sender.receive())
    while not answer.done():
        with suppress(ReplyError):
            await other("PING")
        await asyncio.sleep(0.001)
    return answer.result()


def test_no_blocked_client_is_served_in_between(tmp_path: Path) -> None:
    """A client that waits for a key sees what a script has left there, and nothing before."""

    async def main(shard: Shard) -> None:
        waiting, other = await shard.call("a"), await shard.call("a")
        waiting.send("BLPOP", "k", 0)
        await until(lambda: shard["a"].server.blocked_clients.everyone)
        script = "redis.call('LPUSH', KEYS[1], 'x') WAIT return redis.call('LPOP', KEYS[1])"
        assert await asked_meanwhile(shard, script) == b"x"
        await other("LPUSH", "k", "y")
        assert await waiting.receive() == [b"k", b"y"]

    asyncio.run(with_shard(tmp_path, main))


def test_time_stands_still(tmp_path: Path) -> None:
    """No key expires during a script."""

    async def main(shard: Shard) -> None:
        script = """
            redis.call('SET', KEYS[1], 'v', 'PX', 5) WAIT return redis.call('GET', KEYS[1])
        """
        assert await asked_meanwhile(shard, script) == b"v"
        client = await shard.call("a")
        assert await client("GET", "k") is None

    asyncio.run(with_shard(tmp_path, main))


def test_in_a_transaction(tmp_path: Path) -> None:
    """EXEC goes on after each script, and no other client is served in between."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            sender, other = await shard.call("a"), await shard.call("a")
            slow = "for i = 1, 50 do redis.call('INCR', KEYS[1]) end return redis.call('GET', 'k')"
            for words in (
                ("MULTI",), ("SET", "k", 1), ("EVAL", slow, 1, "k"), ("INCR", "k"),
                ("SCRIPT", "LOAD", "return 5"), ("EVAL", "return redis.call('X')", 0),
                ("EVAL", slow, 1, "k"), ("EXEC",),
            ):  # fmt: skip
                sender.send(*words)
            await until(lambda: shard["a"].server.script_runner.running)
            assert await other("INCR", "k") == 103
            for _ in range(7):
                await sender.receive()
            answers = await sender.receive()
            assert answers[:3] == ["OK", b"51", 52]
            assert "Unknown Redis command" in str(answers[4])
            assert answers[5] == b"102"
            await until(lambda: shard.follows("redis-b", "redis-a"))
            assert shard["b"].server.store.values[b"k"] == b"103"

    asyncio.run(main())


def test_a_client_that_disconnects(tmp_path: Path) -> None:
    """Its script runs to the end, and its writes are kept."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            sender, other = await shard.call("a"), await shard.call("a")
            sender.send("EVAL", "for i = 1, 200 do redis.call('INCR', KEYS[1]) end", 1, "k")
            await until(lambda: shard["a"].server.store.values.get(b"k"))
            sender.transport.abort()
            assert await other("GET", "k") == b"200"

    asyncio.run(main())


def test_a_paused_node(tmp_path: Path) -> None:
    """Its script stops until the node is resumed."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            sender = await shard.call("a")
            await sender("EVAL", "return 1", 0)
            sender.send("EVAL", "for i = 1, 200 do redis.call('INCR', KEYS[1]) end", 1, "k")
            items = shard["a"].server.store.values
            await until(lambda: b"k" in items)
            shard["a"].pause()
            before = items[b"k"]
            witness = await shard.call("b")
            for _ in range(2000):
                await witness("PING")
            assert items[b"k"] == before
            shard["a"].resume()
            assert await sender.receive() is None
            assert items[b"k"] == b"200"

    asyncio.run(main())


def test_a_replica(tmp_path: Path) -> None:
    """Writes of the primary wait until the script has ended."""

    async def main(shard: Shard) -> None:
        writer = await shard.call("a")
        sender, other = await shard.call("b"), await shard.call("b")
        sender.send("EVAL", ENDLESS, 0)
        assert await error_of(other, "PING") == BUSY
        await writer("SET", "k", "v")
        assert await writer("WAIT", 1, 5000) >= 1
        assert b"k" not in shard["b"].server.store.values
        assert await other("SCRIPT", "KILL") == "OK"
        await until(lambda: b"k" in shard["b"].server.store.values)

    asyncio.run(with_shard(tmp_path, main))


def test_functions_in_a_transaction(tmp_path: Path) -> None:
    """A library is loaded, called, and replicated."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            client = await shard.call("a")
            code = (
                "#!lua name=l\nredis.register_function('f', "
                "function(keys) return redis.call('INCR', keys[1]) end)"
            )
            for words in (
                ("MULTI",), ("FUNCTION", "LOAD", code), ("FCALL", "f", 1, "k"),
                ("FUNCTION", "LIST"), ("FUNCTION", "DELETE", "l"), ("FCALL", "f", 1, "k"),
                ("FUNCTION", "LOAD", code),
            ):  # fmt: skip
                await client(*words)
            answers = await client("EXEC")
            assert answers[:2] == [b"l", 1]
            assert "Function not found" in str(answers[4])
            assert answers[5] == b"l"
            await until(lambda: shard.follows("redis-b", "redis-a"))
            replica = await shard.call("b")
            assert len(await replica("FUNCTION", "LIST")) == 1

    asyncio.run(main())


def test_a_failover_meanwhile(tmp_path: Path) -> None:
    """A primary that has lost its role becomes a replica when its script has ended."""

    async def main(shard: Shard) -> None:
        _, other = await busy(shard, "while true do redis.call('GET', KEYS[1]) end")
        admin = await shard.call("b", admin=True)
        await admin("CLUSTER", "FAILOVER", "TAKEOVER")
        await until(lambda: not shard["a"].server.nodes.me.is_primary)
        assert not shard["a"].server.is_replica
        assert await other("SCRIPT", "KILL") == "OK"
        await until(lambda: shard.follows("redis-a", "redis-b"))

    asyncio.run(with_shard(tmp_path, main))


def test_no_process_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what was tried, and the next script starts a process again."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            client = await shard.call("a")
            for broken in (str(tmp_path / "nothing"), "/bin/false"):
                monkeypatch.setattr(sys, "executable", broken)
                told = await error_of(client, "EVAL", "return 1", 0)
                assert "the process for scripts can't be started" in told
                assert broken in told
            monkeypatch.undo()
            assert await client("EVAL", "return 1", 0) == 1

    asyncio.run(main())


def test_client_reply(tmp_path: Path) -> None:
    """CLIENT REPLY applies to scripts too."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            client = await shard.call("a")
            client.send("CLIENT", "REPLY", "SKIP")
            client.send("EVAL", "return 1", 0)
            assert await client("EVAL", "return 2", 0) == 2

    asyncio.run(main())
