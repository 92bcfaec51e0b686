"""Runs requests: finds the command, checks it, runs it, and propagates its effects.

The commands are in `entry`, the checks in `guards`.
"""

from collections.abc import Mapping
from time import perf_counter_ns
from typing import TYPE_CHECKING

from cachesim.embedded.answers import Answers
from cachesim.embedded.redis.connections.client import NO_REPLY, Answer, Client
from cachesim.embedded.redis.dispatch import guards
from cachesim.embedded.redis.dispatch.command_table import Flag
from cachesim.embedded.redis.dispatch.entry import Entries, Entry, Handler, wrong_arity
from cachesim.embedded.redis.dispatch.events import EventSource
from cachesim.protocols.resp import Error

if TYPE_CHECKING:
    from cachesim.embedded.redis.server import Server

_REDIRECTIONS = ("MOVED", "CROSSSLOT", "CLUSTERDOWN")
_OVERWRITE = {
    b"geosearchstore", b"georadius", b"georadiusbymember", b"sort", b"zdiffstore", b"zinterstore",
    b"zrangestore", b"zunionstore",
}  # fmt: skip
"""Commands that may overwrite a key of another type. Redis lets those who wait for it wait on."""
_READS = Flag.READONLY | Flag.KEYS
_READ_BY_SCRIPT = ("eval_ro", "evalsha_ro")  # their keys are read when the script reads any


class Executor:
    """Runs the requests of clients.

    Attributes:
        entries: the commands.
        guarded_flags: the flags of commands that are checked before they run, because of the state
            of the node; see `guards`.
        was_full: whether memory was full when the present script or transaction began.
        effects: the requests that the present command appends to the replication stream; None: the
            command as it was sent.
        event_source: runs the commands while keyspace notifications are on; None while off.
        answers: the rules of faults.
    """

    def __init__(self, server: "Server", handlers: Mapping[str, Handler]) -> None:
        self._server = server
        self.entries = Entries(handlers, server.table)
        self._by_name = self.entries.by_name
        self.guarded_flags = 0
        self.was_full = False
        self.effects: list[list[bytes]] | None = None
        self.event_source: EventSource | None = None
        self._batch: list[list[bytes]] | None = None
        self.answers = Answers()

    def notify(self, classes: str) -> None:
        """Set the events that are sent, as `notify-keyspace-events` does."""
        server, notifications = self._server, self._server.notifications
        notifications.configure(classes)
        are_on = notifications.are_on
        self.event_source = EventSource(server.store, notifications) if are_on else None

    # --- running ------------------------------------------------------------------------------

    def execute(self, client: Client, arguments: list[bytes]) -> Answer:
        """Run, queue, postpone or refuse a request; return its answer."""
        entry = self._by_name.get(arguments[0])
        if entry is None or entry.subentries or entry.handler is None:
            try:
                entry = self.entries.find(arguments)
            except Error as error:
                _break_transaction(client)
                return self.count_error(error)
        count, arity = len(arguments), entry.arity
        if count != arity and (arity > 0 or count < -arity):
            return self.count_error(self._refused(client, entry, arguments, wrong_arity(entry)))
        if (
            entry.bits & (self.guarded_flags | client.guarded_flags)
            or entry.command not in client.allowed
        ):
            try:
                answer = guards.check(self._server, client, entry, arguments)
            except Error as error:
                entry.rejected += 1
                return self.count_error(self._refused(client, entry, arguments, error))
            if answer is not None:
                return answer
        return self.call(client, entry, arguments)

    def call(self, client: Client, entry: Entry, arguments: list[bytes]) -> Answer:
        """Run a command without any check; return its answer."""
        server = self._server
        if server.monitors.by_id and entry.bits & Flag.SKIP_MONITOR:  # scripts, before their calls
            server.monitors.feed(server.wall(), client.address, arguments)
        begun = perf_counter_ns()
        try:
            if server.expiry.has_backlog:
                # Neither the command nor its effects on a replica may find expired keys.
                server.expiry.expire(entry.command.keys(arguments))
            if self.event_source is None:
                answer = entry.handler(client, arguments)  # type: ignore[misc]  # it has one
            else:
                answer = self.event_source.run(client, entry, arguments)
        except Error as error:
            entry.failed += 1
            answer = self.count_error(error)
        except Exception as error:
            entry.failed += 1
            server.log(f"{entry.name} failed: {error!r}", "#")
            answer = self.count_error(Error("ERR internal error"))
        taken = perf_counter_ns() - begun
        entry.nanoseconds += taken
        if answer is NO_REPLY:
            entry.unanswered += 1
        else:
            try:
                entry.durations[taken.bit_length()] += 1
            except KeyError:
                entry.durations[taken.bit_length()] = 1
        if (
            server.monitors.by_id
            and not entry.bits & (Flag.SKIP_MONITOR | Flag.ADMIN)
            and not (answer is NO_REPLY and entry.name == "exec")  # a script of its goes on
        ):
            server.monitors.feed(server.wall(), client.address, arguments)
        if taken > server.slow_after:
            self.log_slow(client, entry, arguments, taken)
        if server.store.dirty or self.effects is not None:
            self.propagate(client, arguments)
        elif (
            server.tracking.clients
            and entry.bits & _READS == _READS
            and entry.name not in _READ_BY_SCRIPT
        ):
            server.tracking.read(client, entry.command.keys(arguments))
        return answer

    def replay(self, client: Client, arguments: list[bytes]) -> None:
        """Run a request again that the primary or an earlier process has run.

        Args:
            client: a client with `is_replaying`.
        """
        entry = self._to_repeat(arguments)
        if entry is None:
            return
        store = self._server.store
        before, store.now = store.now, 0.0  # only the primary decides what has expired
        try:
            self.call(client, entry, arguments)
        finally:
            store.now = before

    def load(self, client: Client, arguments: list[bytes]) -> None:
        """Run a request that recreates data. It is not counted, and no client hears of it.

        Args:
            client: a client with `is_replaying`.
        """
        entry = self._to_repeat(arguments)
        if entry is None:
            return
        server = self._server
        store = server.store
        before, store.now = store.now, 0.0
        try:
            entry.handler(client, arguments)  # type: ignore[misc]  # it has one
        except Exception as error:
            server.log(f"== CRITICAL == can't repeat {entry.name}: {error!r}", "#")
        finally:
            store.now = before
        self.effects = None
        server.record_changes(store.dirty)
        store.dirty.clear()

    def _to_repeat(self, arguments: list[bytes]) -> Entry | None:
        entry = self._by_name.get(arguments[0])
        if entry is None or entry.handler is None or entry.subentries:
            try:
                entry = self.entries.find(arguments)
            except Error as error:
                self._server.log(f"== CRITICAL == can't repeat {arguments[0]!r}: {error}", "#")
        return entry

    def _refused(self, client: Client, entry: Entry, arguments: list[bytes], error: Error) -> Error:
        """Break the transaction of a refused request, and return the reply."""
        if entry.name == "exec":
            client.discard_transaction()
            code, _, rest = error.text.partition(" ")
            if code in _REDIRECTIONS:
                return error
            monitors = self._server.monitors
            if monitors.by_id:  # they have seen MULTI
                monitors.feed(self._server.wall(), client.address, arguments)
            reason = rest if code == "ERR" else error.text
            return Error(f"EXECABORT Transaction discarded because of: {reason}")
        _break_transaction(client)
        return error

    def count_error(self, error: Error) -> Error:
        """Count an error reply, and return it."""
        self._server.stats.error(error.text)
        return error

    def log_slow(
        self, client: Client, entry: Entry, arguments: list[bytes], nanoseconds: int
    ) -> None:
        """Add a request to the slow log."""
        self._server.slowlog.add(
            entry.name, arguments, nanoseconds // 1000, client.address, client.name
        )

    def log_denial(self, client: Client, reason: str, context: str, thing: bytes) -> None:
        """Add a refused request to the ACL log; see `AclLog.add`."""
        user = client.user.name if client.user is not None else b"default"
        self._server.acl_log.add(reason, context, thing, user, client.describe())

    # --- effects ------------------------------------------------------------------------------

    def propagate(self, client: Client, arguments: list[bytes]) -> None:
        """Append the effects of a command to the stream, and report the changed keys."""
        server = self._server
        dirty = server.store.dirty
        keys = dirty[:]
        dirty.clear()
        effects, self.effects = self.effects, None
        if client.is_replaying:
            server.keys_changed(keys, client)
            return
        if effects is None:
            effects = [arguments]
        if self._batch is not None:
            self._batch += effects
        else:
            server.stream.append_requests(effects)
            client.written_offset = server.stream.offset
        waiting = server.blocked_clients
        if waiting.everyone and arguments and arguments[0].lower() in _OVERWRITE:
            waiting.pass_over(key for key in keys if server.memory.knows(key))
        server.keys_changed(keys, client)

    def begin_batch(self) -> bool:
        """Collect effects until `end_batch`. Return False if a batch has already begun."""
        if self._batch is not None:
            return False
        self._batch = []
        self.was_full = self._server.memory.is_full
        return True

    def end_batch(self, client: Client) -> None:
        """Append the effects since `begin_batch` as one transaction of a client."""
        effects, self._batch = self._batch, None
        if not effects:
            return
        if len(effects) > 1:
            effects = [[b"MULTI"], *effects, [b"EXEC"]]
        self._server.stream.append_requests(effects)
        client.written_offset = self._server.stream.offset


def _break_transaction(client: Client) -> None:
    if client.transaction is not None:
        client.transaction.broken = True
