"""EVAL, EVALSHA, SCRIPT, FUNCTION and FCALL."""

from collections.abc import Mapping

from cachesim.embedded.redis.client import Answer, Client
from cachesim.embedded.redis.executor import Handler
from cachesim.embedded.redis.values import integer
from cachesim.protocols.resp import Error, Pairs


def _evaluate(client: Client, arguments: list[bytes], text: bytes) -> Answer:
    count = integer(arguments[2])
    if count > len(arguments) - 3:
        raise Error("ERR Number of keys can't be greater than number of args")
    if count < 0:
        raise Error("ERR Number of keys can't be negative")
    keys, argv = arguments[3 : 3 + count], arguments[3 + count :]
    reads = arguments[0][-3:].lower() == b"_ro"
    server = client.server
    return server.executor.together(
        lambda: server.scripts.run(client, text, keys, argv, reads=reads), client
    )


def eval_(client: Client, arguments: list[bytes]) -> Answer:
    """EVAL script numkeys key... argument..., EVAL_RO."""
    return _evaluate(client, arguments, arguments[1])


def evalsha(client: Client, arguments: list[bytes]) -> Answer:
    """EVALSHA sha1 numkeys key... argument..., EVALSHA_RO."""
    text = client.server.scripts.known.get(arguments[1].lower())
    if text is None:
        raise Error("NOSCRIPT No matching script. Please use EVAL.")
    return _evaluate(client, arguments, text)


def script_load(client: Client, arguments: list[bytes]) -> Answer:
    """SCRIPT LOAD script."""
    return client.server.scripts.load(arguments[2])


def script_exists(client: Client, arguments: list[bytes]) -> Answer:
    """SCRIPT EXISTS sha1..."""
    return [int(digest.lower() in client.server.scripts.known) for digest in arguments[2:]]


def script_flush(client: Client, arguments: list[bytes]) -> Answer:
    """SCRIPT FLUSH [ASYNC | SYNC]."""
    if len(arguments) > 3 or (
        len(arguments) == 3 and arguments[2].lower() not in (b"async", b"sync")
    ):
        raise Error("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
    client.server.scripts.known.clear()
    return "OK"


def not_busy(client: Client, arguments: list[bytes]) -> Answer:
    """SCRIPT KILL, FUNCTION KILL: what answers is not running a script."""
    raise Error("NOTBUSY No scripts in execution right now.")


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
            raise Error(f"ERR Unknown option given: {option.decode(errors='replace')}")
        replaces = True
    name = client.server.functions.load(arguments[-1], replaces=replaces)
    client.server.executor.effects = [arguments]
    return name


def function_delete(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION DELETE library."""
    client.server.functions.delete(arguments[2])
    client.server.executor.effects = [arguments]
    return "OK"


def function_flush(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION FLUSH [ASYNC | SYNC]."""
    if len(arguments) > 3 or (
        len(arguments) == 3 and arguments[2].lower() not in (b"async", b"sync")
    ):
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
            raise Error(f"ERR Unknown argument {word.decode(errors='replace')}")
    return client.server.functions.told(pattern, with_code=with_code)


def function_stats(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION STATS."""
    libraries, functions = client.server.functions.counts
    counts = Pairs([b"libraries_count", libraries, b"functions_count", functions])
    return Pairs([b"running_script", None, b"engines", Pairs([b"LUA", counts])])


def function_dump(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION DUMP, FUNCTION RESTORE."""
    raise Error("ERR an embedded node does not dump functions: use FUNCTION LIST WITHCODE")


def fcall(client: Client, arguments: list[bytes]) -> Answer:
    """FCALL function numkeys key... argument..., FCALL_RO."""
    functions = client.server.functions
    functions.find(arguments[1])
    count = integer(arguments[2], "ERR Bad number of keys provided")
    if count > len(arguments) - 3:
        raise Error("ERR Number of keys can't be greater than number of args")
    if count < 0:
        raise Error("ERR Number of keys can't be negative")
    keys, argv = arguments[3 : 3 + count], arguments[3 + count :]
    reads = arguments[0][-3:].lower() == b"_ro"
    return client.server.executor.together(
        lambda: functions.call(client, arguments[1], keys, argv, reads=reads), client
    )


HANDLERS: Mapping[str, Handler] = {
    "eval": eval_,
    "eval_ro": eval_,
    "evalsha": evalsha,
    "evalsha_ro": evalsha,
    "fcall": fcall,
    "fcall_ro": fcall,
    "function|delete": function_delete,
    "function|dump": function_dump,
    "function|flush": function_flush,
    "function|kill": not_busy,
    "function|list": function_list,
    "function|load": function_load,
    "function|restore": function_dump,
    "function|stats": function_stats,
    "script|debug": script_debug,
    "script|exists": script_exists,
    "script|flush": script_flush,
    "script|kill": not_busy,
    "script|load": script_load,
}
