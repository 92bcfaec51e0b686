"""Calls of scripts: `redis.call`, `redis.acl_check_cmd` and `redis.log`."""

from typing import TYPE_CHECKING, cast

from cachesim.embedded.redis.cluster.slots import slot_of
from cachesim.embedded.redis.connections.client import NO_REPLY
from cachesim.embedded.redis.dispatch.command_table import Flag
from cachesim.embedded.redis.dispatch.guards import OUT_OF_MEMORY, check_write
from cachesim.protocols.resp import Error, Reply

if TYPE_CHECKING:
    from cachesim.embedded.redis.scripting.running import Running
    from cachesim.embedded.redis.server import Server

_NOT_ALLOWED = "ERR This Redis command is not allowed from script"


def answer_call(server: "Server", running: "Running", words: list[bytes]) -> Reply:
    """Return the answer to a call of a script.

    Args:
        words: the kind of the call, the version of the protocol, and the arguments.
    """
    try:
        if words[0] == b"CALL":
            return _execute(server, running, words[2:])
        return _check_acl(server, running, words[2:])
    except Error as error:
        return error
    except Exception as error:
        server.log(f"redis.call failed: {error!r}", "#")
        return Error("ERR internal error")


def _execute(server: "Server", running: "Running", arguments: list[bytes]) -> Reply:
    client, executor = running.client, server.executor
    try:
        entry = executor.entries.find(arguments)
    except Error as error:
        wrong = "wrong number" in error.text
        raise Error(
            "ERR Wrong number of args calling Redis command from script"
            if wrong
            else "ERR Unknown Redis command called from script"
        ) from None
    bits = entry.bits
    if bits & Flag.NOSCRIPT:
        raise Error(_NOT_ALLOWED)
    if client.user is not None and entry.command not in client.allowed:
        denial = client.user.denial(entry.command, arguments)
        if denial is not None:
            executor.log_denial(client, denial[0], "lua", denial[2])
            what = "command or subcommand" if denial[0] == "command" else "command"
            raise Error(f"ERR The user executing the script can't run this {what}")
    writes = bits & (Flag.WRITE | Flag.MAY_WRITE)
    if writes and running.reads:
        raise Error("ERR Write commands are not allowed from read-only scripts.")
    if not running.has_written:  # else it goes on, as it can't be undone
        if writes & Flag.WRITE:
            check_write(server)
        if bits & Flag.DENYOOM and executor.was_full and not running.takes_memory:
            raise Error(OUT_OF_MEMORY)
    if writes & Flag.WRITE:
        running.has_written = True
    if bits & Flag.KEYS:
        _check_slots(server, running, entry.command.keys(arguments))
    answer = executor.call(client, entry, arguments)
    if server.tracking.clients and bits & Flag.READONLY:
        asked = executor.entries.find(running.arguments).command
        server.tracking.read(running.caller, asked.keys(running.arguments))
    return None if answer is NO_REPLY else cast(Reply, answer)


def _check_slots(server: "Server", running: "Running", keys: list[bytes]) -> None:
    if not keys:
        return
    slots = {slot_of(key) for key in keys}
    if len(slots) > 1 or not server.redirects.is_local(keys):
        raise Error("ERR Script attempted to access a non local key in a cluster node")
    slot = slots.pop()
    if running.keeps_slot and running.slot not in (None, slot):
        raise Error("ERR Script attempted to access keys that do not hash to the same slot")
    if running.slot is None:
        running.slot = slot


def _check_acl(server: "Server", running: "Running", arguments: list[bytes]) -> Reply:
    """Return 1 if the user may run a command, else 0; None if there is no such command."""
    entry = server.executor.entries.named(arguments)
    if entry is None:
        return None
    user = running.client.user
    return int(user is None or user.denial(entry.command, arguments) is None)
