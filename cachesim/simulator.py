"""The composition root: one running topology."""

import atexit
import contextlib
import secrets
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cachesim import clients
from cachesim.backends.base import Backend, NodeState, Progress
from cachesim.clients import DEFAULT_USER, NodeClients
from cachesim.clock import Deadline
from cachesim.cluster import Cluster
from cachesim.config import Settings, load_settings
from cachesim.control_plane import ControlPlane, Timing
from cachesim.credentials import ADMIN_USER, Credentials
from cachesim.errors import FaultError, NotReady, StartError
from cachesim.events import EventLog
from cachesim.faults import Faults
from cachesim.files import RunFiles
from cachesim.handles import (
    LinkHandle,
    LinkHandles,
    NodeHandle,
    Parts,
    RedisHandle,
    Shard,
    ZoneHandle,
)
from cachesim.links import Links
from cachesim.monitor import Monitor
from cachesim.nodes import Nodes
from cachesim.proxy.client import ToxiproxyClient
from cachesim.shard import RedisShard
from cachesim.tls import CertificateAuthority
from cachesim.topology import production

if TYPE_CHECKING:
    from pymemcache.client.base import Client
    from pymemcache.client.hash import HashClient
    from redis.cluster import RedisCluster

_RESET_LIMIT = 30.0  # seconds


def _silent(_line: str) -> None:
    pass


class Simulator:
    """A production cache topology that runs here, to be broken on purpose.

    Use it as a context manager, or call `start` and `stop`. Every verb is synchronous and
    thread-safe.

    Args:
        settings: all settings at once; without it they are loaded, with `arguments` on top.
        arguments: single settings by name, such as `engine="valkey"`, `speed=30`, `seed=7`.

    Raises:
        SettingsError: a setting is wrong.

    Attributes:
        name: the topology's name.
        seed: all draws depend on it alone.
        events: the event log.
    """

    redis: Shard
    nodes: dict[str, NodeHandle]
    memcached: dict[str, NodeHandle]
    zones: dict[str, ZoneHandle]
    links: LinkHandles
    faults: Faults
    control_plane: ControlPlane

    def __init__(self, settings: Settings | None = None, **arguments: Any) -> None:
        self.settings = settings or load_settings(arguments).settings
        self.topology = production(self.settings.memory_scale)
        self.name = self.settings.name or secrets.token_hex(3)
        self.seed = secrets.randbits(32) if self.settings.seed is None else self.settings.seed
        self.events = EventLog()
        self._lock = threading.RLock()
        self._life: contextlib.ExitStack | None = None

    # --- life -------------------------------------------------------------------------------

    def start(self, progress: Progress = _silent) -> Self:
        """Bring the topology up, to ready: through every client link.

        Args:
            progress: called with a short line when a step begins.

        Raises:
            StartError: it did not come up; nothing is left behind.
        """
        with self._lock:
            if self._life is not None:
                raise StartError(f"the topology {self.name!r} runs already")
            with contextlib.ExitStack() as life:
                self._bring_up(progress, life)
                # Not for a killed process: what that leaves, the next start removes.
                atexit.register(self.stop)
                life.callback(atexit.unregister, self.stop)
                self._life = life.pop_all()
        return self

    def stop(self) -> None:
        """Take everything down, whatever state it is in. Repeating it is harmless."""
        with self._lock:
            life, self._life = self._life, None
            if life is not None:
                life.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _bring_up(self, progress: Progress, life: contextlib.ExitStack) -> None:
        self._credentials = Credentials()
        backend = self._backend = self._choose_backend()
        self._files = RunFiles(self.name, self._ca.pem, self._credentials.token)
        life.callback(self._files.remove)
        # Before the start: an interrupt may come between the two.
        life.callback(backend.stop)
        backend.start(progress)

        servers = {z.name: ToxiproxyClient(backend.toxiproxy(z.name)) for z in self.topology.zones}
        links = Links(self.topology, servers, self.events, lambda node: nodes.is_frozen(node))
        life.callback(links.close)
        nodes = Nodes(self.topology, backend, links, self.events)
        self._admin = NodeClients(
            backend.admin, ADMIN_USER, self._credentials.admin_password, self._ca
        )
        life.callback(self._admin.close)
        self._cluster = Cluster(self.topology, self._admin)
        self._memcached_admin: dict[str, Client] = {
            node.name: self._admin.new_memcached(node.name) for node in self.topology.memcached
        }
        for client in self._memcached_admin.values():
            life.callback(client.close)

        progress("waiting until all is ready through the links")
        self._check_links()

        monitor = Monitor(self.topology, self._admin)
        monitor.start()
        life.callback(monitor.stop)
        self.faults = Faults(self.topology, links, nodes, monitor, self.events, str(self.seed))
        shard = RedisShard(self._admin, self._cluster, nodes)
        self.control_plane = ControlPlane(
            self.topology,
            monitor,
            shard,
            Timing(
                detection=self.settings.detection_seconds,
                promotion=self.settings.promotion_seconds,
                replacement=self.settings.replacement_seconds,
                node_timeout=self.settings.node_timeout_seconds,
                speed=self.settings.speed,
            ),
            self.events,
            seed=str(self.seed),
            group=self.name,
        )
        self.control_plane.start()
        life.callback(self.control_plane.stop)
        self._make_handles(
            Parts(
                self.topology,
                backend,
                self._cluster,
                nodes,
                links,
                self.faults,
                self.control_plane,
                self.events,
            )
        )
        self._files.save_env(self.env())
        self.events.record("started", self.name, f"on {backend.name}, seed {self.seed}")

    def _choose_backend(self) -> Backend:
        from cachesim.backends.docker import DockerBackend, connect, host_of

        client = connect()
        hosts = [h for h in (self.settings.advertise_host, host_of(client)) if h]
        self._ca = CertificateAuthority(hosts)
        return DockerBackend(
            self.name, self.topology, self.settings, self._credentials, self._ca, client
        )

    def _make_handles(self, parts: Parts) -> None:
        self._parts = parts
        redis = {node.name: RedisHandle(node, parts) for node in self.topology.redis}
        memcached = {node.zone: NodeHandle(node, parts) for node in self.topology.memcached}
        self.redis = Shard(redis, parts)
        self.memcached = memcached
        self.nodes = {**redis, **{node.name: node for node in memcached.values()}}
        self.zones = {
            zone.name: ZoneHandle(
                zone, [n for n in self.nodes.values() if n.zone == zone.name], parts
            )
            for zone in self.topology.zones
        }
        self.links = LinkHandles([LinkHandle(link, parts) for link in self.topology.links])

    def _check_links(self) -> None:
        """Wait until every node is ready as clients see it."""
        deadline = Deadline(self.settings.start_timeout_seconds)
        through = NodeClients(
            self._backend.endpoint, DEFAULT_USER, self._credentials.token, self._ca
        )
        try:
            Cluster(self.topology, through).wait_healthy(self.topology.primary, deadline)
            for node in self.topology.memcached:
                _wait_for_memcached(node.name, through, deadline)
        except NotReady as error:
            log = self._backend.logs(error.node)
            raise NotReady(
                f"{error} through its link. The tail of its log:\n{log}", error.node
            ) from error
        finally:
            through.close()

    # --- between tests ----------------------------------------------------------------------

    def heal(self) -> None:
        """Heal every fault, also what was done to the proxies by hand."""
        self.faults.heal_all()

    def reset(self, draws: str = "") -> None:
        """Make it as new: healed, all nodes up, the first primary's role restored, flushed.

        Args:
            draws: a name for the draws that follow; the same seed and name draw the same.

        Raises:
            FaultError: it could not be brought to health; the message says which node is not.
        """
        with self._lock, self.control_plane.suspended():
            self.faults.heal_all()
            deadline = Deadline(_RESET_LIMIT)
            try:
                if not self._is_well():
                    self._repair(deadline)
                self._flush()
                self._cluster.wait_healthy(self.topology.primary, deadline)
            except NotReady as error:
                log = self._backend.logs(error.node)
                raise FaultError(f"the reset failed: {error}. Its log:\n{log}") from error
            seed = f"{self.seed} {draws}".strip()
            self.faults.reseed(seed)
            self.control_plane.restart(self.topology.primary, seed)
            self.redis.forget()
            self.events.record("reset", self.name, "healed and flushed")

    def _is_well(self) -> bool:
        """Whether a flush is all that the reset takes."""
        try:
            for client in self._memcached_admin.values():
                client.version()
            return not any(
                self._cluster.ailment(node.name, self.topology.primary)
                for node in self.topology.redis
            )
        except clients.errors():
            return False

    def _repair(self, deadline: Deadline) -> None:
        for node in self.topology.nodes:
            if self._backend.state(node.name) is not NodeState.RUNNING:
                self._parts.nodes.replace(node.name)
        for node in self.topology.memcached:
            self._memcached_admin[node.name].close()
            _wait_for_memcached(node.name, self._admin, deadline)
        self._cluster.converge(
            self.topology.primary, int(self.settings.node_timeout_seconds * 1000), deadline
        )

    def _flush(self) -> None:
        self._cluster.flush(self.topology.primary)
        for client in self._memcached_admin.values():
            client.flush_all()

    # --- clients and their surroundings -----------------------------------------------------

    def redis_cluster(self, **overrides: Any) -> "RedisCluster":
        """A RedisCluster as the architecture configures it.

        Args:
            overrides: further keyword arguments of RedisCluster.
        """
        nodes = [self._backend.endpoint(node.name) for node in self.topology.redis]
        return clients.redis_cluster(nodes, self._credentials.token, self._files.ca, **overrides)

    def memcached_client(self, **overrides: Any) -> "HashClient":
        """A HashClient as the architecture configures it.

        Args:
            overrides: further keyword arguments of HashClient.
        """
        nodes = [self._backend.endpoint(node.name) for node in self.topology.memcached]
        return clients.memcached_client(nodes, self._ca.client_context(), **overrides)

    def toxiproxy(self, zone: str) -> Any:
        """toxiproxy-python's `Toxiproxy` for one zone's proxies."""
        name = self.topology.zone(zone).name
        return clients.toxiproxy(name, self._backend.toxiproxy(name))

    def env(self) -> dict[str, str]:
        """The variables that a service reads, secrets included, by name."""
        redis = [self._backend.endpoint(node.name) for node in self.topology.redis]
        memcached = [self._backend.endpoint(node.name) for node in self.topology.memcached]
        token = self._credentials.token
        return {
            "CACHESIM_NAME": self.name,
            "CACHESIM_BACKEND": self._backend.name,
            "CACHESIM_ENGINE": self.settings.engine,
            "CACHESIM_REDIS_HOST": redis[0].host,
            "CACHESIM_REDIS_PORT": str(redis[0].port),
            "CACHESIM_REDIS_NODES": ",".join(map(str, redis)),
            "CACHESIM_REDIS_USERNAME": DEFAULT_USER,
            "CACHESIM_REDIS_PASSWORD": token,
            "CACHESIM_REDIS_PASSWORD_FILE": str(self._files.token),
            "CACHESIM_REDIS_URL": f"rediss://{DEFAULT_USER}:{token}@{redis[0]}",
            "CACHESIM_REDIS_TLS": "1",
            "CACHESIM_MEMCACHED_NODES": ",".join(map(str, memcached)),
            "CACHESIM_MEMCACHED_TLS": "1",
            "CACHESIM_CA_FILE": str(self._files.ca),
            **{
                f"CACHESIM_TOXIPROXY_{zone.name.upper()}": self._backend.toxiproxy(zone.name)
                for zone in self.topology.zones
            },
        }

    def __repr__(self) -> str:
        state = "stopped" if self._life is None else "running"
        return f"<Simulator {self.name}, {state}, seed {self.seed}>"


def _wait_for_memcached(node: str, at: NodeClients, deadline: Deadline) -> None:
    client = at.new_memcached(node)
    with contextlib.closing(client):
        while True:
            try:
                client.version()
                return
            except clients.errors() as error:
                client.close()
                if deadline.expired:
                    raise NotReady(f"{node} does not answer: {error}", node) from error
                time.sleep(0.005)
