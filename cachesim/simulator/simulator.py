"""The composition root: one running topology."""

import atexit
import contextlib
import os
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cachesim.backends.base import Backend, NodeState, Progress
from cachesim.backends.remote import RemoteBackend
from cachesim.backends.selection import choose, no_engine_configured
from cachesim.clock import Deadline
from cachesim.control_plane.plane import ControlPlane
from cachesim.control_plane.prober import Prober
from cachesim.control_plane.redis_shard import RedisShard
from cachesim.control_plane.states import State
from cachesim.control_plane.timing import Timing
from cachesim.errors import CachesimError, FaultError, NotReady, SettingsError, StartError
from cachesim.events import EventLog
from cachesim.faults.injector import Faults
from cachesim.faults.links import Links
from cachesim.faults.nodes import Nodes
from cachesim.runs.files import RunFiles
from cachesim.runs.registry import Run, find_run
from cachesim.servers import clients
from cachesim.servers.admin import NodeClients, errors
from cachesim.servers.certificates import CertificateAuthority, client_context
from cachesim.servers.credentials import ADMIN_USER, DEFAULT_USER, Credentials
from cachesim.servers.redis_cluster import Cluster
from cachesim.servers.redis_health import RedisHealth
from cachesim.settings import CHANGEABLE, Settings, load_settings
from cachesim.simulator.handles import (
    LinkHandle,
    LinkHandles,
    NodeHandle,
    Parts,
    RedisHandle,
    Shard,
    ZoneHandle,
)
from cachesim.topology import Service, production
from cachesim.toxiproxy.client import ToxiproxyClient

if TYPE_CHECKING:
    from pymemcache.client.base import Client
    from pymemcache.client.hash import HashClient
    from redis.cluster import RedisCluster

    from cachesim.backends.compose.backend import ComposeBackend

_RESET_LIMIT = 30.0  # seconds
_PATIENCE = 8.0  # seconds until a node that stays ill is replaced
_BORROWERS = (*CHANGEABLE, "start_timeout_seconds")
"""The settings that a borrower may choose. The others are of what runs already."""


@dataclass(frozen=True)
class _Carrier:
    """What carries a topology, and what it takes to talk to it."""

    backend: Backend
    credentials: Credentials
    tls: ssl.SSLContext
    ca_file: Path
    token_file: Path
    files: RunFiles | None = None
    folder: Path | None = None


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
        backend_reason: why the backend is the one that it is, once it was started.
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
        self.backend_reason = ""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._life: contextlib.ExitStack | None = None
        self._operations = contextlib.ExitStack()
        self._carry: Callable[[Progress, contextlib.ExitStack], _Carrier] = self._start_backend

    @classmethod
    def attach(cls, name: str | None = None, **arguments: Any) -> Self:
        """One that borrows a topology which `cachesim up` runs, from `start` to `stop`.

        Faults, failovers, events and clients are this process's own meanwhile; the lender's
        control plane rests. Given back, it is healed, with the data and the primary that it has
        then; after the death of the borrower it is reset.

        Args:
            name: its name; without it the one that the settings name, or else the only one.
            arguments: settings by name for as long as it is borrowed, such as `speed=30`.

        Raises:
            CachesimError: there is none, or several.
            SettingsError: a setting is wrong, or can't be another than the lender's.
        """
        run = find_run(name)
        sim = cls(load_settings({**arguments, "name": run.name}).settings)
        sim._carry = partial(sim._borrow, run, arguments)
        return sim

    @classmethod
    def attach_composed(
        cls, folder: Path, settings: Settings | None = None, **arguments: Any
    ) -> Self:
        """One whose containers `docker compose` has brought up, and keeps.

        When it is left it is healed, with the data and the primary that it has then.

        Args:
            folder: the one that `cachesim compose` has written. What it was written for, and its
                name, count more than the settings.
            settings: all settings at once; without it they are loaded, with `arguments` on top.
            arguments: single settings by name, such as `speed=30`, `seed=7`.

        Raises:
            StartError: the folder is none of `cachesim compose`, or has no secrets.
            BackendUnavailable: no engine answers.
            SettingsError: a setting is wrong.
        """
        from cachesim.backends.compose.backend import ComposeBackend

        settings = settings or load_settings(arguments).settings
        backend = ComposeBackend(folder, settings.start_timeout_seconds)
        sim = cls(settings.model_copy(update=backend.composed.settings))
        sim._carry = partial(sim._take_composed, backend)
        return sim

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
            self._pid = os.getpid()
            with contextlib.ExitStack() as life:
                self._bring_up(progress, life)
                # Not for a killed process: what that leaves, the next start removes.
                atexit.register(self.stop)
                life.callback(atexit.unregister, self.stop)
                self._life = life.pop_all()
            self.events.record("started", self.name, f"on {self.backend}, seed {self.seed}")
        return self

    def stop(self) -> None:
        """Take everything down, whatever state it is in. Repeating it is harmless.

        A forked process, to which the topology does not belong, does nothing.
        """
        if os.getpid() != self._pid:
            return
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
        self._carrier = self._carry(progress, life)
        if self._carrier.files is not None:  # a borrowed one is as its lender has left it
            progress("waiting until all is ready through the links")
            self._check_links()
        self._operations = life.enter_context(contextlib.ExitStack())
        self._operate(self._operations)
        if self._carrier.files is not None:
            self._carrier.files.save_env(self.env())
        else:
            self._operations.callback(self._leave_healed)

    def _start_backend(self, progress: Progress, life: contextlib.ExitStack) -> _Carrier:
        """Start one of our own."""
        name, self.backend_reason = choose(self.settings)
        start = self._start_docker if name == "docker" else self._start_embedded
        return start(progress, life)

    def _start_docker(self, progress: Progress, life: contextlib.ExitStack) -> _Carrier:
        from cachesim.backends.containers.docker import DockerBackend
        from cachesim.backends.containers.engine import connect, published_host

        client = connect()
        hosts = [h for h in (self.settings.advertise_host, published_host(client)) if h]
        ca, credentials = CertificateAuthority(hosts), Credentials()
        backend = DockerBackend(self.name, self.topology, self.settings, credentials, ca, client)
        files = RunFiles(self.name, ca.pem, credentials.token)
        return _carried(backend, credentials, ca.pem, files, progress, life)

    def _start_embedded(self, progress: Progress, life: contextlib.ExitStack) -> _Carrier:
        from cachesim.backends.embedded import EmbeddedBackend

        host = self.settings.advertise_host
        ca, credentials = CertificateAuthority([host] if host else []), Credentials()
        files = RunFiles(self.name, ca.pem, credentials.token)
        if self.settings.backend == "auto":
            progress(f"{self.backend_reason}: the nodes are emulated")
        backend = EmbeddedBackend(
            self.name, self.topology, self.settings, credentials, ca, files.folder, self.seed
        )
        return _carried(backend, credentials, ca.pem, files, progress, life)

    def _take_composed(
        self, backend: "ComposeBackend", progress: Progress, life: contextlib.ExitStack
    ) -> _Carrier:
        """Take over one that `docker compose` runs."""
        it = backend.composed
        files = RunFiles(self.name, it.ca, it.credentials.token)
        carrier = _carried(backend, it.credentials, it.ca, files, progress, life)
        life.callback(self._leave_well)
        return replace(carrier, folder=it.path)

    def _borrow(
        self,
        run: Run,
        arguments: Mapping[str, object],
        progress: Progress,
        life: contextlib.ExitStack,
    ) -> _Carrier:
        """Take over one that another process runs."""
        progress(f"borrowing {run.name} from process {run.owner.pid}")
        backend = RemoteBackend(run)
        life.callback(backend.stop)
        backend.start(progress)
        loan = backend.loan
        lenders = Settings.model_validate(loan["settings"])
        asked = {k: getattr(self.settings, k) for k, v in arguments.items() if v is not None}
        for key, mine in asked.items():
            theirs = getattr(lenders, key)
            if key not in _BORROWERS and mine not in (theirs, "auto"):
                raise SettingsError(
                    f"{key} = {mine!r}: the topology {run.name!r} runs with {theirs!r}. Leave it "
                    "out, or start another with `cachesim up -d --name ...`."
                )
        chosen = {key: value for key, value in asked.items() if key in _BORROWERS}
        self.settings = lenders.model_copy(update=chosen)
        self.topology = production(self.settings.memory_scale)
        if self.settings.seed is not None:
            self.seed = self.settings.seed
        ca_file, token_file = Path(loan["ca_file"]), Path(loan["token_file"])
        credentials = Credentials(token_file.read_text(), loan["admin_password"])
        return _Carrier(
            backend, credentials, client_context(ca_file.read_bytes()), ca_file, token_file
        )

    def _operate(self, life: contextlib.ExitStack) -> None:
        """Set up what watches and breaks the topology."""
        backend = self._carrier.backend
        servers = {z.name: backend.toxiproxy_client(z.name) for z in self.topology.zones}
        links = Links(
            self.topology,
            servers,
            self.events,
            lambda node: nodes.is_frozen(node),
            backend.renew_toxiproxy,
        )
        life.callback(links.close)
        nodes = Nodes(self.topology, backend, links, self.events)
        self._admin = NodeClients(
            backend.admin,
            ADMIN_USER,
            self._carrier.credentials.admin_password,
            self._carrier.tls,
        )
        life.callback(self._admin.close)
        self._cluster = Cluster(self.topology.shards[0], self._admin)
        self._memcached_admin: dict[str, Client] = {
            node.name: self._admin.new_memcached(node.name) for node in self.topology.memcached
        }
        for client in self._memcached_admin.values():
            life.callback(client.close)

        # By the network, embedded too: the witness is to take the ways that an answer takes.
        witnesses = [ToxiproxyClient(backend.toxiproxy(zone)) for zone in servers]
        for witness in witnesses:
            life.callback(witness.close)
        prober = Prober(
            self.topology, self._admin, [w.version for w in witnesses], self.events, self.name
        )
        prober.start()
        life.callback(prober.stop)
        self.faults = Faults(self.topology, links, nodes, prober, self.events, str(self.seed))
        shard = RedisShard(self._admin, self._cluster, backend.logs)
        self.control_plane = ControlPlane(
            self.topology,
            prober.evidence,
            {self.topology.shards[0].id: shard},
            nodes.replace,
            Timing.of(self.settings),
            self.events,
            seed=str(self.seed),
            group=self.name,
        )
        self.control_plane.restart(self._cluster.find_primary(), str(self.seed))
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

    # --- lending ----------------------------------------------------------------------------

    def lend(self) -> dict[str, Any]:
        """Let go of the topology, for another process to operate it until `take_back`.

        Returns:
            What `attach` needs there, secrets included.

        Raises:
            FaultError: there are faults, which nobody could heal meanwhile, or a failover.
        """
        with self._lock, self.control_plane.suspended():
            if active := self.faults.active:
                raise FaultError(
                    f"the topology {self.name!r} has faults ({active[0]}): "
                    f"`cachesim heal --name {self.name}` first."
                )
            if (state := self.control_plane.state) is not State.AVAILABLE:
                raise FaultError(
                    f"the topology {self.name!r} is {state}: wait until `cachesim status` says "
                    f"{State.AVAILABLE}, or `cachesim reset --name {self.name}`."
                )
        with self._lock:
            self._operations.close()
            backend = self._carrier.backend
            nodes = [node.name for node in self.topology.nodes]
            return {
                "settings": self.settings.model_dump(mode="json"),
                "backend": backend.name,
                "endpoints": {node: str(backend.endpoint(node)) for node in nodes},
                "admin": {node: str(backend.admin(node)) for node in nodes},
                "toxiproxy": {z.name: backend.toxiproxy(z.name) for z in self.topology.zones},
                "admin_password": self._carrier.credentials.admin_password,
                "ca_file": str(self._carrier.ca_file),
                "token_file": str(self._carrier.token_file),
            }

    def take_back(self, *, reset: bool) -> None:
        """Operate the topology again.

        Args:
            reset: as after the death of a borrower.
        """
        with self._lock:
            if self._life is None:
                return  # it was stopped meanwhile
            self._operate(self._operations)
            with self.control_plane.suspended():
                if reset:
                    self._start_nodes()
                    self.reset()
                    return
                self.control_plane.restart(self._make_well(), str(self.seed))

    def _leave_healed(self) -> None:
        """A borrower's last deed; what it can't do, the lender does."""
        with contextlib.suppress(CachesimError, RuntimeError):  # no threads when Python ends
            self.heal()

    def _leave_well(self) -> None:
        """The last deed where others keep the servers; what it can't do, the next one does."""
        # Those others may have taken the servers down before.
        with contextlib.suppress(Exception), contextlib.ExitStack() as operations:
            # Anew: they are closed by now, and another process may have had the topology.
            self._operate(operations)
            # For good: what it has seen before must not make it replace a node in the end.
            self.control_plane.stop()
            self._make_well()

    def _make_well(self) -> str:
        """Heal it, bring all nodes up, and keep the primary that it has; gives its name."""
        # First the nodes: a link to one that stands still can't be changed.
        self._start_nodes()
        self.heal()
        primary = self._cluster.find_primary()
        if not self._is_well(primary):
            self._repair(primary)
        return primary

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
            self._carrier.backend.endpoint,
            DEFAULT_USER,
            self._carrier.credentials.token,
            self._carrier.tls,
        )
        try:
            for shard in self.topology.shards:
                RedisHealth(shard, through).wait_healthy(shard.first_primary, deadline)
            for node in self.topology.memcached:
                _wait_for_memcached(node.name, through, deadline)
        except NotReady as error:
            log = self._carrier.backend.logs(error.node)
            raise NotReady(
                f"{error} through its link. The tail of its log:\n{log}", error.node
            ) from error
        finally:
            through.close()

    # --- between tests ----------------------------------------------------------------------

    def heal(self) -> None:
        """Heal every fault, also what was done to the proxies by hand."""
        self.faults.heal_all()

    def reset(
        self, draws: str = "", *, timing: Timing | None = None, seed: int | None = None
    ) -> None:
        """Make it as new: healed, all nodes up, the first primary's role restored, flushed.

        Args:
            draws: a name for the draws that follow; the same seed and name draw the same.
            timing: the control plane's until the next reset; None: that of the settings.
            seed: another one until the next reset; None: the topology's own.

        Raises:
            FaultError: it could not be brought to health; the message says which node is not.
        """
        # What others break meanwhile would be healed by nobody: they wait.
        with self._lock, self.control_plane.suspended(), self.faults.suspended():
            self.faults.heal_all()
            primary = self.topology.shards[0].first_primary
            try:
                if not self._is_well(primary):
                    self._repair(primary)
                self._flush(Deadline(_RESET_LIMIT))
            except NotReady as error:
                log = self._carrier.backend.logs(error.node)
                raise FaultError(f"the reset failed: {error}. Its log:\n{log}") from error
            name = f"{self.seed if seed is None else seed} {draws}".strip()
            self.faults.reseed(name)
            self.control_plane.timing = timing or Timing.of(self.settings)
            self.control_plane.restart(primary, name)
            self.redis.forget()
            self.events.record("reset", self.name, "healed and flushed")

    def _is_well(self, primary: str) -> bool:
        """Whether all nodes are healthy under that primary."""
        try:
            for client in self._memcached_admin.values():
                client.version()
            return not any(
                self._cluster.health.problem(node.name, primary) for node in self.topology.redis
            )
        except errors():
            return False

    def _repair(self, primary: str) -> None:
        """Bring all nodes up and to health under that primary, whatever state they are in.

        Raises:
            NotReady: nothing helped.
        """
        self._start_nodes()
        for node in self.topology.redis:
            if not self._cluster.end_script(node.name):
                self._replace(primary, NotReady("its script does not end", node.name))
        for remedy in (self._replace, self._renew):
            try:
                self._converge(primary, Deadline(_PATIENCE))
            except NotReady as error:
                remedy(primary, error)
            else:
                return
        self._converge(primary, Deadline(_RESET_LIMIT))

    def _replace(self, _primary: str, error: NotReady) -> None:
        """Give the node at fault a new process."""
        self.events.record("replaced", error.node, f"gets a new process: {error}")
        self._parts.nodes.replace(error.node)

    def _renew(self, primary: str, error: NotReady) -> None:
        """Let the shard begin anew, or the Memcached node at fault."""
        if self.topology.node(error.node).service is Service.MEMCACHED:
            self._replace(primary, error)
            return
        self.events.record("replaced", self.name, f"all Redis nodes begin anew, empty: {error}")
        self._parts.nodes.renew_redis()
        self._cluster.form(primary, self._node_timeout_ms, Deadline(_RESET_LIMIT))

    @property
    def _node_timeout_ms(self) -> int:
        return int(self.settings.node_timeout_seconds * 1000)

    def _converge(self, primary: str, deadline: Deadline) -> None:
        for node in self.topology.memcached:
            self._memcached_admin[node.name].close()
            _wait_for_memcached(node.name, self._admin, deadline)
        self._cluster.converge(primary, self._node_timeout_ms, deadline)

    def _start_nodes(self) -> None:
        for node in self.topology.nodes:
            if self._carrier.backend.state(node.name) is not NodeState.RUNNING:
                self._parts.nodes.replace(node.name)

    def _flush(self, deadline: Deadline) -> None:
        self._cluster.flush(self.topology.shards[0].first_primary, deadline)
        for client in self._memcached_admin.values():
            client.flush_all()

    # --- clients and their surroundings -----------------------------------------------------

    def redis_cluster(self, **overrides: Any) -> "RedisCluster":
        """A RedisCluster as the architecture configures it.

        Args:
            overrides: further keyword arguments of RedisCluster.
        """
        nodes = [self._carrier.backend.endpoint(node.name) for node in self.topology.redis]
        return clients.redis_cluster(
            nodes, self._carrier.credentials.token, self._carrier.ca_file, **overrides
        )

    def memcached_client(self, **overrides: Any) -> "HashClient":
        """A HashClient as the architecture configures it.

        Args:
            overrides: further keyword arguments of HashClient.
        """
        nodes = [self._carrier.backend.endpoint(node.name) for node in self.topology.memcached]
        return clients.memcached_client(nodes, self._carrier.tls, **overrides)

    def toxiproxy(self, zone: str) -> Any:
        """toxiproxy-python's `Toxiproxy` for one zone's proxies."""
        name = self.topology.zone(zone).name
        with self._lock:  # it is imported for this
            return clients.toxiproxy(name, self._carrier.backend.toxiproxy(name))

    def env(self) -> dict[str, str]:
        """The variables that a service reads, secrets included, by name."""
        it = self._carrier
        redis = [it.backend.endpoint(node.name) for node in self.topology.redis]
        memcached = [it.backend.endpoint(node.name) for node in self.topology.memcached]
        token = it.credentials.token
        return {
            "CACHESIM_NAME": self.name,
            "CACHESIM_BACKEND": it.backend.name,
            "CACHESIM_ENGINE": self.settings.engine,
            "CACHESIM_REDIS_HOST": redis[0].host,
            "CACHESIM_REDIS_PORT": str(redis[0].port),
            "CACHESIM_REDIS_NODES": ",".join(map(str, redis)),
            "CACHESIM_REDIS_USERNAME": DEFAULT_USER,
            "CACHESIM_REDIS_PASSWORD": token,
            "CACHESIM_REDIS_PASSWORD_FILE": str(it.token_file),
            "CACHESIM_REDIS_URL": f"rediss://{DEFAULT_USER}:{token}@{redis[0]}",
            "CACHESIM_REDIS_TLS": "1",
            "CACHESIM_MEMCACHED_NODES": ",".join(map(str, memcached)),
            "CACHESIM_MEMCACHED_TLS": "1",
            "CACHESIM_CA_FILE": str(it.ca_file),
            **{
                f"CACHESIM_TOXIPROXY_{zone.name.upper()}": it.backend.toxiproxy(zone.name)
                for zone in self.topology.zones
            },
        }

    @property
    def files(self) -> RunFiles:
        """The files of the run, for the process that carries it."""
        if self._carrier.files is None:
            raise StartError(f"the topology {self.name!r} is another process's")
        return self._carrier.files

    @property
    def folder(self) -> Path | None:
        """The folder of `cachesim compose` that it is of, if it is."""
        return self._carrier.folder

    @property
    def carrier(self) -> Backend:
        """What carries the servers, for the process that lends the topology."""
        return self._carrier.backend

    @property
    def backend(self) -> str:
        """What carries it, such as `docker`."""
        return self._carrier.backend.name

    def __repr__(self) -> str:
        state = "stopped" if self._life is None else "running"
        return f"<Simulator {self.name}, {state}, seed {self.seed}>"


def _carried(
    backend: Backend,
    credentials: Credentials,
    ca: bytes,
    files: RunFiles,
    progress: Progress,
    life: contextlib.ExitStack,
) -> _Carrier:
    """Start a backend; what it takes to talk to it."""

    def remove() -> None:
        backend.stop()
        files.remove()  # not if containers are left: then they tell whose those are

    # Before the start: an interrupt may come between the two.
    life.callback(remove)
    backend.start(progress)
    tls = client_context(ca)
    return _Carrier(backend, credentials, tls, files.ca, files.token, files)


def remove_orphans() -> list[str]:
    """Remove the containers of runs whose process has ended, and nothing else.

    Returns:
        The topologies' names.

    Raises:
        BackendUnavailable: the engine does not answer.
    """
    if no_engine_configured():
        return []
    from cachesim.backends.containers import cleanup, engine

    return cleanup.remove_orphans(engine.connect())


def _wait_for_memcached(node: str, at: NodeClients, deadline: Deadline) -> None:
    client = at.new_memcached(node)
    with contextlib.closing(client):
        while True:
            try:
                client.version()
                return
            except errors() as error:
                client.close()
                if deadline.expired:
                    raise NotReady(f"{node} does not answer: {error}", node) from error
                time.sleep(0.005)
