"""An emulated Redis process: its parts, start and stop, pausing, time, changed keys, and role."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from cachesim.aio.scheduler import Scheduler, discard
from cachesim.embedded.redis.admin.composed import limits_of_classes
from cachesim.embedded.redis.admin.log import Log
from cachesim.embedded.redis.admin.settings import Settings
from cachesim.embedded.redis.admin.stats import AclLog, SlowLog, Stats
from cachesim.embedded.redis.admin.versions import version_of
from cachesim.embedded.redis.cluster.bus import Bus, Connect
from cachesim.embedded.redis.cluster.membership import Membership
from cachesim.embedded.redis.cluster.nodes import Member
from cachesim.embedded.redis.cluster.redirects import Redirects
from cachesim.embedded.redis.config import AOF_NAME, RedisNodeConfig, initial_settings
from cachesim.embedded.redis.connections.blocked import BlockedClients
from cachesim.embedded.redis.connections.client import Client
from cachesim.embedded.redis.connections.clients import Clients
from cachesim.embedded.redis.connections.monitors import Monitors
from cachesim.embedded.redis.connections.notifications import Notifications, expiry_events
from cachesim.embedded.redis.connections.pubsub import PubSub
from cachesim.embedded.redis.connections.tracking import Tracking
from cachesim.embedded.redis.connections.watched_keys import WatchedKeys
from cachesim.embedded.redis.dispatch.acl import AccessControl
from cachesim.embedded.redis.dispatch.command_table import commands
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.dispatch.executor import Executor
from cachesim.embedded.redis.dispatch.guards import guarded_flags
from cachesim.embedded.redis.keyspace.expiry import ExpiryCycle
from cachesim.embedded.redis.keyspace.memory import Memory
from cachesim.embedded.redis.replication.aof import AppendOnlyFile
from cachesim.embedded.redis.replication.aof_rewrite import AofRewrite
from cachesim.embedded.redis.replication.backlog import Stream, first_id, new_id
from cachesim.embedded.redis.replication.loading import Loader
from cachesim.embedded.redis.replication.primary import Replicas
from cachesim.embedded.redis.replication.replica import ReplicaLink
from cachesim.embedded.redis.replication.snapshots import Snapshots
from cachesim.embedded.redis.scripting.functions import Functions
from cachesim.embedded.redis.scripting.runner import ScriptRunner
from cachesim.embedded.redis.scripting.scripts import Scripts

_TICK = 0.1  # seconds


class Server:
    """The process of a node.

    Args:
        handlers: the handlers by command name.
        scheduler: runs long work in time slices.
        connect: connects a protocol to a peer, with TLS if the peers use it.
        clock: returns monotonic seconds.
        wall: returns seconds since the epoch.

    Attributes:
        version, table: its version, and the commands of that.
        started: the time of its start, by `clock`.
        is_paused: whether it is paused (SIGSTOP).
        is_stopped: whether it has ended.
        slow_after: the nanoseconds after which a request goes into the slow log.
        replica_link: the link to the primary; None on a primary.
    """

    def __init__(
        self,
        config: RedisNodeConfig,
        handlers: Mapping[str, Handler],
        *,
        loop: asyncio.AbstractEventLoop,
        scheduler: Scheduler,
        connect: Connect,
        clock: Callable[[], float],
        wall: Callable[[], float],
        log: Log,
    ) -> None:
        from cachesim.embedded.redis.keyspace.keyspace import Keyspace

        self.config = config
        self.loop = loop
        self.scheduler = scheduler
        self.connect = connect
        self.clock = clock
        self.wall = wall
        self.log = log
        self.run_id = new_id()
        self.started = clock()
        self.is_paused = self.is_stopped = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._deferred: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._has_flush = False

        self.settings = Settings(initial_settings(config), self._apply_settings)
        self.stats = Stats()
        self.slowlog = SlowLog()
        self.acl_log = AclLog()
        self.version = version_of(config.engine, config.redis_version)
        self.table = commands(self.version.releases)
        self.acl = AccessControl(config.users.items(), self.table)
        self.script_runner = ScriptRunner(self)
        self.scripts = Scripts(self.script_runner)
        self.functions = Functions(self.script_runner, log)

        self.store = Keyspace()
        self.memory = Memory(self.store, self.settings.number("maxmemory"))
        defer = self.script_runner.defer
        self.expiry = ExpiryCycle(self.store, scheduler, self._expired, defer)
        self.stream = Stream(self.settings.number("repl-backlog-size"))
        self.stream.wants_flush = self._flush_soon
        self.executor = Executor(self, handlers)
        load = partial(self.executor.load, Client(self, None, is_replaying=True))
        self.loader = Loader(scheduler, load, wall, self.update_guards)
        self.aof = AppendOnlyFile(config.directory / AOF_NAME, log, scheduler)
        self.snapshots = Snapshots(
            self.store, self.stream, scheduler, self.functions.requests, defer
        )
        self.aof_rewrite = AofRewrite(self.aof, self.snapshots, self.loader, self.settings, log)

        self.clients = Clients(self)
        self.blocked_clients = BlockedClients(lambda: self.script_runner.running is None)
        self.monitors = Monitors()
        self.pubsub = PubSub()
        self.notifications = Notifications(self.pubsub)
        self.tracking = Tracking(self.clients.sessions.get, loop.call_soon, defer)
        self.watched_keys = WatchedKeys()
        self.replicas = Replicas(self)
        self.replica_link: ReplicaLink | None = None
        self.bus = Bus(self, connect)
        self.cluster = Membership(self)
        self.nodes, self.gossip = self.cluster.nodes, self.cluster.gossip
        self.redirects = Redirects(self.gossip, self.settings)
        self._apply_settings()

    # --- start and stop -----------------------------------------------------------------------

    def start(self) -> None:
        """Start the process. It loads the data in time slices, without blocking other nodes."""
        self.log(f"Running mode=cluster, port={self.config.nodes[self.config.name].port}.")
        self.cluster.save()
        begun = self.clock()
        self.gossip.is_loading = True

        def loaded() -> None:
            self.gossip.loaded()
            if self.aof.size:
                took = self.clock() - begun
                self.log(f"DB loaded from append only file: {took:.3f} seconds")
            self._loaded()

        self.loader.load(self.aof.load(), loaded)
        self._tick()

    def _loaded(self) -> None:
        if self.cluster.is_first_start:
            # All nodes start without data, so the replicas need no full resync.
            self.stream.id = first_id(node.id for node in self.config.nodes.values())
            self.stream.activate()
            # As in containers, a key was written and deleted when the cluster was formed: clients
            # such as Lettuce read from no replica whose offset is 0.
            self.stream.append_requests([[b"SET", b"cachesim", b"1"], [b"DEL", b"cachesim"]])
            self.stream.flush()
        # So a large file that is much longer than its data needs is soon rewritten.
        self.aof.base_size = min(self.aof.size, self.memory.dataset)
        self.stream.sinks += (self._count_backlog, self.aof.append)
        self.log("Ready to accept connections")
        primary = self.nodes.me.primary
        if self.replica_link is not None:
            self.replica_link.connect()
        elif primary is not None:
            self.log.role = "S"
            self.become_replica(self.nodes.members[primary])

    def stop(self, *, orderly: bool) -> None:
        """End the process.

        Args:
            orderly: whether connections are closed after all replies are sent; otherwise reset.
        """
        self.is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if orderly:
            self.log("User requested shutdown...", "#")
            self.stream.flush()
            self.log("Redis is now ready to exit, bye bye...", "#")
        else:
            # Replicas get nothing any more, but all answered writes are in the file.
            self.stream.sinks = [self.aof.append]
            self.stream.flush()
        self.script_runner.close()
        if self.replica_link is not None:
            self.replica_link.stop()
        for session in list(self.clients.sessions.values()):
            (session.transport.close if orderly else session.transport.abort)()
        self.bus.close()
        for task in list(self._tasks):
            task.cancel()
        self.aof.close()
        self.cancel_snapshots()
        discard(self.loop, *self.store.clear(), self.memory.clear())

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that is cancelled when the process ends."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- pausing ------------------------------------------------------------------------------

    def pause(self) -> None:
        """Pause the process, as SIGSTOP does."""
        self.is_paused = True

    def resume(self) -> None:
        """Resume the process, as SIGCONT does."""
        self.is_paused = False
        deferred, self._deferred = self._deferred, []
        for act, arguments in deferred:
            act(*arguments)

    def defer_while_paused(self, act: Callable[..., None], *arguments: Any) -> bool:
        """Postpone a call until the process is resumed, if it is paused.

        Returns:
            True if the caller must stop, because the process is paused or has ended.
        """
        if self.is_paused and not self.is_stopped:
            self._deferred.append((act, arguments))
            return True
        return self.is_stopped

    def defer_while_busy(self, act: Callable[..., None], *arguments: Any) -> bool:
        """Do as `defer_while_paused`, also while a script runs."""
        return self.defer_while_paused(act, *arguments) or self.script_runner.defer(act, *arguments)

    # --- time ---------------------------------------------------------------------------------

    @property
    def node_timeout(self) -> float:
        """`cluster-node-timeout` in seconds."""
        return self.settings.number("cluster-node-timeout") / 1000

    def _tick(self) -> None:
        if self.defer_while_busy(self._tick):
            return
        self._timer = self.loop.call_later(_TICK, self._tick)
        self.bus.tick()
        self.gossip.tick()
        if self.loader.is_loading:
            return
        self.update_time()
        if self.replica_link is not None:
            self.replica_link.tick()
        self.replicas.tick()
        self.aof.retry()
        self.aof_rewrite.start_if_grown()
        self.clients.tick()

    def update_time(self) -> None:
        """Set the time that commands see, and remove expired keys; not while a script runs."""
        if self.script_runner.running is not None:
            return
        store = self.store
        store.now = now = self.wall()
        # Only a primary removes what has expired, and not while it has to stand still.
        if (store.has_expired or store.fields.soonest <= now) and not (
            self.replica_link is not None or self.loader.is_loading or self.clients.paused_until
        ):
            self.expiry.run()

    def _flush_soon(self) -> None:
        # Right after the answer, as Redis does. So an answered write is on its way to the replicas,
        # and few writes are lost if the primary is killed.
        if not self._has_flush:
            self._has_flush = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._has_flush = False
        if not self.defer_while_paused(self.stream.flush):
            self.stream.flush()

    # --- changes of the data ------------------------------------------------------------------

    def keys_changed(self, keys: Sequence[bytes], by: Client | None = None) -> None:
        """React to changed keys.

        Args:
            by: the client that has changed the keys; None if they expired or all were deleted.
        """
        self.record_changes(keys)
        if self.watched_keys.by_key:
            self.watched_keys.changed(keys)
        if self.blocked_clients.everyone:
            self.blocked_clients.changed(keys)
        if self.tracking.clients:
            self.tracking.changed(keys, by and (by.caller or by))

    def record_changes(self, keys: Sequence[bytes]) -> None:
        """Account for changed keys, without telling any client."""
        was_full = self.memory.is_full
        self.memory.changed(keys)
        if self.snapshots.running:
            self.snapshots.changed(keys)
        if self.memory.is_full is not was_full:
            self.update_guards()

    def _expired(self, keys: Sequence[bytes], fields: Sequence[bytes]) -> None:
        if not fields:
            self.stats.expired += len(keys)
        self.notifications.send(expiry_events(self.store.values, keys, fields))
        name = [b"HDEL"] if fields else [b"DEL"]
        self.stream.append_requests([[*name, key, *fields] for key in keys])
        self.keys_changed(keys)
        if self.blocked_clients.everyone:
            self.blocked_clients.serve()

    def _count_backlog(self, _data: bytes) -> None:
        # At most the setting, as in Redis.
        limit = self.settings.number("repl-backlog-size")
        self.memory.backlog = min(self.stream.backlog_length, limit)

    def clear(self) -> None:
        """Delete all keys."""
        gone = self.store.clear()
        sizes = self.memory.clear()
        self.snapshots.flushed()
        self.tracking.flushed()
        self.record_changes(())
        self.watched_keys.changed([key for key in self.watched_keys.by_key if key in gone[0]])
        self.blocked_clients.changed([key for key in self.blocked_clients.keys if key in gone[0]])
        discard(self.loop, *gone, sizes)
        self.aof_rewrite.flushed()

    def cancel_snapshots(self) -> None:
        """Cancel the snapshots for replicas and for the append-only file."""
        self.snapshots.cancel()
        self.replicas.drop_all()
        self.aof_rewrite.cancel()

    def reset_stats(self) -> None:
        """Set all counts to 0: `CONFIG RESETSTAT`."""
        self.stats = Stats()
        self.executor.entries.reset()

    # --- role ---------------------------------------------------------------------------------

    @property
    def is_replica(self) -> bool:
        """Whether the node is a replica."""
        return self.replica_link is not None

    def become_replica(self, primary: Member) -> None:
        """Become a replica of another node, as soon as no script runs."""
        if self.script_runner.defer(self.become_replica, primary):
            return
        self.stream.flush()
        self.expiry.stop()
        self.pubsub.close_shard_channels()
        self.blocked_clients.disconnect_all()
        if self.replica_link is None:
            self.log.role = "S"
            self.stream.forget_former()
        else:
            self.replica_link.stop()
        self.replicas.drop_all()
        self.replica_link = ReplicaLink(self, primary)
        self.replica_link.connect()
        self.update_guards()

    def become_primary(self) -> None:
        """Become a primary, as soon as no script runs."""
        if self.script_runner.defer(self.become_primary):
            return
        if self.replica_link is None:
            return
        self.replica_link.stop()
        self.replica_link = None
        self.log.role = "M"
        self.log("MASTER MODE enabled (user request)")
        self.stream.branch()
        self.replicas.drop_all()
        if "7.2" in self.version.releases:
            self.pubsub.close_shard_channels()
        self.update_guards()
        self.update_time()

    # --- settings -----------------------------------------------------------------------------

    def update_guards(self) -> None:
        """Update which commands are checked before they run, after a change of the node's state."""
        self.executor.guarded_flags = guarded_flags(self)

    def _apply_settings(self, names: Sequence[str] = ()) -> None:
        if "requirepass" in names:
            self.acl.require_password(self.settings["requirepass"].encode(errors="surrogateescape"))
        slower = self.settings.number("slowlog-log-slower-than")
        self.slow_after = slower * 1000 if slower >= 0 else 1 << 62
        self.slowlog.limit = self.settings.number("slowlog-max-len")
        limits = self.settings["client-output-buffer-limit"]
        self.clients.output_limits = limits_of_classes(limits)
        self.memory.limit = self.settings.number("maxmemory")
        self.memory.check()
        self.executor.notify(self.settings["notify-keyspace-events"])
        self.stream.resize(self.settings.number("repl-backlog-size"))
        self.update_guards()
