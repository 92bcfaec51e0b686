"""Lua scripts: their values, their sandbox, and their limits."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.embedded.redis.shard import ReplyError, Shard, until


def evaluate(folder: Path, script: str, *keys: str, resp: int = 2) -> Any:
    """Return the reply of a script on a node of its own, or its error as text."""

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
    """Lua's values become replies, and the libraries of Redis are there."""
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
def test_scripts_reach_only_commands(tmp_path: Path, script: str) -> None:
    """Scripts reach no Python, no files, no processes, and no internals of the interpreter."""
    assert str(evaluate(tmp_path, script)).startswith("ERR user_script")


@pytest.mark.parametrize(
    "script",
    ["x = 1", "string.x = 1", "rawset(string, 'x', 1)", "rawset(_G, 'x', 1)", "redis.call = 1"],
)
def test_globals_can_not_be_set(tmp_path: Path, script: str) -> None:
    """A script can't leave anything for later ones."""
    assert "readonly table" in evaluate(tmp_path, script)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("\x1bLua", "unexpected symbol near 'char(27)'"),
        ("return loadstring(loadstring('\\27Lua') or 'return 7')()", "7"),
        ("rawset(cjson.null, 1, 2)", "got userdata"),
        ("table.insert(redis, 1)", "readonly table"),
        ("table.insert(_G, 1)", "readonly table"),
        ("setmetatable(redis, {})", "readonly table"),
        ("local _, e = pcall(bit.band, {}) return type(e)", "string"),
        ("local _, e = pcall(bit.band, {}) return getmetatable(e).__index", "attempt to index"),
        ("return select(2, pcall(cjson.decode, {}))", "string expected, got table"),
        ("return type(redis.sha1hex({}))", "string"),
        ("return type(tostring(setmetatable({}, {__tostring = tostring})))", "overflow"),
    ],
)  # fmt: skip
def test_protected_tables_and_bytecode(tmp_path: Path, script: str, error: str) -> None:
    """Scripts get no bytecode, no objects of Python, and change nothing that later scripts see."""
    assert error in str(evaluate(tmp_path, script))


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("local t = {} while true do t[#t + 1] = ('x'):rep(1e7) .. #t end", ()),
        ("return ('x'):rep(65 * 2 ^ 20)", ()),
        ("redis.call('SET', 'k', ('x'):rep(65 * 2 ^ 20))", ()),
        ("return 1", (b"x" * (50 << 20), b"x" * (50 << 20), b"x" * (30 << 20))),
    ],
)
def test_limits(tmp_path: Path, script: str, arguments: tuple[bytes, ...]) -> None:
    """Too much memory, arguments or answers are an error, and the next script runs."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            client = await shard.call("a")
            with pytest.raises(ReplyError, match=r"^ERR .*(memory|64 MB|128 MB)"):
                await client("EVAL", script, 0, *arguments)
            assert await client("EVAL", "return 1", 0) == 1

    asyncio.run(main())


def test_large_arguments(tmp_path: Path) -> None:
    """Arguments may be as large as clients may send them."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            client = await shard.call("a")
            large = (b"x" * (40 << 20), b"x" * (30 << 20))
            assert await client("EVAL", "return #ARGV", 0, *large) == 2

    asyncio.run(main())


def test_effects_are_replicated_as_a_transaction(tmp_path: Path) -> None:
    """Replicas get the effects of a script, in a transaction."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            client = await shard.call("a")
            script = "redis.call('SET', KEYS[1], 1) return redis.call('INCR', KEYS[1])"
            assert await client("EVAL", script, 1, "k") == 2
            await until(lambda: shard.follows("redis-b", "redis-a"))
            assert shard["b"].server.store.values[b"k"] == b"2"
            digest = await client("SCRIPT", "LOAD", script)
            assert await client("EVALSHA", digest, 1, "k") == 2
            with pytest.raises(ReplyError, match="Write commands are not allowed"):
                await client("EVALSHA_RO", digest, 1, "k")
            with pytest.raises(ReplyError, match="NOSCRIPT"):
                await client("EVALSHA", "x", 0)

    asyncio.run(main())
