"""Sends broken scripts and bytecode to a node in this process, which must survive them.

`python -m tests.embedded.redis.scripting.script_mutations --inputs 100000` sends each input to the
primary of three nodes on one loop, as EVAL, SCRIPT LOAD and FUNCTION LOAD; endless scripts are
killed. Another node is called all the time. Sometimes a script checks that no input has changed
anything for later scripts.
"""

import argparse
import asyncio
import random
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.embedded.mutations import HANG, broken
from tests.embedded.redis.shard import Caller, ReplyError, Shard

_SETTINGS = {"busy-reply-threshold": "20"}
_PATIENCE = 10.0  # seconds for an answer, with as many calls of SCRIPT KILL as it takes
_BETWEEN_LOOKS = 20  # inputs
_LOOK = b"""
local shown = {}
local shared = {
  'redis', 'string', 'table', 'math', 'cjson', 'bit', 'struct', 'cmsgpack', 'coroutine'}
for _, name in ipairs(shared) do
  shown[#shown + 1] = tostring(next(_G[name])) .. tostring(getmetatable(_G[name]))
end
for _, name in ipairs({'pcall', 'error', 'pairs', 'setmetatable', 'rawset', 'load', 'unpack'}) do
  shown[#shown + 1] = type(_G[name])
end
local n = #shown
shown[n + 1] = redis.call('GET', 'none') == false and ('x'):rep(2) .. bit.band(7, 3)
shown[n + 2] = cjson.encode(cjson.decode('[1, {"a": null}]')) .. #KEYS .. #ARGV
shown[n + 3] = tostring(redis[1]) .. tostring(string[1]) .. type(cjson.null)
shown[n + 4] = table.concat({1, 2}) .. string.format('%d', 3) .. redis.sha1hex('')
return shown
"""
SCRIPTS = Path(__file__).with_name("scripts.txt")
"""Harmless scripts, one on each line. A real Redis runs them too."""
_WORSE = (
    b"while true do end", b"return cjson.null", b"return {pcall(string.rep, 'x', 1e9)}",
    b"local t = {} for i = 1, 100 do t[i] = redis.pcall('INCR', KEYS[1]) end return t",
    b"for i = 1, 10 do redis.call('RPUSH', 'l', ('x'):rep(i)) end return redis.call('LLEN', 'l')",
    b"xpcall(function() while true do end end, function() while true do end end)",
    b"return xpcall(function() error({}) end, function(e) return setmetatable(e, {e}) end)",
    b"local _, e = pcall(bit.band, {}) return getmetatable(e)", b"error({err = 'X', line = {}})",
    b"string.find(string.rep('a', 3000), string.rep('.-', 6) .. 'b')", b"table.insert(string, 1)",
    b"return loadstring('return ' .. ARGV[1])()", b"return loadstring('\27Lua' .. ARGV[1])",
    b"local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end",
    b"local t = {} t[1] = t return t", b"local t = {} for i = 1, 500 do t = {t} end return t",
    b"return {map = {a = 1}, {set = {b = 2}}, {big_number = '1'}}", b"return unpack({}, 1, 1e7)",
    b"return string.format('%99999d%s%q', 1, {}, 'x')", b"return ('%s'):rep(10):format(1, 2)",
    b"return tostring(setmetatable({}, {__tostring = function() return {} end}))",
    b"return redis.sha1hex(tostring(redis.call)) .. tostring(math.random())",
    b"return string.gsub(('x'):rep(1e5), '.', {x = ('y'):rep(100)})",
    b"for i = 1, 50 do redis.log(redis.LOG_WARNING, i) end return collectgarbage('count')",
    b"redis.register_function('f', function(keys, args) return keys[1] or args[1] end)",
    b"redis.register_function('g', function() while true do end end)",
    b"local a, b = load(function() return nil end) return a()", b"return redis.call(unpack({}))",
)  # fmt: skip
_TOKENS = (
    b"while true do end ", b"end ", b"(", b")", b"{", b"}", b"\0", b"\x1bLua", b" .. ", b"'", b"\\",
    b"[[", b"]]", b"--", b"nil", b"1e308", b"-1", b"0/0", b"2^53", b"function() ", b"pcall(",
    b"xpcall(", b"error(", b"{} ", b"setmetatable({}, {__index = ", b"redis.call", b"cjson.null",
    b"_G", b"KEYS", b"ARGV", b"string.rep(", b"%99", b"(" * 250, b"{" * 250, b"a." * 300,
    b"-" * 300, b"x" * 5000, b"\xff\xfe", b"return ", b"goto ", b"...",
)  # fmt: skip


@dataclass
class Outcome:
    """The outcome of many inputs.

    Attributes:
        killed: how many did not end by themselves.
        restarted: how many could only be ended with their node.
        waited: seconds that another node took at most to answer.
        computed: of these, what the loop's thread has computed itself.
    """

    inputs: int = 0
    errors: int = 0
    killed: int = 0
    restarted: int = 0
    waited: float = 0.0
    computed: float = 0.0


def bytecode(r: random.Random) -> bytes:
    """Return a script as bytecode of Lua."""
    import lupa.lua51 as lua  # type: ignore[import-untyped]

    runtime: Any = lua.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
    dump = runtime.eval(b"function(text) return string.dump(loadstring(text)) end")
    made: bytes = dump(r.choice((b"return 1", b"while true do end", b"return redis.call('PING')")))
    return made


def drawn(r: random.Random, base: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return a request with a script that is more or less broken."""
    text = bytearray(r.choice(base))
    if r.random() < 0.3:
        text = bytearray(b"pcall(function() " + text + b" end) " + r.choice(base))
    if r.random() < 0.1:
        text = bytearray(bytecode(r))
    code = broken(text, _TOKENS, r) if r.random() < 0.7 else bytes(text)
    kind = r.randrange(10)
    if kind == 0:
        return b"SCRIPT", b"LOAD", code
    if kind == 1:
        return b"FUNCTION", b"LOAD", b"REPLACE", b"#!lua name=l\n" + code
    if kind == 2:
        return b"FCALL", r.choice((b"f", b"g")), b"1", b"k", b"v"
    return b"EVAL", code, b"1", b"k", r.choice((b"v", b"", b"1", b"x" * 10_000, b"\xff\0"))


async def _watch(witness: Caller, outcome: Outcome, stopping: asyncio.Event) -> None:
    """Call another node all the time."""
    while not stopping.is_set():
        begun, begun_cpu = time.perf_counter(), time.thread_time()
        await witness("PING")
        outcome.waited = max(outcome.waited, time.perf_counter() - begun)
        outcome.computed = max(outcome.computed, time.thread_time() - begun_cpu)
        await asyncio.sleep(0.002)


async def _give(shard: Shard, client: Caller, words: tuple[bytes, ...], outcome: Outcome) -> Caller:
    """Send an input, and kill it until there is an answer. Return the client for the next one."""
    outcome.inputs += 1
    answer = asyncio.ensure_future(client(*words))
    deadline = time.monotonic() + _PATIENCE
    killer = None
    try:
        while not (await asyncio.wait({answer}, timeout=0.05))[0]:
            assert time.monotonic() < deadline, words
            killer = killer or await shard.call("a")
            for what in ("SCRIPT", "FUNCTION"):
                try:
                    await killer(what, "KILL")
                    outcome.killed += 1
                except ReplyError as error:
                    if "UNKILLABLE" in str(error):
                        outcome.restarted += 1
                        shard["a"].server.script_runner.end_worker()
    finally:
        if killer is not None:
            killer.transport.abort()
    try:
        answer.result()
    except ReplyError:
        outcome.errors += 1
    except RecursionError:  # an array in an array in an array..., of which more may come
        client.transport.abort()
        return await shard.call("a")
    return client


async def try_many(folder: Path, count: int, seed: int) -> Outcome:
    """Send many inputs, and check that they change nothing for later ones.

    Raises:
        AssertionError: an input has.
    """
    r = random.Random(seed)
    base = _WORSE + tuple(SCRIPTS.read_bytes().splitlines())
    outcome = Outcome()
    async with Shard(folder, settings=_SETTINGS) as shard:
        client, witness = await shard.call("a"), await shard.call("b")
        expected = await client("EVAL", _LOOK, 0)
        # Not cancelled: Python 3.11 may lose a cancellation in a call that just ends.
        stopping = asyncio.Event()
        watching = asyncio.ensure_future(_watch(witness, outcome, stopping))
        recent: list[tuple[bytes, ...]] = []
        for number in range(count):
            words = drawn(r, base)
            recent.append(words)
            client = await _give(shard, client, words, outcome)
            if number % _BETWEEN_LOOKS == 0:
                assert await client("EVAL", _LOOK, 0) == expected, recent
                recent.clear()
            if number % 1000 == 999:
                await client("FLUSHALL")
                await client("FUNCTION", "FLUSH")
        assert not watching.done(), watching
        stopping.set()
        await watching
    return outcome


def main() -> None:
    """Send many inputs, and print the outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(try_many(Path(folder), arguments.inputs, arguments.seed))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    late = "" if outcome.waited < HANG else ", which is too long"
    print(f"{outcome}, {most} MB at most{late}")


if __name__ == "__main__":
    main()
