"""The scripting commands: EVAL, EVALSHA, SCRIPT, FUNCTION, FCALL."""

from collections.abc import Mapping

from cachesim.embedded.redis.cluster.slots import slot_of
from cachesim.embedded.redis.commands.common.help import help_of, subcommand_error
from cachesim.embedded.redis.commands.function_dump import HANDLERS as FUNCTION_DUMP
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.dispatch.guards import check_slots, check_state
from cachesim.embedded.redis.dispatch.script_flags import bits_of_script
from cachesim.embedded.redis.keyspace.values import integer, printed
from cachesim.embedded.redis.scripting.functions import Functions
from cachesim.embedded.redis.scripting.running import Running
from cachesim.embedded.redis.scripting.scripts import digest_of
from cachesim.protocols.resp import Error, Pairs, Reply

_NOT_INTEGER = "ERR value is not an integer or out of range"
_DIGEST = 40  # hex digits


def _evaluate(client: Client, arguments: list[bytes], text: bytes) -> Answer:
    keys, argv = _split(arguments, _NOT_INTEGER)
    reads = arguments[0][-3:].lower() == b"_ro"

    async def run(running: Running) -> Reply:
        running.slot = slot_of(keys[0]) if keys else None
        return await client.server.scripts.run(running, text, keys, argv, reads=reads)

    return client.server.script_runner.start(client, arguments, run)


def _split(arguments: list[bytes], wrong: str) -> tuple[list[bytes], list[bytes]]:
    """Return the keys and the other arguments of a script or a function.

    Raises:
        Error: the number of keys is wrong.
    """
    count = integer(arguments[2], wrong)
    if count > len(arguments) - 3:
        raise Error("ERR Number of keys can't be greater than number of args")
    if count < 0:
        raise Error("ERR Number of keys can't be negative")
    return arguments[3 : 3 + count], arguments[3 + count :]


def eval_(client: Client, arguments: list[bytes]) -> Answer:
    """EVAL script numkeys key... argument..., EVAL_RO."""
    return _evaluate(client, arguments, arguments[1])


def evalsha(client: Client, arguments: list[bytes]) -> Answer:
    """EVALSHA sha1 numkeys key... argument..., EVALSHA_RO."""
    text = client.server.scripts.known.get(arguments[1].lower())
    if text is None:
        if len(arguments[1]) == _DIGEST:
            _split(arguments, _NOT_INTEGER)  # Redis checks the number of keys first
        raise Error("NOSCRIPT No matching script. Please use EVAL.")
    return _evaluate(client, arguments, text)


def script_load(client: Client, arguments: list[bytes]) -> Answer:
    """SCRIPT LOAD script."""
    scripts = client.server.scripts
    if digest_of(arguments[2]) in scripts.known:
        return digest_of(arguments[2])
    return client.server.script_runner.start(
        client, arguments, lambda _: scripts.load(arguments[2])
    )


def script_exists(client: Client, arguments: list[bytes]) -> Answer:
    """SCRIPT EXISTS sha1..."""
    return [int(digest.lower() in client.server.scripts.known) for digest in arguments[2:]]


def script_show(client: Client, arguments: list[bytes]) -> Answer:
    """SCRIPT SHOW digest, of Valkey."""
    text = client.server.scripts.known.get(arguments[2].lower())
    if text is None:
        raise Error("NOSCRIPT No matching script.")
    return text


def script_flush(client: Client, arguments: list[bytes]) -> Answer:
    """SCRIPT FLUSH [ASYNC | SYNC]."""
    if len(arguments) > 3 or (
        len(arguments) == 3 and arguments[2].lower() not in (b"async", b"sync")
    ):
        raise Error("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
    client.server.scripts.known.clear()
    return "OK"


def script_kill(client: Client, arguments: list[bytes]) -> Answer:
    """SCRIPT KILL."""
    client.server.script_runner.kill(function=False)
    return "OK"


def function_kill(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION KILL."""
    client.server.script_runner.kill(function=True)
    return "OK"


def script_debug(client: Client, arguments: list[bytes]) -> Answer:
    """SCRIPT DEBUG YES | SYNC | NO."""
    if arguments[2].lower() != b"no":
        raise Error("ERR Use SCRIPT DEBUG YES/SYNC/NO")
    return "OK"


def function_load(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION LOAD [REPLACE] code."""
    replaces = False
    for option in arguments[2:-1]:
        if option.lower() != b"replace":
            raise Error(f"ERR Unknown option given: {printed(option)}")
        replaces = True
    server = client.server
    functions, code = server.functions, arguments[-1]
    if client.is_replaying:
        return functions.restore(code)

    async def load(_: Running) -> Reply:
        name = await functions.load(code, replaces=replaces)
        server.executor.effects = [arguments]
        return name

    return server.script_runner.start(client, arguments, load)


def function_delete(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION DELETE library."""
    client.server.functions.delete(arguments[2])
    client.server.executor.effects = [arguments]
    return "OK"


def function_flush(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION FLUSH [ASYNC | SYNC]."""
    if len(arguments) > 3:
        raise subcommand_error(arguments)
    if len(arguments) == 3 and arguments[2].lower() not in (b"async", b"sync"):
        raise Error("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
    client.server.functions.clear()
    client.server.executor.effects = [arguments]
    return "OK"


def function_list(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE]."""
    pattern, with_code = None, False
    rest = iter(arguments[2:])
    for word in rest:
        if word.lower() == b"withcode" and not with_code:
            with_code = True
        elif word.lower() == b"libraryname" and pattern is None:
            pattern = next(rest, None)
            if pattern is None:
                raise Error("ERR library name argument was not given")
        else:
            raise Error(f"ERR Unknown argument {printed(word)}")
    functions = client.server.functions

    async def look(_: Running) -> Reply:
        await functions.inspect()
        return functions.listing(pattern, with_code=with_code)

    if functions.are_inspected:
        return functions.listing(pattern, with_code=with_code)
    return client.server.script_runner.start(client, arguments, look)


def function_stats(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION STATS."""
    server = client.server
    running = server.script_runner.running
    if running is None and not server.functions.are_inspected:

        async def look(_: Running) -> Reply:
            await server.functions.inspect()
            return _stats(server.functions, None)

        return server.script_runner.start(client, arguments, look)
    if running is not None and not running.is_function:
        raise Error(running.busy)
    return _stats(server.functions, running)


def _stats(functions: Functions, running: Running | None) -> Reply:
    libraries, count = functions.counts
    counts = Pairs([b"libraries_count", libraries, b"functions_count", count])
    told = None if running is None else Pairs(
        [
            *(b"name", running.name), *(b"command", list[Reply](running.arguments)),
            *(b"duration_ms", running.milliseconds),
        ]
    )  # fmt: skip
    return Pairs([b"running_script", told, b"engines", Pairs([b"LUA", counts])])


def fcall(client: Client, arguments: list[bytes]) -> Answer:
    """FCALL function numkeys key... argument..., FCALL_RO."""
    server = client.server
    functions = server.functions
    were_known = functions.are_inspected

    async def call(running: Running) -> Reply:
        await functions.inspect()
        functions.find(arguments[1])
        if not were_known:  # the guards did not know the function's flags
            entry = server.executor.entries.find(arguments)
            bits = bits_of_script(server, arguments, entry.bits)
            check_slots(server, client, entry, arguments, bits)
            check_state(server, client, entry, bits)
        keys, argv = _split(arguments, "ERR Bad number of keys provided")
        running.slot = slot_of(keys[0]) if keys else None
        reads = arguments[0][-3:].lower() == b"_ro"
        return await functions.call(running, arguments[1], keys, argv, reads=reads)

    return client.server.script_runner.start(client, arguments, call)


HANDLERS: Mapping[str, Handler] = {
    **FUNCTION_DUMP,
    **help_of("function", "script"),
    "eval": eval_,
    "eval_ro": eval_,
    "evalsha": evalsha,
    "evalsha_ro": evalsha,
    "fcall": fcall,
    "fcall_ro": fcall,
    "function|delete": function_delete,
    "function|flush": function_flush,
    "function|kill": function_kill,
    "function|list": function_list,
    "function|load": function_load,
    "function|stats": function_stats,
    "script|debug": script_debug,
    "script|exists": script_exists,
    "script|flush": script_flush,
    "script|kill": script_kill,
    "script|load": script_load,
    "script|show": script_show,
}
