"""What is known of the nodes: admin probes, and heartbeats over the cluster bus.

Every node is probed on its admin address. Besides, every Redis node publishes a heartbeat, which
the others hear only if their links over the cluster bus carry it: so a primary that answers the
admin probe but is cut off from its replicas can be told from one that is well.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from cachesim.clients import NodeClients, errors
from cachesim.clock import Clock, SystemClock
from cachesim.topology import Role, Service, Topology

if TYPE_CHECKING:
    from redis import Redis

PROBE_TIMEOUT = 0.25
"""Seconds after which a probe counts as unanswered."""
INTERVAL = 0.05
"""Seconds between two probes of a node, unless the evidence has another interval."""
MISSED = 3
"""Heartbeats in a row that have to be missing for a silence."""
CHANNEL = "__cachesim__:heartbeat"
_HISTORY = 3.0  # seconds of append-only file sizes: more than everysec can lose


@dataclass(frozen=True)
class Probe:
    """The last thing known of a node.

    Attributes:
        at: when the probe began, in monotonic seconds.
        since: since when the node has answered, or has not.
        until: when the probe was over: a node that stands still lets one wait.
    """

    answered: bool
    at: float
    since: float
    until: float = field(default=0.0, kw_only=True)


@dataclass(frozen=True)
class RedisProbe(Probe):
    """What a Redis node said when it last answered.

    Attributes:
        offset: of the replication stream, in bytes.
        link_down_since: since when a replica says that its link to the primary is down, and not
            for a resync.
        state_ok: whether it says `cluster_state:ok`.
    """

    role: Role = Role.REPLICA
    offset: int = 0
    link_down_since: float | None = None
    state_ok: bool = False


@dataclass(frozen=True)
class Silence:
    """That a node hears nothing of another.

    Attributes:
        since: when it last heard it, in monotonic seconds.
        until: when it would have heard it last.
    """

    since: float
    until: float


class Evidence(Protocol):
    """What the control plane goes by.

    Attributes:
        interval: seconds between two probes of a node, and between two of its heartbeats.
    """

    interval: float

    def probe(self, node: str) -> Probe | None:
        """The last probe of a node, if there was one."""
        ...

    def silence(self, listener: str, speaker: str) -> Silence | None:
        """Whether a Redis node hears nothing of another over the cluster bus."""
        ...


class Monitor:
    """Threads that keep `Evidence` up to date, from `start` to `stop`."""

    def __init__(self, topology: Topology, admin: NodeClients, clock: Clock | None = None) -> None:
        self.interval = INTERVAL
        self._admin = admin
        self._clock = clock or SystemClock()
        self._redis = [node.name for node in topology.redis]
        self._nodes = topology.nodes
        self._probes: dict[str, Probe] = {}
        self._aof_sizes: dict[str, deque[tuple[float, int]]] = {n: deque() for n in self._redis}
        self._heard: dict[tuple[str, str], float] = {}
        self._published: dict[str, float] = {}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start probing."""
        for node in self._nodes:
            watch = self._watch_redis if node.service is Service.REDIS else self._watch_memcached
            self._spawn(watch, node.name)
        for name in self._redis:
            self._spawn(self._listen, name)

    def stop(self) -> None:
        """Stop probing and close the connections."""
        self._stopping.set()
        for node in self._redis:
            if (probe := self._probes.get(node)) is not None and probe.answered:
                with contextlib.suppress(*errors()):  # or its listener ends a little later
                    self._admin.redis(node).publish(CHANNEL, node)
        for thread in self._threads:
            thread.join()

    def probe(self, node: str) -> Probe | None:
        """See `Evidence.probe`."""
        return self._probes.get(node)

    def silence(self, listener: str, speaker: str) -> Silence | None:
        """See `Evidence.silence`.

        Time counts only as far as the listener hears itself and the speaker's heartbeats were
        accepted: a busy machine is no silence.
        """
        since = self._heard.get((listener, speaker))
        own = self._heard.get((listener, listener))
        published = self._published.get(speaker)
        if since is None or own is None or published is None:
            return None
        until = min(own, published)
        return Silence(since, until) if until - since > MISSED * self.interval else None

    def aof_size(self, node: str, ago: float) -> int | None:
        """The size of a node's append-only file some seconds ago, in bytes, if it is known."""
        moment = self._clock.monotonic() - ago
        sizes = [size for at, size in tuple(self._aof_sizes[node]) if at <= moment]
        return sizes[-1] if sizes else None

    def _spawn(self, target: Callable[[str], None], node: str) -> None:
        thread = threading.Thread(
            target=target, args=(node,), name=f"cachesim-{target.__name__}-{node}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def _since(self, node: str, answered: bool, at: float) -> float:
        before = self._probes.get(node)
        return before.since if before is not None and before.answered is answered else at

    def _unanswered(self, node: str, at: float) -> None:
        since = self._since(node, False, at)
        before = self._probes.get(node) or Probe(False, at, since)
        # What it said last is worth knowing when it is dead.
        until = self._clock.monotonic()
        self._probes[node] = replace(before, answered=False, at=at, since=since, until=until)

    def _watch_redis(self, node: str) -> None:
        from redis.exceptions import RedisError

        client = self._admin.new_redis(node, PROBE_TIMEOUT)
        while not self._stopping.wait(self.interval):
            at = self._clock.monotonic()
            try:
                self._probes[node] = self._ask(client, node, at)
            except (RedisError, OSError):
                self._unanswered(node, at)
            else:
                self._published[node] = at
        client.close()

    def _ask(self, client: "Redis", node: str, at: float) -> RedisProbe:
        with client.pipeline(transaction=False) as pipeline:
            pipeline.info("replication", "persistence")
            pipeline.execute_command("CLUSTER INFO")
            pipeline.publish(CHANNEL, node)
            info, cluster, _ = pipeline.execute()
        sizes = self._aof_sizes[node]
        sizes.append((self._clock.monotonic(), int(info.get("aof_current_size", 0))))
        while sizes[0][0] < at - _HISTORY:
            sizes.popleft()
        down = info.get("master_link_status") == "down" and not info["master_sync_in_progress"]
        before = self._probes.get(node)
        went_down = before.link_down_since if isinstance(before, RedisProbe) else None
        return RedisProbe(
            answered=True,
            at=at,
            since=self._since(node, True, at),
            role=Role.PRIMARY if info["role"] == "master" else Role.REPLICA,
            offset=int(info["master_repl_offset"]),
            link_down_since=(went_down or at) if down else None,
            state_ok=cluster["cluster_state"] == "ok",
        )

    def _watch_memcached(self, node: str) -> None:
        from pymemcache.exceptions import MemcacheError

        client = self._admin.new_memcached(node, PROBE_TIMEOUT)
        while not self._stopping.wait(self.interval):
            at = self._clock.monotonic()
            try:
                client.version()
            except (MemcacheError, OSError):
                client.close()
                self._unanswered(node, at)
            else:
                self._probes[node] = Probe(True, at, self._since(node, True, at))
        client.close()

    def _listen(self, node: str) -> None:
        from redis.exceptions import RedisError

        client = self._admin.new_redis(node, PROBE_TIMEOUT)
        while not self._stopping.is_set():
            try:
                with client.pubsub(ignore_subscribe_messages=True) as subscription:
                    subscription.subscribe(CHANNEL)
                    for speaker in self._redis:
                        # A node that was never heard has been silent since now.
                        self._heard.setdefault((node, speaker), self._clock.monotonic())
                    while not self._stopping.is_set():
                        message = subscription.get_message(timeout=PROBE_TIMEOUT)
                        if message is not None:
                            self._heard[node, message["data"]] = self._clock.monotonic()
            except (RedisError, OSError):
                self._stopping.wait(self.interval)
        client.close()
