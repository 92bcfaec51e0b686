"""Libraries of functions: as in a real Redis, on replicas and on disk too."""

import asyncio
from pathlib import Path

import pytest

from tests.embedded.redis.differential import Pair
from tests.embedded.redis.shard import ReplyError, Shard

LIBRARY = """#!lua name=lib
local n = 0
redis.register_function('count', function() n = n + 1; return n end)
redis.register_function{
  function_name = 'read', description = 'reads', flags = {'no-writes'},
  callback = function(keys) return redis.call('GET', keys[1]) end,
}
redis.register_function('both', function(keys, args) return {keys[1] or '-', args[1] or '-'} end)
"""
FAILING = """#!lua name=bad
redis.register_function('e1', function() error('boom') end)
redis.register_function('e2', function() return redis.call('INCR', 'a', 1) end)
redis.register_function('e3', function() return foo end)
redis.register_function('e4', function() foo = 1 end)
redis.register_function('e5', function() return redis.error_reply('MY err') end)
redis.register_function('e6', function() return redis.register_function('e', print) end)
redis.register_function{
  function_name = 'e7', flags = {'no-writes'},
  callback = function(keys)
    local done = redis.call('SET', keys[1], 'x')
    return done
  end,
}
"""
WRONG = (
    "redis.register_function('f', function() end)",
    "#!lua\nredis.register_function('f', function() end)",
    "#!foo name=a\nredis.register_function('f', function() end)",
    "#!lua name=a-b\nredis.register_function('f', function() end)",
    "#!lua name=a foo=b\nredis.register_function('f', function() end)",
    "#!lua name=a name=b\nredis.register_function('f', function() end)",
    "#!lua name=lib\nredis.register_function('f', function() end)",
    "#!lua name=other\nredis.register_function('count', function() end)",
    "#!lua name\nlocal x = 1",
    "#! lua name=a\nlocal x = 1",
    "#!\nlocal x = 1",
    "#!lua name=a",
    "#!lua name=a\nredis.sha1hex()",
    "#!lua name=a\nredis.setresp(3)",
    "#!lua name=a\nredis.register_function{[1]='z'}",
    "#!lua name=a\nlocal x = 1",
    "#!lua name=a\nthis is wrong",
    "#!lua name=a\nerror('boom')",
    "#!lua name=a\nredis.call('GET','a')",
    "#!lua name=a\nreturn math.floor(1)",
    "#!lua name=a\nx = 1",
    "#!lua name=a\nredis.register_function('a-b', function() end)",
    "#!lua name=a\nfor _ = 1, 2 do redis.register_function('z', function() end) end",
    "#!lua name=a\nredis.register_function('z')",
    "#!lua name=a\nredis.register_function()",
    "#!lua name=a\nredis.register_function('z', 1)",
    "#!lua name=a\nredis.register_function({}, function() end)",
    "#!lua name=a\nredis.register_function{function_name='z'}",
    "#!lua name=a\nredis.register_function{callback=function() end}",
    "#!lua name=a\nredis.register_function{function_name='z', callback=1}",
    "#!lua name=a\nredis.register_function{function_name='z', callback=function() end, flags=1}",
    "#!lua name=a\nredis.register_function{function_name='z', callback=function() end, x=1}",
    """#!lua name=a
redis.register_function{function_name='z', callback=function() end, flags={'foo'}}""",
)
CASES = [
    ("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)"),
    ("FCALL", "f", "0"),
    ("FUNCTION", "LIST", "WITHCODE"),
    ("FUNCTION", "LOAD", LIBRARY),
    ("FUNCTION", "LOAD", "FOO", LIBRARY),
    ("FUNCTION", "LOAD", "REPLACE", LIBRARY),
    ("FCALL", "f", "0"),
    ("FCALL", "count", "0"),
    ("FCALL", "count", "0"),
    ("FCALL_RO", "count", "0"),
    ("FCALL_RO", "read", "1", "{t}a"),
    ("SET", "{t}a", "v"),
    ("FCALL", "read", "1", "{t}a"),
    ("FCALL_RO", "read", "1", "{t}a"),
    ("FCALL", "both", "1", "{t}a", "b", "c"),
    ("FCALL", "both", "0"),
    ("FCALL", "count", "x"),
    ("FCALL", "count", "-1"),
    ("FCALL", "count", "3", "a"),
    ("FUNCTION", "STATS"),
    ("FUNCTION", "LIST", "LIBRARYNAME", "x*"),
    ("FUNCTION", "LIST", "LIBRARYNAME"),
    ("FUNCTION", "LIST", "FOO"),
    *(("FUNCTION", "LOAD", code) for code in WRONG),
    ("FUNCTION", "LOAD", FAILING),
    *(("FCALL", f"e{number}", "1", "{t}a") for number in range(1, 8)),
    ("FCALL", "COUNT", "0"),
    ("fcall_ro", "Read", "1", "{t}a"),
    ("FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('Count', function() end)"),
    ("FUNCTION", "DELETE", "LIB"),
    ("FUNCTION", "DELETE", "nope"),
    ("FUNCTION", "DELETE", "bad"),
    ("FCALL", "e1", "0"),
    ("FUNCTION", "FLUSH", "FOO"),
    ("FUNCTION", "FLUSH"),
    ("FUNCTION", "LIST"),
    ("EVALSHA", "0" * 40, "x"),
    ("EVALSHA", "0" * 40, "5"),
    ("EVALSHA", "0" * 39, "5"),
    ("EVAL", "return redis.register_function", "0"),
    ("EVAL", "return redis.call('FCALL','f',0)", "0"),
]


@pytest.mark.parametrize("resp", [2, 3])
def test_against_redis(real: int, resp: int) -> None:
    """Every reply is the same, errors included."""
    with Pair(real, resp) as pair:
        for server in (pair.real, pair.ours):
            server(b"FUNCTION", b"FLUSH")
        for case in CASES:
            words = tuple(word.encode() for word in case)
            assert pair.differ(words) is None, words


async def read_at(shard: Shard, zone: str) -> object:
    """Return the reply of the function at a node, as soon as that serves requests."""
    for _ in range(1000):
        client = await shard.call(zone)
        await client("READONLY")
        try:
            return await client("FCALL_RO", "read", 1, "k")
        except ReplyError as error:  # CLUSTERDOWN, or it has not resynced yet
            told = str(error)
            await asyncio.sleep(0.01)
    raise AssertionError(told)


def test_kept_and_replicated(tmp_path: Path) -> None:
    """Libraries reach replicas, by the stream or a full resync, and the append-only file."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            client = await shard.call("a", admin=True)
            assert await client("FUNCTION", "LOAD", LIBRARY) == b"lib"
            await client("SET", "k", "v")
            assert await client("WAIT", 2, 5000) == 2
            assert await read_at(shard, "b") == b"v"
            shard["c"].kill()
            (tmp_path / "redis-c" / "appendonly.aof").unlink()
            shard["c"].start()
            assert await read_at(shard, "c") == b"v"
            for rewrites in (False, True):
                if rewrites:
                    client = await shard.call("a", admin=True)
                    await client("BGREWRITEAOF")
                shard["a"].kill()
                shard["a"].start()
                assert await read_at(shard, "a") == b"v"

    asyncio.run(main())


def test_a_dump_is_restored(tmp_path: Path) -> None:
    """FUNCTION RESTORE adds the libraries of FUNCTION DUMP, here, on replicas, and on disk."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            client = await shard.call("a")
            await client("FUNCTION", "LOAD", LIBRARY)
            payload = await client("FUNCTION", "DUMP")
            with pytest.raises(ReplyError, match="Library lib already exists"):
                await client("FUNCTION", "RESTORE", payload)
            assert await client("FUNCTION", "RESTORE", payload, "REPLACE") == "OK"
            await client("FUNCTION", "FLUSH")
            assert await client("FUNCTION", "RESTORE", payload) == "OK"
            assert await client("FCALL", "count", 0) == 1
            await client("SET", "k", "v")
            assert await client("WAIT", 2, 1000) == 2
            assert await read_at(shard, "c") == b"v"
            shard["a"].kill()
            shard["a"].start()
            assert await read_at(shard, "a") == b"v"

    asyncio.run(main())


def test_dumps_are_those_of_redis(real: int) -> None:
    """A real Redis and an embedded node restore each other's libraries, and refuse the same."""
    with Pair(real, 2) as pair:
        for words in ((b"FLUSH",), (b"LOAD", LIBRARY.encode()), (b"LIST", b"WITHCODE")):
            assert pair.differ((b"FUNCTION", *words)) is None
        for payload in (pair.real(b"FUNCTION", b"DUMP"), pair.ours(b"FUNCTION", b"DUMP")):
            for policy in (b"APPEND", b"REPLACE", b"FLUSH", b"x"):
                assert pair.differ((b"FUNCTION", b"RESTORE", payload, policy)) is None
            assert pair.differ((b"FUNCTION", b"LIST", b"WITHCODE")) is None
            assert pair.differ((b"FUNCTION", b"RESTORE", payload[:-1])) is None


def test_after_the_end_of_the_process_for_scripts(tmp_path: Path) -> None:
    """Functions are registered again in the next process."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            client = await shard.call("a")
            await client("FUNCTION", "LOAD", LIBRARY)
            shard["a"].server.script_runner.end_worker()
            assert await client("FCALL", "count", 0) == 1


def test_code_that_does_not_end(tmp_path: Path) -> None:
    """The code of a library has half a second of CPU time, as in Redis."""

    async def main() -> None:
        async with Shard(tmp_path) as shard:
            client = await shard.call("a")
            with pytest.raises(ReplyError, match="FUNCTION LOAD timeout"):
                await client("FUNCTION", "LOAD", "#!lua name=l\nwhile true do end")
            assert await client("FUNCTION", "LOAD", LIBRARY) == b"lib"

    asyncio.run(main())


def test_code_that_can_not_be_interrupted(tmp_path: Path) -> None:
    """Its process is killed, and the other libraries work again afterwards."""

    async def main() -> None:
        async with Shard(tmp_path, settings={"busy-reply-threshold": "100"}) as shard:
            client = await shard.call("a")
            await client("FUNCTION", "LOAD", LIBRARY)
            code = "#!lua name=l\n(('a'):rep(3000)):find(('.-'):rep(6) .. 'b')"
            with pytest.raises(ReplyError, match="took too long"):
                await client("FUNCTION", "LOAD", code)
            assert await client("FCALL", "count", 0) == 1
            assert b"'l'" not in str(await client("FUNCTION", "LIST")).encode()

    asyncio.run(main())
