"""Starts the servers of a topology, or takes over those that `docker compose` runs.

Each function registers on the stack `life` how the servers are taken down.
"""

import contextlib
import importlib
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cachesim.backends.base import Backend, Progress
from cachesim.backends.discovery import Discovery
from cachesim.backends.endpoints import ConfigurationEndpoints
from cachesim.backends.selection import choose, no_engine_configured
from cachesim.errors import SettingsError, StartError
from cachesim.events import EventLog
from cachesim.runs.env import service_variables
from cachesim.runs.files import RunFiles
from cachesim.servers.certificates import (
    CertificateAuthority,
    admin_context,
    server_context,
)
from cachesim.servers.credentials import DEFAULT_USER, Credentials
from cachesim.settings import Settings
from cachesim.topology import Endpoint, Node, Service, Topology, production

if TYPE_CHECKING:
    from cachesim.backends.compose.backend import ComposeBackend


@dataclass(frozen=True)
class Provision:
    """The running servers of a topology, and what is needed to connect to them.

    Attributes:
        name: the topology's name.
        seed: the seed of all random draws.
        tls: the context of clients that connect to the servers.
        files: the run's files.
        configuration: the configuration endpoints.
        folder: the folder of `cachesim compose`, if docker compose keeps the servers.
        reason: why this backend was chosen; empty if it was not chosen here.
        coming: the names of Memcached nodes that are being added, of which nobody is told yet.
    """

    name: str
    topology: Topology
    settings: Settings
    seed: int
    backend: Backend
    credentials: Credentials
    tls: ssl.SSLContext
    files: RunFiles
    configuration: ConfigurationEndpoints
    folder: Path | None = None
    reason: str = ""
    coming: set[str] = field(default_factory=set)
    _saving: threading.Lock = field(default_factory=threading.Lock)

    @property
    def memcached(self) -> list[Node]:
        """The Memcached nodes that clients may be told of."""
        return [node for node in self.topology.memcached if node.name not in self.coming]

    @property
    def nodes(self) -> list[Node]:
        """All nodes that clients may be told of."""
        return [*self.topology.redis, *self.memcached]

    def endpoints(self, nodes: Iterable[Node]) -> list[Endpoint]:
        """Return the addresses of nodes for clients."""
        return [self.backend.endpoint(node.name) for node in nodes]

    def env(self) -> dict[str, str]:
        """Return the variables that a service reads, by name, secrets included."""
        return service_variables(
            name=self.name,
            backend=self.backend.name,
            engine=self.settings.engine,
            redis_endpoint=self.configuration.address(Service.REDIS),
            redis=self.endpoints(self.topology.redis),
            memcached_endpoint=self.configuration.address(Service.MEMCACHED),
            memcached=self.endpoints(self.memcached),
            username=DEFAULT_USER,
            token=self.credentials.token,
            token_file=self.files.token,
            ca_file=self.files.ca,
            toxiproxies={z.name: self.backend.toxiproxy(z.name) for z in self.topology.zones},
        )

    def save_env(self) -> None:
        """Write the variables for `cachesim env`, without the secrets.

        Raises:
            StartError: they can't be written.
        """
        with self._saving:  # of two writers, the second one has the later addresses
            self.files.save_env(self.env())

    def renew_env(self, events: EventLog) -> None:
        """Write them again after a change. If they can't be, the event log says so, and no more."""
        try:
            self.save_env()
        except StartError as error:
            events.record("error", self.name, f"`cachesim env` has old addresses: {error}")


Provider = Callable[[Progress, contextlib.ExitStack], Provision]
"""One of the functions below, bound to its first arguments."""


def preload(settings: Settings) -> None:
    """Import what a start needs, while it is not asked for yet."""
    is_embedded = settings.backend == "embedded" or (
        settings.backend == "auto" and no_engine_configured()
    )
    modules = ["cachesim.daemon.service", "trustme", "psutil", "platformdirs", "redis"]
    modules += ["pymemcache.client.base", "cachesim.embedded.toxiproxy.server"]
    if is_embedded:
        nodes = ("redis.node", "redis.keyspace.keyspace", "memcached.node")
        modules += ["cachesim.backends.embedded", *(f"cachesim.embedded.{name}" for name in nodes)]
    else:
        modules.append("cachesim.backends.containers.docker")
    for module in modules:
        importlib.import_module(module)


def start(
    name: str, settings: Settings, seed: int, progress: Progress, life: contextlib.ExitStack
) -> Provision:
    """Start new servers, on the backend that the settings choose.

    Raises:
        StartError: they did not start; nothing is left behind.
    """
    backend_name, reason = choose(settings)
    topology, credentials = production(settings.memory_scale), Credentials()
    backend: Backend
    if backend_name == "docker":
        from cachesim.backends.containers.docker import DockerBackend
        from cachesim.backends.containers.engine import connect, published_host

        client = connect()
        ca = CertificateAuthority(
            [h for h in (settings.advertise_host, published_host(client)) if h]
        )
        files = RunFiles(name, ca.pem, credentials.token)
        configuration = _endpoints(name, topology, settings, seed, None, files, life)

        def server_tls(node: str, problem: str | None) -> ssl.SSLContext:
            return server_context(ca.issue(node, problem), files.folder)

        discovery = Discovery(server_tls, admin_context(ca.pem))
        listeners = configuration.end_tls(discovery, at_nodes=settings.discovery == "nodes")
        endpoints = configuration.ports, listeners
        backend = DockerBackend(name, topology, settings, credentials, ca, client, *endpoints)
    else:
        from cachesim.backends.embedded import EmbeddedBackend

        ca = CertificateAuthority([settings.advertise_host] if settings.advertise_host else [])
        files = RunFiles(name, ca.pem, credentials.token)
        if settings.backend == "auto":
            progress(f"{reason}: the nodes are emulated")
        configuration = _endpoints(name, topology, settings, seed, None, files, life)
        folder, thread = files.folder, configuration.thread
        backend = EmbeddedBackend(topology, settings, credentials, ca, folder, seed, thread)
    servers = (backend, credentials, ca.pem, files, configuration)
    provision = _start(name, topology, settings, seed, *servers, progress, life)
    return replace(provision, reason=reason)


def take_over_composed(
    backend: "ComposeBackend",
    name: str,
    settings: Settings,
    seed: int,
    progress: Progress,
    life: contextlib.ExitStack,
) -> Provision:
    """Take over containers that docker compose has started, and keeps.

    Raises:
        SettingsError: their nodes shall answer `config get cluster`.
        StartError: they are not up, or not ready in time.
    """
    if settings.discovery == "nodes":
        raise SettingsError(
            "discovery = 'nodes': nothing can be put before nodes that docker compose runs. Use "
            "`--backend docker` or `--backend embedded`, or attach with CACHESIM_DISCOVERY=endpoint"
        )
    it, topology = backend.composed, production(settings.memory_scale)
    files = RunFiles(name, it.ca, it.credentials.token)
    ports = backend.endpoint_ports
    configuration = _endpoints(name, topology, settings, seed, ports, files, life)
    servers = (backend, it.credentials, it.ca, files, configuration)
    provision = _start(name, topology, settings, seed, *servers, progress, life)
    return replace(provision, folder=it.path)


def _endpoints(
    name: str,
    topology: Topology,
    settings: Settings,
    seed: int,
    ports: Mapping[str, int] | None,
    files: RunFiles,
    life: contextlib.ExitStack,
) -> ConfigurationEndpoints:
    """Open the configuration endpoints.

    Args:
        ports: their ports by name; None: as the settings say.
    """
    try:
        endpoints = ConfigurationEndpoints(name, topology, settings, seed, ports)
    except BaseException:
        files.remove()
        raise
    life.callback(endpoints.close)
    return endpoints


def _start(
    name: str,
    topology: Topology,
    settings: Settings,
    seed: int,
    backend: Backend,
    credentials: Credentials,
    ca: bytes,
    files: RunFiles,
    configuration: ConfigurationEndpoints,
    progress: Progress,
    life: contextlib.ExitStack,
) -> Provision:
    def remove() -> None:
        backend.stop()
        configuration.close()
        files.remove()  # not reached if containers are left: their owner is in the files

    # Before the start, as an interrupt may come right after it.
    life.callback(remove)
    backend.start(progress)
    return Provision(
        name,
        topology,
        settings,
        seed,
        backend,
        credentials,
        admin_context(ca),
        files,
        configuration,
    )
