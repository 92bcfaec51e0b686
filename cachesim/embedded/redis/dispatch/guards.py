"""Guards: the checks that Redis makes before a command runs, with its order and texts.

Usually most commands need no check. The executor checks only commands with one of the guarded
flags: the node's (`guarded_flags`) or the client's (`Client.update_guards`).
"""

from typing import TYPE_CHECKING

from cachesim.elasticache import FORBIDDEN_COMMANDS
from cachesim.embedded.redis.cluster.slots import ALL_SLOTS, slot_of
from cachesim.embedded.redis.connections.client import NO_REPLY, Answer, Client
from cachesim.embedded.redis.connections.tracking import Tracked
from cachesim.embedded.redis.dispatch.command_table import ANY, Flag
from cachesim.embedded.redis.dispatch.entry import unknown
from cachesim.embedded.redis.dispatch.script_flags import bits_of_script
from cachesim.embedded.redis.keyspace.values import printed
from cachesim.protocols.resp import Error

if TYPE_CHECKING:
    from cachesim.embedded.redis.dispatch.entry import Entry
    from cachesim.embedded.redis.server import Server

DISK_FULL = "MISCONF Errors writing to the AOF file: No space left on device"
OUT_OF_MEMORY = "OOM command not allowed when used memory > 'maxmemory'."
_NOT_QUEUED = {"exec", "discard", "multi", "watch", "quit", "reset"}
_WITH_SUBSCRIPTIONS = {
    "ping", "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe",
    "sunsubscribe", "quit", "reset",
}  # fmt: skip

PROTECTED = ("debug", "module|load", "module|loadex", "module|unload")
"""Commands that are disabled, as by default in Redis."""


def not_allowed(name: bytes) -> Error:
    """Return the error of a disabled command."""
    shown = name.lower().decode()
    return Error(
        f"ERR {shown.upper()} command not allowed. If the enable-{shown}-command option is set to "
        '"local", you can run it from a local connection, otherwise you need to set this option '
        "in the configuration file, and then restart the server."
    )


def guarded_flags(server: "Server") -> int:
    """Return the flags of the commands that must be checked in the present state of a node.

    On a replica these are all commands with keys; if memory is full, all commands that need memory.
    """
    if server.clients.paused_until or server.loader.is_loading or server.script_runner.running:
        return ANY
    if server.executor.answers.is_active or server.aof.has_failed:
        return ANY
    flags = Flag.SEVERAL_KEYS | Flag.SCRIPT
    if server.is_replica or not server.gossip.is_ok or server.nodes.me.slots != ALL_SLOTS:
        flags |= Flag.KEYS | Flag.WRITE
    if server.settings.number("min-replicas-to-write"):
        flags |= Flag.WRITE
    if server.memory.is_full:
        flags |= Flag.DENYOOM
    return int(flags)


def check(server: "Server", client: Client, entry: "Entry", arguments: list[bytes]) -> Answer:
    """Check a request.

    Returns:
        None if it may run now; QUEUED if it was queued; NO_REPLY if it was postponed.

    Raises:
        Error: it must not run.
    """
    name, bits = entry.name, entry.bits
    if server.executor.answers.is_active and _injects(server, client, entry, arguments):
        return NO_REPLY
    if client.tracking is not None:
        _end_caching(client, client.tracking, name)
    script = server.script_runner.running
    if script is not None and not script.is_slow:
        server.script_runner.postpone(client)
        return NO_REPLY
    if name in PROTECTED:
        raise not_allowed(arguments[0])
    if bits & Flag.SCRIPT:
        bits = bits_of_script(server, arguments, bits)
    transaction = client.transaction
    if name == "exec" and transaction is not None:
        bits |= transaction.bits
    if client.user is None and not bits & Flag.NO_AUTH:
        raise Error("NOAUTH Authentication required.")
    if transaction is not None and bits & Flag.NO_MULTI:
        raise Error("ERR Command not allowed inside a transaction")
    if client.user is not None and entry.command not in client.user.allowed:
        _check_permission(server, client, entry, arguments)
    if not client.is_replaying:
        check_slots(server, client, entry, arguments, bits)
        check_state(server, client, entry, bits)
    if client.is_subscribed and client.resp == 2 and name not in _WITH_SUBSCRIPTIONS:
        raise Error(
            f"ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / "
            "QUIT / RESET are allowed in this context"
        )
    if server.loader.is_loading and not bits & Flag.LOADING:
        raise Error("LOADING Redis is loading the dataset in memory")
    if script is not None and not bits & Flag.ALLOW_BUSY:
        raise Error(script.busy)
    if client.is_monitor and bits & (Flag.READONLY | Flag.WRITE | Flag.MAY_WRITE):
        raise Error("ERR Replica can't interact with the keyspace")
    if server.clients.paused_until and not client.is_replaying and _waits(server, client, bits):
        return NO_REPLY
    if transaction is not None and name not in _NOT_QUEUED:
        if not transaction.broken and not client.watch_failed:
            transaction.queue.append((entry, arguments))
            transaction.bits |= entry.bits
        return "QUEUED"
    return None


def _injects(server: "Server", client: Client, entry: "Entry", arguments: list[bytes]) -> bool:
    """Apply the rules of faults to a request of a user. Return whether it is postponed.

    Raises:
        Error: what a rule answers.
    """
    is_of_user = client.user is None or client.user.name == b"default"
    if not is_of_user or client.in_script or client.is_replaying:
        return False
    answers, has_keys = server.executor.answers, bool(entry.bits & Flag.KEYS)
    if client.is_due is None:
        seconds = answers.wait(entry.name, has_keys=has_keys, now=server.loop.time())
        if seconds and client.postpone(seconds):
            client.is_due = False
            return True
    elif not client.is_due:
        return client.postpone()
    rule = answers.rule_for(entry.name, has_keys=has_keys)
    if rule is None:
        return False
    if not rule.to:
        raise Error(rule.answer)
    keys = entry.command.keys(arguments)
    raise Error(f"{rule.answer} {slot_of(keys[0]) if keys else 0} {rule.to}")


def _end_caching(client: Client, tracked: Tracked, name: str) -> None:
    """End what CLIENT CACHING said, when the command or the transaction after it is over."""
    if tracked.caching is None or client.transaction is not None or name.startswith("client|"):
        return
    if tracked.is_used:
        tracked.caching = None
        client.update_guards()
    tracked.is_used = not tracked.is_used


def check_state(server: "Server", client: Client, entry: "Entry", bits: int) -> None:
    """Refuse a command that the node's present state does not allow.

    Raises:
        Error: OOM, MISCONF, NOREPLICAS, READONLY.
    """
    takes_memory = bits & Flag.DENYOOM or (
        client.transaction is not None and entry.name not in _NOT_QUEUED - {"multi", "watch"}
    )
    if takes_memory and server.memory.is_full and not server.is_replica:
        raise Error(OUT_OF_MEMORY)
    if bits & Flag.WRITE:
        check_write(server)
    elif entry.name == "ping" and server.aof.has_failed:
        raise Error(DISK_FULL)


def check_write(server: "Server") -> None:
    """Refuse to write if the node may not.

    Raises:
        Error: MISCONF, NOREPLICAS, READONLY.
    """
    if server.aof.has_failed:
        raise Error(DISK_FULL)
    if not server.replicas.are_enough:
        raise Error("NOREPLICAS Not enough good replicas to write.")
    if server.is_replica:
        raise Error("READONLY You can't write against a read only replica.")


def check_slots(
    server: "Server", client: Client, entry: "Entry", arguments: list[bytes], bits: int
) -> None:
    """Redirect a request, or a whole transaction, that another node has to serve.

    Raises:
        Error: MOVED, CROSSSLOT, CLUSTERDOWN.
    """
    if entry.name != "exec":
        if not bits & Flag.KEYS:
            return
        requests = [(entry.command, arguments)]
    elif client.transaction is not None:
        requests = [(queued.command, words) for queued, words in client.transaction.queue]
    else:
        return
    server.redirects.check(requests, bits, is_readonly=client.is_readonly)


def _check_permission(
    server: "Server", client: Client, entry: "Entry", arguments: list[bytes]
) -> None:
    reason = None if client.user is None else client.user.denial(entry.command, arguments)
    if reason is None or (entry.bits & Flag.NO_AUTH):
        return
    kind, text, thing = reason
    if client.user is not None and client.user.name == b"default":
        _hide_forbidden(entry, arguments)
    context = "toplevel" if client.transaction is None else "multi"
    server.executor.log_denial(client, kind, "lua" if client.in_script else context, thing)
    raise Error(text)


def _hide_forbidden(entry: "Entry", arguments: list[bytes]) -> None:
    """Refuse a command that ElastiCache forbids as if there were none.

    Raises:
        Error: it is one of them.
    """
    name, _, sub = entry.name.partition("|")
    if name in FORBIDDEN_COMMANDS:
        raise unknown(arguments)
    if sub and entry.name in FORBIDDEN_COMMANDS:
        raise Error(f"ERR unknown subcommand '{printed(arguments[1])}'. Try {name.upper()} HELP.")


def _waits(server: "Server", client: Client, bits: int) -> bool:
    """Postpone a request if CLIENT PAUSE says so. Return whether it is postponed."""
    if server.clients.pauses_all or bits & (Flag.WRITE | Flag.MAY_WRITE):
        return client.postpone()
    return False
