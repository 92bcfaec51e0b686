"""A running Redis process: everything that is gone when it is killed."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachesim.aio.turns import SLICE, Turns, discard
from cachesim.embedded.redis.admin.log import Log
from cachesim.embedded.redis.admin.settings import Settings
from cachesim.embedded.redis.admin.stats import AclLog, SlowLog, Stats
from cachesim.embedded.redis.cluster.bus import Bus, Connect
from cachesim.embedded.redis.cluster.gossip import ALL_SLOTS, Member
from cachesim.embedded.redis.cluster.slots import Cluster
from cachesim.embedded.redis.commands import handlers
from cachesim.embedded.redis.config import RedisNodeConfig
from cachesim.embedded.redis.connections.blocked import Waiting
from cachesim.embedded.redis.connections.client import Client
from cachesim.embedded.redis.connections.pubsub import PubSub
from cachesim.embedded.redis.connections.tracking import Tracking
from cachesim.embedded.redis.dispatch.acl import AccessControl
from cachesim.embedded.redis.dispatch.command_table import ANY, Flag
from cachesim.embedded.redis.dispatch.executor import Executor
from cachesim.embedded.redis.keyspace.memory import Memory
from cachesim.embedded.redis.keyspace.snapshot import Snapshot
from cachesim.embedded.redis.replication.aof import AppendOnlyFile, Draft, requests_in
from cachesim.embedded.redis.replication.backlog import Stream, new_id
from cachesim.embedded.redis.replication.primary import Replicas
from cachesim.embedded.redis.replication.replica import Following
from cachesim.embedded.redis.scripting.functions import Functions
from cachesim.embedded.redis.scripting.scripts import Scripts
from cachesim.protocols.resp import Error, request

if TYPE_CHECKING:
    from cachesim.embedded.redis.connections.session import Session

_TICK = 0.1  # seconds
_ACKNOWLEDGE = 1.0  # seconds
AOF_NAME = "appendonly.aof"
NODES_NAME = "nodes.conf"
_EXPIRED = 100
"""How many expired keys are removed before a request; more wait for a turn of their own."""
_WORTHLESS = 1 << 20
"""Bytes of an append-only file that are not kept when all data is deleted."""


class Server:
    """The process of a node.

    Args:
        turns: for whatever takes long.
        connect: connects a protocol to a peer.
        clock: monotonic seconds.
        wall: seconds since the epoch.

    Attributes:
        connect: as above; TLS begins in it.
        is_paused: whether the process stands still.
        is_stopped: whether it has ended.
        loading: whether it takes its data from a file. It knows others then, but serves nobody.
        is_behind: whether there are keys that have expired and are not removed yet.
    """

    def __init__(
        self,
        config: RedisNodeConfig,
        *,
        loop: asyncio.AbstractEventLoop,
        turns: Turns,
        connect: Connect,
        clock: Callable[[], float],
        wall: Callable[[], float],
        log: Log,
    ) -> None:
        from cachesim.embedded.redis.keyspace.keyspace import Keyspace

        self.config = config
        self.loop = loop
        self.turns = turns
        self.connect = connect
        self.clock = clock
        self.wall = wall
        self.log = log
        self.run_id = new_id()
        self.started = clock()
        self.is_paused = self.is_stopped = self.loading = self.is_behind = False
        self.settings = Settings(_settings(config), self._settings_changed)
        self.stats = Stats()
        self.slowlog = SlowLog()
        self.acl_log = AclLog()
        self.acl = AccessControl(config.users.items())
        self.store = Keyspace()
        self.memory = Memory(self.store, self.settings.number("maxmemory"))
        self.stream = Stream(self.settings.number("repl-backlog-size"))
        self.stream.wants_flush = self._flush_soon
        self.executor = Executor(self, handlers())
        self.pubsub = PubSub()
        self.scripts = Scripts(self)
        self.functions = Functions(self)
        self.tracking = Tracking()
        self.waiting = Waiting(lambda: self.scripts.running is None)
        self.replicas = Replicas(self)
        self.following: Following | None = None
        self.bus = Bus(self, connect)
        self.sessions: dict[int, Session] = {}
        self.monitors: dict[Session, None] = {}
        self.watchers: dict[bytes, dict[Client, None]] = {}
        self.paused_until = 0.0
        self.pauses_all = False
        self._next_id = 1
        self._tasks: set[asyncio.Task[None]] = set()
        self._deferred: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._has_flush = False
        self._acknowledged_at = clock()
        self._timer: asyncio.TimerHandle | None = None
        self._snapshots: list[Snapshot] = []
        self._rewriting: Draft | None = None
        self.aof = AppendOnlyFile(config.directory / AOF_NAME, log, clock, turns)
        self.cluster = Cluster(self)
        self.view = self.cluster.view
        self._apply_settings()

    # --- life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Load the data, and begin. It may take a while, and others are served meanwhile."""
        first = not (self.config.directory / NODES_NAME).exists()
        self.log(f"Running mode=cluster, port={self.config.nodes[self.config.name].port}.")
        self.cluster.save()
        begun = self.clock()

        def loaded() -> None:
            if self.aof.size:
                took = self.clock() - begun
                self.log(f"DB loaded from append only file: {took:.3f} seconds")
            self._loaded(first=first)

        self._load(self.aof.load(), loaded)
        self._tick()

    def _load(self, requests: Iterable[list[bytes]], done: Callable[[], None]) -> None:
        """Repeat what makes the data."""
        self.loading = True
        self.loading_since = self.wall()
        self.look()
        client = Client(self, None, obeyed=True)

        def steps() -> Iterator[None]:
            for arguments in requests:
                self.repeat(client, arguments)
                yield

        def end() -> None:
            self.loading = False
            done()
            self.look()

        self.turns.run(steps(), end, self.turns.now() + SLICE)

    def _loaded(self, *, first: bool) -> None:
        if first:
            # All nodes begin with the same data, none: nothing need be sent to the replicas.
            self.stream.id = _first_history(self.config)
            self.stream.activate()
        # A file that is much longer than its data is written anew as soon as it is large.
        self.aof.base_size = min(self.aof.size, self.memory.dataset)
        self.stream.sinks += (self._count_backlog, self.aof.append)
        self.log("Ready to accept connections")
        primary = self.view.me.primary
        if self.following is not None:
            self.following.connect()
        elif primary is not None:
            self.log.role = "S"
            self.follow(self.view.members[primary])

    def _count_backlog(self, _data: bytes) -> None:
        # No more than the setting says, as in Redis.
        limit = self.settings.number("repl-backlog-size")
        self.memory.backlog = min(self.stream.backlog_length, limit)

    def stop(self, *, orderly: bool) -> None:
        """End. Connections are reset, or closed when everything is sent."""
        self.is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if orderly:
            self.log("User requested shutdown...", "#")
            self.stream.flush()
            self.aof.sync()
            self.log("Redis is now ready to exit, bye bye...", "#")
        else:
            # Replicas learn nothing any more, but what was answered is in the file.
            self.stream.sinks = [self.aof.append]
            self.stream.flush()
        self.scripts.close()
        if self.following is not None:
            self.following.stop()
        for session in list(self.sessions.values()):
            (session.transport.close if orderly else session.transport.abort)()
        self.bus.close()
        for task in list(self._tasks):
            task.cancel()
        self.aof.close()
        self._cancel_snapshots()
        discard(self.loop, *self.store.clear(), self.memory.clear())

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something besides; it ends with the process."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- standing still -----------------------------------------------------------------------

    def defer(self, act: Callable[..., None], *arguments: Any) -> bool:
        """Put something off while the process stands still; whether it does."""
        if self.is_paused and not self.is_stopped:
            self._deferred.append((act, arguments))
            return True
        return self.is_stopped

    def put_off(self, act: Callable[..., None], *arguments: Any) -> bool:
        """As `defer`, and until the script that runs has ended; whether one does."""
        return self.defer(act, *arguments) or self.scripts.defer(act, *arguments)

    def pause(self) -> None:
        """Stand still."""
        self.is_paused = True

    def resume(self) -> None:
        """Go on."""
        self.is_paused = False
        deferred, self._deferred = self._deferred, []
        for act, arguments in deferred:
            act(*arguments)

    # --- time -------------------------------------------------------------------------------

    @property
    def node_timeout(self) -> float:
        """`cluster-node-timeout` in seconds."""
        return self.settings.number("cluster-node-timeout") / 1000

    def _tick(self) -> None:
        if self.put_off(self._tick):
            return
        self._timer = self.loop.call_later(_TICK, self._tick)
        self.bus.tick()
        self.view.tick()
        if self.loading:
            return
        self.begin()
        if self.following is not None:
            self.following.tick()
            now = self.clock()
            link = self.following.link
            is_due = now - self._acknowledged_at >= _ACKNOWLEDGE
            if is_due and link is not None and link.state == "connected":
                self._acknowledged_at = now
                link.acknowledge()
        self.replicas.tick()
        self.aof.tick()
        self._rewrite_if_due()
        if self.paused_until and self.paused_until <= self.clock():
            self.end_client_pause()

    def begin(self) -> None:
        """Let what follows see the present time, and remove what has expired.

        Within a script time stands still.
        """
        if self.scripts.running is not None:
            return
        store = self.store
        store.now = self.wall()
        # Only a primary says what has expired.
        if store.has_expired and self.following is None and not self.loading:
            self.expire(store.expired(_EXPIRED))
            if not self.is_behind and store.has_expired:
                self.is_behind = True
                self.turns.add(self._expire, besides=True)

    def _expire(self, until: float) -> None:
        """Remove what has expired, as far as time allows."""
        if self.scripts.defer(self._expire, 0.0):
            return
        while self.is_behind and self.turns.now() < until:
            self.expire(self.store.expired(_EXPIRED))
            self.is_behind = self.store.has_expired
        if self.is_behind:
            self.turns.add(self._expire, besides=True)

    def expire(self, gone: Sequence[bytes]) -> None:
        """Let everybody know of keys that were removed as they had expired."""
        if gone:
            self.stats.expired += len(gone)
            self.stream.append_requests([[b"DEL", key] for key in gone])
            self.changed(gone)
            if self.waiting.everyone:
                self.waiting.serve()

    def _flush_soon(self) -> None:
        # After the answer, but at once, as Redis does: what a client was told is on its way to the
        # replicas then, and few writes are lost with a primary that dies.
        if not self._has_flush:
            self._has_flush = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._has_flush = False
        if not self.defer(self.stream.flush):
            self.stream.flush()

    # --- clients ----------------------------------------------------------------------------

    def join(self, session: "Session") -> None:
        """A client has connected."""
        session.id = self._next_id
        self._next_id += 1
        self.stats.connections += 1
        if len(self.sessions) >= self.settings.number("maxclients"):
            self.stats.rejected_connections += 1
            session.is_closing = True
            session.transport.write(b"-ERR max number of clients reached\r\n")
            session.transport.close()
            return
        self.sessions[session.id] = session

    def leave(self, session: "Session") -> None:
        """A client is gone."""
        self.sessions.pop(session.id, None)
        self.monitors.pop(session, None)
        self.pubsub.leave(session)
        self.unwatch(session)
        self.replicas.leave(session)
        self.tracking.stop(session)

    def unwatch(self, client: Client) -> None:
        """Watch no keys for a client any more."""
        for key in client.watched:
            if (watchers := self.watchers.get(key)) is not None:
                watchers.pop(client, None)
                if not watchers:
                    del self.watchers[key]
        client.watched.clear()
        client.watch_failed = False

    def discard(self, client: Client) -> None:
        """Forget a transaction."""
        client.end_transaction()
        self.unwatch(client)

    def pause_clients(self, seconds: float, *, everything: bool) -> None:
        """`CLIENT PAUSE`: let requests wait, or only those that write."""
        self.paused_until = max(self.paused_until, self.clock() + seconds)
        self.pauses_all = everything or (self.pauses_all and bool(self.paused_until))
        self.look()

    def end_client_pause(self) -> None:
        """`CLIENT UNPAUSE`."""
        self.paused_until = 0.0
        self.look()
        for session in list(self.sessions.values()):
            if session.is_postponed:
                session.is_postponed = False
                self.loop.call_soon(session.go_on)

    # --- data -------------------------------------------------------------------------------

    @property
    def slow_after(self) -> int:
        """Nanoseconds after which a request is slow."""
        return self._slow_after

    def changed(self, keys: Sequence[bytes], by: Client | None = None) -> None:
        """Keys have got other values, by a client's command if not by themselves."""
        was_full = self.memory.is_full
        self.recorded(keys)
        if self.memory.is_full is not was_full:
            self.look()
        if self.watchers:
            for key in keys:
                for watcher in self.watchers.get(key, ()):
                    watcher.watch_failed = True
        if self.waiting.everyone:
            self.waiting.changed(keys)
        if self.tracking.sessions:
            self.tracking.changed(keys, by)

    def recorded(self, keys: Sequence[bytes]) -> None:
        """Keys have got other values, of which no client need hear."""
        self.memory.changed(keys)
        for snapshot in self._snapshots:
            snapshot.changed(keys)

    def show(self, client: Client, arguments: list[bytes]) -> None:
        """Tell those who monitor of a request."""
        now = self.wall()
        source = getattr(client, "address", "lua")
        shown = " ".join(_quoted(word) for word in arguments)
        line = f"+{int(now)}.{int(now % 1 * 1_000_000):06} [0 {source}] {shown}\r\n"
        for session in list(self.monitors):
            session.send(line.encode("latin-1"))

    def repeat(self, client: Client, arguments: list[bytes]) -> None:
        """Do what was done elsewhere, or before."""
        entry = self.executor.entries.get(arguments[0])
        if entry is None or entry.handler is None or entry.subentries:
            try:
                entry = self.executor.find(arguments)
            except Error as error:
                self.log(f"== CRITICAL == can't repeat {arguments[0]!r}: {error}", "#")
                return
        before, self.store.now = self.store.now, 0.0
        try:
            self.executor.call(client, entry, arguments)
        finally:
            self.store.now = before

    def replace_data(
        self, draft: Draft, history: str, offset: int, done: Callable[[], None]
    ) -> None:
        """Take the primary's data in the place of one's own.

        Args:
            draft: has the data.
            done: called when it was taken.
        """
        self.log("MASTER <-> REPLICA sync: Loading DB in memory")
        self._cancel_snapshots()
        self.clear()
        self.functions.clear()
        draft.end()

        def loaded() -> None:
            self.stream.restart(history, offset)
            self.aof.replace(draft)
            self.log("MASTER <-> REPLICA sync: Finished with success")
            done()

        self._load(requests_in(draft.path), loaded)

    def clear(self) -> None:
        """Delete everything."""
        gone = self.store.clear()
        sizes = self.memory.clear()
        for snapshot in self._snapshots:
            snapshot.flushed()
        self.tracking.flushed()
        # Of the others nobody wants to hear.
        self.changed([key for key in (*self.watchers, *self.waiting.keys) if key in gone[0]])
        discard(self.loop, *gone, sizes)
        if self.aof.size > _WORTHLESS and not self.loading:
            self.rewrite_aof()

    def snapshot(self, write: Callable[[bytes], object], done: Callable[[], None]) -> None:
        """Dump everything, and go on with requests meanwhile.

        Args:
            write: see `Snapshot`.
            done: called when it is the data of the present moment that was written.
        """
        snapshot = Snapshot(self.store, self.functions.requests, write)
        self._snapshots.append(snapshot)

        def steps() -> Iterator[None]:
            for _ in snapshot.steps():
                if snapshot not in self._snapshots:
                    return
                yield

        def end() -> None:
            if snapshot not in self._snapshots:
                return
            if self.scripts.defer(end):
                return  # its effects are not in the stream yet
            self.stream.flush()
            snapshot.finish()
            self._snapshots.remove(snapshot)
            self.stream.select_again()
            done()

        self.turns.run(steps(), end)

    def _cancel_snapshots(self) -> None:
        self._snapshots.clear()
        self.replicas.drop_all()
        if self._rewriting is not None:
            self._rewriting.discard()
            self._rewriting = None

    @property
    def is_rewriting(self) -> bool:
        """Whether the append-only file is written anew."""
        return self._rewriting is not None

    def rewrite_aof(self) -> None:
        """`BGREWRITEAOF`."""
        if self._rewriting is not None or self.loading:
            return
        self.log("Background append only file rewriting started")
        draft = self._rewriting = self.aof.draft()
        draft.write(request([b"SELECT", b"0"]))

        def done() -> None:
            self.aof.replace(draft)
            self._rewriting = None
            self.log("Background AOF rewrite finished successfully")

        self.snapshot(draft.write, done)

    def reset_stats(self) -> None:
        """`CONFIG RESETSTAT`."""
        self.stats.__init__()  # type: ignore[misc]  # as new
        for entry in self.executor.by_command.values():
            entry.reset()

    def _rewrite_if_due(self) -> None:
        percentage = self.settings.number("auto-aof-rewrite-percentage")
        aof = self.aof
        if not percentage or aof.size < self.settings.number("auto-aof-rewrite-min-size"):
            return
        if aof.size >= aof.base_size * (100 + percentage) / 100:
            self.rewrite_aof()

    # --- replication --------------------------------------------------------------------------

    @property
    def is_replica(self) -> bool:
        """Whether it follows a primary."""
        return self.following is not None

    @property
    def has_enough_replicas(self) -> bool:
        """Whether `min-replicas-to-write` lets writes through."""
        wanted = self.settings.number("min-replicas-to-write")
        if not wanted or self.is_replica:
            return True
        return self.replicas.healthy(self.settings.number("min-replicas-max-lag")) >= wanted

    def follow(self, primary: Member) -> None:
        """Become a replica of another node, when the script that runs has ended."""
        if self.scripts.defer(self.follow, primary):
            return
        self.stream.flush()
        self.is_behind = False
        if self.following is None:
            self.log.role = "S"
            self._unblock_all()
            self.stream.forget_former()
        else:
            self.following.stop()
        self.replicas.drop_all()
        self.following = Following(self, primary)
        self.following.connect()
        self.look()

    def lead(self) -> None:
        """Become a primary, when the script that runs has ended."""
        if self.scripts.defer(self.lead):
            return
        if self.following is None:
            return
        self.following.stop()
        self.following = None
        self.log.role = "M"
        self.log("MASTER MODE enabled (user request)")
        self.stream.branch()
        self.replicas.drop_all()
        self.look()
        self.begin()

    def acknowledged(self) -> None:
        """A replica has come further: those who wait for that may go on."""
        for blocked in list(self.waiting.everyone):
            if not blocked.keys:
                blocked.session.try_again(blocked)

    def _unblock_all(self) -> None:
        for blocked in list(self.waiting.everyone):
            blocked.session.unblock(
                Error(
                    "UNBLOCKED force unblock from blocking operation, instance state changed "
                    "(master -> replica?)"
                )
            )
            blocked.session.close()

    # --- what needs a look --------------------------------------------------------------------

    def look(self) -> None:
        """Work out which commands need a look before they run."""
        attention = Flag.SEVERAL_KEYS
        view = self.view
        if self.is_replica or not view.is_ok or view.me.slots != ALL_SLOTS:
            attention |= Flag.KEYS | Flag.WRITE
        if self.settings.number("min-replicas-to-write"):
            attention |= Flag.WRITE
        if self.memory.is_full:
            attention |= Flag.DENYOOM
        is_special = self.paused_until or self.loading or self.scripts.running is not None
        self.executor.attention = ANY if is_special else int(attention)

    def _settings_changed(self, _names: Sequence[str]) -> None:
        self._apply_settings()
        self.look()

    def _apply_settings(self) -> None:
        slower = self.settings.number("slowlog-log-slower-than")
        self._slow_after = slower * 1000 if slower >= 0 else 1 << 62
        self.slowlog.limit = self.settings.number("slowlog-max-len")
        self.memory.limit = self.settings.number("maxmemory")
        self.memory.check()
        self.stream.resize(self.settings.number("repl-backlog-size"))


def _quoted(word: bytes) -> str:
    escapes = {0x22: '\\"', 0x5C: "\\\\", 10: "\\n", 13: "\\r", 9: "\\t", 7: "\\a", 8: "\\b"}
    shown = (escapes.get(c) or (chr(c) if 32 <= c < 127 else f"\\x{c:02x}") for c in word)
    return f'"{"".join(shown)}"'


def _settings(config: RedisNodeConfig) -> dict[str, str]:
    """Return the settings of a node, with those that are true of emulated nodes alone."""
    return {
        **config.settings,
        "bind": "127.0.0.1",
        "dir": str(config.directory),
        "daemonize": "no",
        "enable-debug-command": "no",
        "cluster-config-file": NODES_NAME,
        "masteruser": config.replication_user,
        "masterauth": config.replication_password,
    }


def _first_history(config: RedisNodeConfig) -> str:
    ids = " ".join(sorted(address.id for address in config.nodes.values()))
    return hashlib.sha1(ids.encode(), usedforsecurity=False).hexdigest()


def read_nodes(path: Path) -> str | None:
    """What was kept of the cluster, if there is anything."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    return None
