"""Lua scripts: what they give, what they reach, and how they end."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.embedded.redis.shard import ReplyError, Shard, until


def evaluate(folder: Path, script: str, *keys: str, resp: int = 2) -> Any:
    """What a script gives on a node of its own, or its error as text."""

    async def main() -> Any:
        async with Shard(folder) as shard:
            client = await shard.call("a", resp=resp)
            try:
                return await client("EVAL", script, len(keys), *keys)
            except ReplyError as error:
                return str(error)
            finally:
                assert await client("EVAL", "return 1", 0) == 1

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("return {1, 2.9, 'a', true, false, nil, 5}", [1, 2, b"a", 1, None]),
        ("return redis.call('SET', KEYS[1], 'v').ok", b"OK"),
        ("return redis.pcall('INCR', KEYS[1], 1).err ~= nil", 1),
        ("return cjson.encode(cjson.decode('[1,{\"a\":null}]'))", b'[1,{"a":null}]'),
        ("return bit.band(7, 3)", 3),
        ("return {double=3.5}", b"3.5"),
    ],
)
def test_values(tmp_path: Path, script: str, expected: object) -> None:
    """Lua's values as replies, and the libraries that Redis gives."""
    assert evaluate(tmp_path, script, "k") == expected


@pytest.mark.parametrize(
    "script",
    [
        "return python.eval('1')",
        "return python",
        "return io.open('/etc/passwd')",
        "return os.execute('id')",
        "return require('os')",
        "return package.loaded",
        "return debug.getregistry()",
        "return getfenv(0)",
        "return loadstring('\\27Lua')()",
        "return redis.call.__class__",
        "return string.dump(function() end)",
        "return getmetatable(redis).__index",
        "return coroutine.create(1)",
    ],
)
def test_nothing_but_commands_can_be_reached(tmp_path: Path, script: str) -> None:
    """No Python, no files, no processes, no interpreter's insides."""
    assert str(evaluate(tmp_path, script)).startswith("ERR user_script")


@pytest.mark.parametrize(
    "script",
    ["x = 1", "string.x = 1", "rawset(string, 'x', 1)", "rawset(_G, 'x', 1)", "redis.call = 1"],
)
def test_globals_can_not_be_set(tmp_path: Path, script: str) -> None:
    """A script leaves nothing behind for later ones."""
    assert "readonly table" in evaluate(tmp_path, script)


@pytest.mark.parametrize(
    "script",
    [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end",
    ],
)
def test_endless_scripts_end(tmp_path: Path, script: str) -> None:
    """Time and memory have limits, and the next script runs."""
    assert str(evaluate(tmp_path, script)).startswith("ERR ")


def test_effects_are_repeated_together(tmp_path: Path) -> None:
    """Replicas get what a script did, in a transaction."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            client = await shard.call("a")
            script = "redis.call('SET', KEYS[1], 1) return redis.call('INCR', KEYS[1])"
            assert await client("EVAL", script, 1, "k") == 2
            await until(lambda: shard.follows("redis-b", "redis-a"))
            assert shard["b"].server.store.items[b"k"].value == b"2"
            digest = await client("SCRIPT", "LOAD", script)
            assert await client("EVALSHA", digest, 1, "k") == 2
            with pytest.raises(ReplyError, match="Write commands are not allowed"):
                await client("EVALSHA_RO", digest, 1, "k")
            with pytest.raises(ReplyError, match="NOSCRIPT"):
                await client("EVALSHA", "x", 0)

    asyncio.run(main())
