"""EVAL, EVALSHA, SCRIPT, and FUNCTION as far as it says that there are none."""

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


def no_functions(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION LOAD and what needs one."""
    raise Error("ERR functions are not supported by an embedded node: use EVAL")


def function_list(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION LIST: there are none."""
    return []


def function_stats(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION STATS."""
    counts = Pairs([b"libraries_count", 0, b"functions_count", 0])
    return Pairs([b"running_script", None, b"engines", Pairs([b"LUA", counts])])


def function_flush(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION FLUSH: there are none."""
    return "OK"


def fcall(client: Client, arguments: list[bytes]) -> Answer:
    """FCALL: there are none."""
    raise Error("ERR Function not found")


_FUNCTIONS = ("delete", "dump", "load", "restore")

HANDLERS: Mapping[str, Handler] = {
    **{f"function|{name}": no_functions for name in _FUNCTIONS},
    "eval": eval_,
    "eval_ro": eval_,
    "evalsha": evalsha,
    "evalsha_ro": evalsha,
    "fcall": fcall,
    "fcall_ro": fcall,
    "function|flush": function_flush,
    "function|kill": not_busy,
    "function|list": function_list,
    "function|stats": function_stats,
    "script|debug": script_debug,
    "script|exists": script_exists,
    "script|flush": script_flush,
    "script|kill": not_busy,
    "script|load": script_load,
}
