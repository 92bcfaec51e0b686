"""FUNCTION DUMP and FUNCTION RESTORE, of the scripting commands."""

from collections.abc import Mapping

from cachesim.embedded.redis.commands.common.help import subcommand_error
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.payloads import (
    MalformedError,
    Reader,
    opened,
    sealed,
    string_of,
)
from cachesim.embedded.redis.scripting.running import Running
from cachesim.protocols.resp import Error, Reply

_LIBRARY = 0xF5
_POLICIES = (b"append", b"flush", b"replace")


def function_dump(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION DUMP."""
    codes = client.server.functions.codes()
    return sealed(b"".join(bytes([_LIBRARY]) + string_of(code) for code in codes))


def function_restore(client: Client, arguments: list[bytes]) -> Answer:
    """FUNCTION RESTORE payload [FLUSH | APPEND | REPLACE]."""
    if len(arguments) > 4:
        raise subcommand_error(arguments)
    policy = arguments[3].lower() if len(arguments) == 4 else b"append"
    if policy not in _POLICIES:
        raise Error(
            "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE."
        )
    codes = _codes_in(opened(arguments[2]))
    server = client.server
    if client.is_replaying:
        if policy == b"flush":
            server.functions.clear()
        for code in codes:
            server.functions.restore(code)
        return "OK"

    async def restore(_: Running) -> Reply:
        await server.functions.restore_all(codes, policy)
        server.executor.effects = [arguments]
        return "OK"

    return server.script_runner.start(client, arguments, restore)


def _codes_in(body: bytes) -> list[bytes]:
    reader, found = Reader(body), []
    while not reader.is_at_end:
        if reader.take(1)[0] != _LIBRARY:
            raise Error("ERR given type is not a function")
        try:
            found.append(reader.string())
        except MalformedError:
            raise Error("ERR Failed loading library payload") from None
    return found


HANDLERS: Mapping[str, Handler] = {
    "function|dump": function_dump,
    "function|restore": function_restore,
}
