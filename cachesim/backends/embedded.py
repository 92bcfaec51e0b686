"""The topology within this process: emulated nodes, links and Toxiproxies on one asyncio loop."""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from cachesim.aio.loop import LoopThread
from cachesim.aio.pipe import pipe
from cachesim.backends.base import NodeState, Progress
from cachesim.errors import CachesimError, StartError, ToxiproxyError
from cachesim.servers.certificates import CertificateAuthority, client_context
from cachesim.servers.credentials import ADMIN_USER, Credentials
from cachesim.servers.memcached_config import megabytes_for
from cachesim.servers.redis_config import Announced, acl_users, random_node_ids, redis_settings
from cachesim.settings import Settings
from cachesim.topology import CLIENT, Endpoint, Link, Node, Service, Topology
from cachesim.toxiproxy.client import ToxiproxyClient

if TYPE_CHECKING:
    from cachesim.embedded.memcached.node import MemcachedNode
    from cachesim.embedded.redis.node import RedisNode
    from cachesim.embedded.toxiproxy.http import ProxyServer
    from cachesim.embedded.toxiproxy.proxies import Connected, Factory

_PORTS = {Service.REDIS: 6379, Service.BUS: 16379, Service.MEMCACHED: 11211}
"""Those of the nodes themselves, which mean something in here alone."""
_FILES = 80
"""Open files, sockets mostly, of a topology with a few clients."""


class EmbeddedBackend:
    """Emulated nodes behind embedded Toxiproxies. See `Backend` for the methods.

    Args:
        directory: for the nodes' files; this backend alone may use it, and removes nothing of it.
        ca: must certify the settings' `advertise_host`.
        seed: what the proxies draw from.
    """

    name = "embedded"

    def __init__(
        self,
        name: str,
        topology: Topology,
        settings: Settings,
        credentials: Credentials,
        ca: CertificateAuthority,
        directory: Path,
        seed: int,
    ) -> None:
        self._topology = topology
        self._settings = settings
        self._credentials = credentials
        self._ca = ca
        self._directory = directory
        self._seed = seed
        self._thread = LoopThread(f"cachesim-{name}")
        self._servers: dict[str, ProxyServer] = {}
        self._urls: dict[str, str] = {}
        self._nodes: dict[str, RedisNode | MemcachedNode] = {}
        self._listeners: dict[str, asyncio.Server] = {}
        self._accept: dict[str, Callable[[], asyncio.Protocol]] = {}

    # --- life -------------------------------------------------------------------------------

    def start(self, progress: Progress) -> None:
        """Bring up the links, then the nodes. See `Backend.start`."""
        progress("starting six emulated nodes in three zones, within this process")
        try:
            self._loop = self._thread.start()
            self._thread.call(self._start_links)
            # Not in the loop: it reads files and draws keys.
            self._make_nodes()
            self._thread.run(self._start_nodes)
        except (ToxiproxyError, OSError) as error:
            self.stop()
            raise StartError(f"the emulated nodes can't start: {error}{_advice(error)}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the nodes, the links and the loop."""
        with contextlib.suppress(CachesimError):  # it does not run
            self._thread.call(self._close)
        self._thread.stop()

    def _close(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        for node in self._nodes.values():
            node.close()
        for server in self._servers.values():
            server.close()

    def _start_links(self) -> None:
        from cachesim.embedded.toxiproxy.http import ProxyServer
        from cachesim.embedded.toxiproxy.proxies import Proxies, ProxySpec

        for zone in self._topology.zones:
            rng = Random(f"{self._seed} {zone.name}")  # to be drawn again
            server = ProxyServer(self._loop, Proxies(self._loop, self._dial, rng))
            self._servers[zone.name] = server
            self._urls[zone.name] = server.start()
            for link in self._topology.links:
                if link.home == zone.name:
                    spec = ProxySpec(link.name, _address(link.target, link.service))
                    server.proxies.create(spec, keep_port=True)

    def _make_nodes(self) -> None:
        from cachesim.aio.tls import server_context
        from cachesim.embedded.memcached.config import MEGABYTE, MemcachedNodeConfig
        from cachesim.embedded.memcached.node import MemcachedNode
        from cachesim.embedded.redis.config import NodeAddress, RedisNodeConfig
        from cachesim.embedded.redis.node import RedisNode

        hostname = self._settings.advertise_host
        ids = random_node_ids(self._topology)
        addresses = {}
        for node in self._topology.redis:
            at = self._announced(node.name, Service.REDIS)
            bus = self._announced(node.name, Service.BUS)
            addresses[node.name] = NodeAddress(ids[node.name], at.host, at.port, bus.port, hostname)
        peer_tls = client_context(self._ca.pem)
        for node in self._topology.nodes:
            directory = self._directory / node.name
            directory.mkdir(mode=0o700)
            tls = server_context(self._ca.issue(node.name), directory)
            if node.service is Service.MEMCACHED:
                memcached = MemcachedNode(
                    MemcachedNodeConfig(node.name, megabytes_for(node) * MEGABYTE, tls),
                    loop=self._loop,
                )
                self._nodes[node.name] = memcached
                self._accept[_address(node.name, Service.MEMCACHED)] = memcached.accept
                continue
            redis = RedisNode(
                RedisNodeConfig(
                    node.name,
                    node.zone,
                    directory,
                    addresses,
                    self._topology.shards[0].first_primary,
                    engine=self._settings.engine,
                    users=acl_users(self._credentials),
                    replication_user=ADMIN_USER,
                    replication_password=self._credentials.admin_password,
                    server_tls=tls,
                    peer_tls=peer_tls,
                    settings=redis_settings(
                        node,
                        Announced(addresses[node.name].port, addresses[node.name].bus_port),
                        hostname=hostname,
                        node_timeout_ms=int(self._settings.node_timeout_seconds * 1000),
                    ),
                ),
                dial_peer=partial(self._dial_peer, node),
                loop=self._loop,
            )
            self._nodes[node.name] = redis
            self._accept[_address(node.name, Service.REDIS)] = redis.accept
            self._accept[_address(node.name, Service.BUS)] = redis.accept_bus

    async def _start_nodes(self) -> None:
        for name, node in self._nodes.items():
            node.start()
            self._listeners[name] = await self._loop.create_server(
                node.accept_from_listener, "127.0.0.1", 0
            )

    # --- ways -------------------------------------------------------------------------------

    async def _dial(self, factory: "Factory", address: str) -> "Connected":
        """What a link leads to: a node in here, or whatever else a user has chosen."""
        from cachesim.embedded.toxiproxy.proxies import dial_network

        if (accept := self._accept.get(address)) is None:
            return await dial_network(self._loop, factory, address)
        protocol = factory()
        transport, _ = pipe(self._loop, protocol, accept())
        return transport, protocol

    async def _dial_peer(
        self, dialer: Node, factory: "Factory", peer: str, service: str
    ) -> "Connected":
        spec = self._topology.node(peer)
        link = Link(dialer.zone, peer, Service(service), spec.zone)
        return await self._servers[dialer.zone].proxies.connect(link.name, factory)

    def _announced(self, node: str, service: Service) -> Endpoint:
        """Where a link to a node listens, as everybody is told."""
        spec = self._topology.node(node)
        # Over the bus nobody comes from outside; any zone's link has a port that can be told.
        others = (z.name for z in self._topology.zones if z.name != spec.zone)
        source = next(others) if service is Service.BUS else CLIENT
        link = Link(source, node, service, spec.zone)
        return Endpoint.parse(self._servers[link.home].proxies[link.name].listen)

    def endpoint(self, node: str) -> Endpoint:
        """See `Backend.endpoint`."""
        return self._announced(node, self._topology.node(node).service)

    def admin(self, node: str) -> Endpoint:
        """See `Backend.admin`."""
        host, port = self._listeners[node].sockets[0].getsockname()
        return Endpoint(host, port)

    def toxiproxy(self, zone: str) -> str:
        """See `Backend.toxiproxy`."""
        return self._urls[zone]

    def toxiproxy_client(self, zone: str) -> ToxiproxyClient:
        """See `Backend.toxiproxy_client`."""
        from cachesim.embedded.toxiproxy.in_process import LocalToxiproxy

        return LocalToxiproxy(self._urls[zone], self._servers[zone], self._thread.call)

    def renew_toxiproxy(self, zone: str) -> None:
        """See `Backend.renew_toxiproxy`: its API never stands still, as it waits for nobody."""

    # --- verbs ------------------------------------------------------------------------------

    def state(self, node: str) -> NodeState:
        """See `Backend.state`."""
        it = self._nodes[node]
        if not it.is_running:
            return NodeState.STOPPED
        return NodeState.PAUSED if it.is_paused else NodeState.RUNNING

    def kill(self, *nodes: str) -> None:
        """See `Backend.kill`."""
        self._each("kill", nodes)

    def shut_down(self, node: str) -> None:
        """See `Backend.shut_down`."""
        self._each("shut_down", [node])

    def pause(self, *nodes: str) -> None:
        """See `Backend.pause`."""
        self._each("pause", nodes)

    def resume(self, node: str) -> None:
        """See `Backend.resume`."""
        self._each("resume", [node])

    def start_node(self, node: str) -> None:
        """See `Backend.start_node`."""
        self._each("start", [node])

    def truncate_aof(self, node: str, size: int) -> None:
        """See `Backend.truncate_aof`."""
        self._thread.call(self._nodes[node].truncate_aof, size)  # type: ignore[union-attr]

    def renew_redis(self) -> None:
        """See `Backend.renew_redis`."""
        self._each("renew", [node.name for node in self._topology.redis])

    def logs(self, node: str, lines: int = 50) -> str:
        """See `Backend.logs`."""
        return self._nodes[node].logs(lines)

    def _each(self, verb: str, nodes: Collection[str]) -> None:
        def act() -> None:
            for node in nodes:
                getattr(self._nodes[node], verb)()

        self._thread.call(act)


def _address(node: str, service: Service) -> str:
    return f"{node}:{_PORTS[service]}"


def _advice(error: Exception) -> str:
    if "too many open files" not in str(error).lower():
        return ""
    return f". Allow this process more, with `ulimit -n 1024`: a topology takes about {_FILES}"
