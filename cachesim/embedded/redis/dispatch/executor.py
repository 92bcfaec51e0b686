"""From a request to its reply. Checks have the order and the error texts of Redis."""

from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import TYPE_CHECKING

from cachesim.embedded.redis.connections.client import NO_REPLY, Answer, Client
from cachesim.embedded.redis.dispatch.command_table import Command, Flag, commands
from cachesim.embedded.redis.keyspace.values import printed
from cachesim.protocols.resp import Error

if TYPE_CHECKING:
    from cachesim.embedded.redis.server import Server

Handler = Callable[[Client, list[bytes]], Answer]
"""Runs a command, given all arguments, the name included. It raises `Error` to reply with one."""

_REDIRECTIONS = ("MOVED", "CROSSSLOT", "CLUSTERDOWN")
_READS = Flag.READONLY | Flag.KEYS
_NOT_QUEUED = {"exec", "discard", "multi", "watch", "quit", "reset"}
_WITH_SUBSCRIPTIONS = {
    "ping", "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe",
    "sunsubscribe", "quit", "reset",
}  # fmt: skip


class Entry:
    """A command in a node, with its handler and its counters.

    Attributes:
        handler: None if the command is not served.
        subentries: of its subcommands, by name in lower case.
        calls: how often it has run.
        nanoseconds: how long it has run.
        rejected: how often it was refused before it ran.
        failed: how often it has run and returned an error.
    """

    __slots__ = (
        "arity", "bits", "calls", "command", "failed", "handler", "name", "nanoseconds",
        "rejected", "subentries",
    )  # fmt: skip

    def __init__(
        self, command: Command, handler: Handler | None, subentries: Mapping[bytes, "Entry"]
    ) -> None:
        self.command = command
        self.name = command.name
        self.arity = command.arity
        self.bits = command.bits
        self.handler = handler
        self.subentries = subentries
        self.reset()

    def reset(self) -> None:
        """Set all counters to 0."""
        self.calls = self.nanoseconds = self.rejected = self.failed = 0


class Executor:
    """Runs the requests of clients.

    Attributes:
        attention: flags of commands that need a look before they run, because of what the node is
            now: a replica looks at all that have keys, a full one at all that take memory. Most
            commands need none, and run at once.
        entries: the commands by name, in lower and in upper case.
        effects: the requests that replicas repeat for the command that runs now, if they differ
            from the request itself.
    """

    def __init__(self, server: "Server", handlers: Mapping[str, Handler]) -> None:
        self._server = server
        self.attention = 0
        self.effects: list[list[bytes]] | None = None
        self._batch: list[list[bytes]] | None = None
        self.entries: dict[bytes, Entry] = {}
        self.by_command: dict[Command, Entry] = {}
        for command in commands().values():
            entry = self._entry(command, handlers)
            self.entries[command.name.encode()] = entry
            self.entries[command.name.upper().encode()] = entry

    def _entry(self, command: Command, handlers: Mapping[str, Handler]) -> Entry:
        subentries = {
            name.encode(): self._entry(sub, handlers) for name, sub in command.subcommands.items()
        }
        entry = Entry(command, handlers.get(command.name), subentries)
        self.by_command[command] = entry
        return entry

    # --- lookup -----------------------------------------------------------------------------

    def find(self, arguments: list[bytes]) -> Entry:
        """Return the command of a request.

        Raises:
            Error: it does not exist, or does not take so many arguments.
        """
        entry = self.entries.get(arguments[0]) or self.entries.get(arguments[0].lower())
        if entry is None:
            raise unknown(arguments)
        count = len(arguments)
        if entry.subentries and count > 1:
            subentry = entry.subentries.get(arguments[1].lower())
            if subentry is not None:
                entry = subentry
            elif entry.handler is None or entry.name != "command":
                raise Error(
                    f"ERR unknown subcommand '{printed(arguments[1])}'. "
                    f"Try {entry.name.upper()} HELP."
                )
        if entry.handler is None and not entry.subentries:
            raise unknown(arguments)
        arity = entry.arity
        if (count != arity and (arity > 0 or count < -arity)) or entry.handler is None:
            raise Error(f"ERR wrong number of arguments for '{entry.name}' command")
        return entry

    # --- running ----------------------------------------------------------------------------

    def execute(self, client: Client, arguments: list[bytes]) -> Answer:
        """Run, queue or refuse a request. Return the reply."""
        entry = self.entries.get(arguments[0])
        if entry is None or entry.subentries or entry.handler is None:
            try:
                entry = self.find(arguments)
            except Error as error:
                self._break(client)
                return self.failed(error)
        count, arity = len(arguments), entry.arity
        if count != arity and (arity > 0 or count < -arity):
            refusal = Error(f"ERR wrong number of arguments for '{entry.name}' command")
            return self.failed(self._rejected(client, entry, refusal))
        if entry.bits & (self.attention | client.attention) or entry.command not in client.allowed:
            try:
                queued = self._check(client, entry, arguments)
            except Error as error:
                entry.rejected += 1
                return self.failed(self._rejected(client, entry, error))
            if queued is not None:
                return queued
        return self.call(client, entry, arguments)

    def call(self, client: Client, entry: Entry, arguments: list[bytes]) -> Answer:
        """Run a command without checks. Return the reply."""
        server = self._server
        if server.monitors and not entry.bits & (Flag.SKIP_MONITOR | Flag.ADMIN):
            server.show(client, arguments)
        begun = perf_counter_ns()
        try:
            if server.is_behind:
                # Keys that have expired are deleted first, so that replicas see the same keys.
                server.expire(server.store.lapsed(entry.command.keys(arguments)))
            answer = entry.handler(client, arguments)  # type: ignore[misc]  # it has one
        except Error as error:
            entry.failed += 1
            answer = self.failed(error)
        except Exception as error:
            entry.failed += 1
            server.log(f"{entry.name} failed: {error!r}", "#")
            answer = self.failed(Error("ERR internal error"))
        taken = perf_counter_ns() - begun
        entry.calls += 1
        entry.nanoseconds += taken
        if taken > server.slow_after:
            self.log_slow(client, entry, arguments, taken)
        if server.store.dirty or self.effects is not None:
            self.written(client, arguments)
        elif server.tracking.sessions and entry.bits & _READS == _READS:
            server.tracking.read(client, entry.command.keys(arguments))
        return answer

    def written(self, client: Client, arguments: list[bytes]) -> None:
        """Replicate what a command has changed, and tell all who watch or wait for its keys."""
        server = self._server
        dirty = server.store.dirty
        keys = dirty[:]
        dirty.clear()
        effects, self.effects = self.effects, None
        if client.obeyed:
            server.recorded(keys)
            return
        if effects is None:
            effects = [arguments]
        if self._batch is not None:
            self._batch += effects
        else:
            server.stream.append_requests(effects)
            client.written_offset = server.stream.offset
        server.changed(keys, client)

    def begin_together(self) -> bool:
        """Collect effects until `end_together`, so that replicas repeat all of them or none.

        Return False if that has begun already.
        """
        if self._batch is not None:
            return False
        self._batch = []
        return True

    def end_together(self, client: Client) -> None:
        """Replicate the effects since `begin_together`, which are those of a client."""
        effects, self._batch = self._batch, None
        if not effects:
            return
        if len(effects) > 1:
            effects = [[b"MULTI"], *effects, [b"EXEC"]]
        self._server.stream.append_requests(effects)
        client.written_offset = self._server.stream.offset

    def failed(self, error: Error) -> Error:
        """Count an error, and return it."""
        self._server.stats.error(error.text)
        return error

    def log_slow(
        self, client: Client, entry: Entry, arguments: list[bytes], nanoseconds: int
    ) -> None:
        """Add a request to the slow log."""
        address = getattr(client, "address", "")
        slowlog = self._server.slowlog
        slowlog.add(entry.name, arguments, nanoseconds // 1000, address, client.name)

    def log_denial(self, client: Client, reason: str, context: str, thing: bytes) -> None:
        """Add a refused request to the ACL log; see `AclLog.add`."""
        user = client.user.name if client.user is not None else b"default"
        self._server.acl_log.add(reason, context, thing, user, client.describe())

    # --- checks -----------------------------------------------------------------------------

    def _break(self, client: Client) -> None:
        if client.transaction is not None:
            client.transaction.broken = True

    def _rejected(self, client: Client, entry: Entry, error: Error) -> Error:
        if entry.name == "exec":
            self._server.discard(client)
            code, _, rest = error.text.partition(" ")
            if code in _REDIRECTIONS:
                return error
            reason = rest if code == "ERR" else error.text
            return Error(f"EXECABORT Transaction discarded because of: {reason}")
        self._break(client)
        return error

    def _check(self, client: Client, entry: Entry, arguments: list[bytes]) -> Answer:
        """Make all checks in Redis's order. Return None if the command may run, else the reply."""
        server, name, bits = self._server, entry.name, entry.bits
        script = server.scripts.running
        if script is not None and not script.is_slow:
            server.scripts.postpone(client)
            return NO_REPLY
        transaction = client.transaction
        if name == "exec" and transaction is not None:
            bits |= transaction.bits
        if client.user is None and not bits & Flag.NO_AUTH:
            raise Error("NOAUTH Authentication required.")
        if transaction is not None and bits & Flag.NO_MULTI:
            raise Error("ERR Command not allowed inside a transaction")
        if client.user is not None and entry.command not in client.user.allowed:
            self._check_permission(client, entry, arguments)
        if not client.obeyed:
            if bits & Flag.KEYS and name != "exec":
                server.cluster.check(client, entry.command, arguments, bits)
            elif name == "exec" and transaction is not None:
                server.cluster.check_all(client, transaction.queue, bits)
            self.check_state(client, entry, bits)
        if client.subscriptions and client.resp == 2 and name not in _WITH_SUBSCRIPTIONS:
            raise Error(
                f"ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / "
                "QUIT / RESET are allowed in this context"
            )
        if server.loading and not bits & Flag.LOADING:
            raise Error("LOADING Redis is loading the dataset in memory")
        if script is not None and not bits & Flag.ALLOW_BUSY:
            raise Error(script.busy)
        if server.paused_until and not client.obeyed and self._must_wait(client, bits):
            return NO_REPLY
        if transaction is not None and name not in _NOT_QUEUED:
            if not transaction.broken and not client.watch_failed:
                transaction.queue.append((entry, arguments))
                transaction.bits |= bits
            return "QUEUED"
        return None

    def check_state(self, client: Client, entry: Entry, bits: int) -> None:
        """Check that the node can run a command now.

        Raises:
            Error: OOM, NOREPLICAS or READONLY.
        """
        server = self._server
        takes_memory = bits & Flag.DENYOOM or (
            client.transaction is not None and entry.name not in _NOT_QUEUED - {"multi", "watch"}
        )
        if takes_memory and server.memory.is_full:
            raise Error("OOM command not allowed when used memory > 'maxmemory'.")
        if bits & Flag.WRITE:
            if not server.has_enough_replicas:
                raise Error("NOREPLICAS Not enough good replicas to write.")
            if server.is_replica:
                raise Error("READONLY You can't write against a read only replica.")

    def _must_wait(self, client: Client, bits: int) -> bool:
        """Return whether CLIENT PAUSE delays a request. The connection keeps it then."""
        if self._server.pauses_all or bits & (Flag.WRITE | Flag.MAY_WRITE):
            return client.postpone()
        return False

    def _check_permission(self, client: Client, entry: Entry, arguments: list[bytes]) -> None:
        reason = None if client.user is None else client.user.denial(entry.command, arguments)
        if reason is None or (entry.bits & Flag.NO_AUTH):
            return
        kind, text, thing = reason
        context = "toplevel" if client.transaction is None else "multi"
        self.log_denial(client, kind, "lua" if client.in_script else context, thing)
        raise Error(text)


def unknown(arguments: list[bytes]) -> Error:
    """Return the error for a command that does not exist."""
    shown, room = "", 128
    for argument in arguments[1:]:
        if len(shown.encode(errors="surrogateescape")) >= room:
            break
        left = room - len(shown.encode(errors="surrogateescape"))
        shown += f"'{printed(argument[:left])}' "
    return Error(
        f"ERR unknown command '{printed(arguments[0][:128])}', with args beginning with: {shown}"
    )
