"""The topology in this process: emulated nodes, links and Toxiproxies on one asyncio loop."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from cachesim.aio.loop import LoopThread
from cachesim.aio.pipe import pipe
from cachesim.backends.address_plan import port_name
from cachesim.backends.base import Progress, file_advice, host_for_clients
from cachesim.backends.embedded_changes import EmbeddedChanges, upstream
from cachesim.backends.ports import check_free, fixed_ports
from cachesim.errors import CachesimError, StartError, ToxiproxyError
from cachesim.servers.certificates import CertificateAuthority, client_context
from cachesim.servers.credentials import ADMIN_USER, Credentials
from cachesim.servers.memcached_config import megabytes_for
from cachesim.servers.redis_config import (
    AnnouncedPorts,
    acl_users,
    can_tell_zone,
    random_node_ids,
    redis_settings,
)
from cachesim.settings import Settings
from cachesim.topology import CLIENT, Endpoint, Link, Node, NodeState, Service, Topology
from cachesim.toxiproxy.client import ToxiproxyClient

if TYPE_CHECKING:
    from cachesim.embedded.answers import Rule
    from cachesim.embedded.memcached.node import MemcachedNode
    from cachesim.embedded.redis.config import NodeAddress
    from cachesim.embedded.redis.node import RedisNode
    from cachesim.embedded.toxiproxy.proxy import Connected, Factory
    from cachesim.embedded.toxiproxy.server import ProxyServer


class EmbeddedBackend(EmbeddedChanges):
    """Emulated nodes behind embedded Toxiproxies. See `Backend` for the methods.

    Args:
        directory: for the nodes' files, which are not removed; nothing else may use it.
        ca: must certify the settings' `advertise_host`.
        seed: the seed of the proxies' random draws.
        thread: the loop on which all run. It is running, and the caller stops it.
    """

    name = "embedded"

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        credentials: Credentials,
        ca: CertificateAuthority,
        directory: Path,
        seed: int,
        thread: LoopThread,
    ) -> None:
        self._topology = topology
        self._settings = settings
        self._client_host = host_for_clients(settings.advertise_host, "127.0.0.1")
        self._credentials = credentials
        self._ca = ca
        self._directory = directory
        self._seed = seed
        self._thread, self._loop = thread, thread.loop
        self._is_closed = False
        self._servers: dict[str, ProxyServer] = {}
        self._urls: dict[str, str] = {}
        self._nodes: dict[str, RedisNode | MemcachedNode] = {}
        self._listeners: dict[str, asyncio.Server] = {}
        self._accept: dict[str, Callable[[], asyncio.Protocol]] = {}
        super().__init__()
        self._client_ports = cycle(range(32768, 61000))  # as Linux takes them

    # --- life -------------------------------------------------------------------------------

    def start(self, progress: Progress) -> None:
        """Start the links, then the nodes. See `Backend.start`."""
        progress("starting six emulated nodes in three zones")
        ports = fixed_ports(self._settings.ports, self._topology)
        used = [it.name for it in self._topology.nodes]
        used += [_toxiproxy_port(it.name) for it in self._topology.zones]
        self._ports = {name: port for name, port in ports.items() if name in used}
        check_free(self._ports)
        try:
            self._thread.call(self._start_links)
            # Outside the loop, as it reads files and generates keys.
            self._create_nodes()
            self._thread.run(self._start_nodes)
        except (ToxiproxyError, OSError) as error:
            self.stop()
            raise StartError(
                f"the emulated nodes can't start: {error}{file_advice(error)}"
            ) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the nodes and the links."""
        with contextlib.suppress(CachesimError):  # the loop does not run
            self._thread.call(self._close)

    def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        for listener in self._listeners.values():
            listener.close()
        for node in self._nodes.values():
            node.close()
        for server in self._servers.values():
            server.close()

    def _start_links(self) -> None:
        from cachesim.embedded.toxiproxy.proxies import Proxies
        from cachesim.embedded.toxiproxy.server import ProxyServer

        for zone in self._topology.zones:
            rng = Random(f"{self._seed} {zone.name}")
            server = ProxyServer(self._loop, Proxies(self._loop, self._dial, rng))
            self._servers[zone.name] = server
            self._urls[zone.name] = server.start(self._ports.get(_toxiproxy_port(zone.name), 0))
        for link in self._topology.links:
            if link.home in self._servers:
                self._start_link(link)

    def _start_link(self, link: Link) -> None:
        from cachesim.embedded.toxiproxy.proxy import ProxySpec

        port = self._ports.get(link.target, 0) if link.source == CLIENT else 0
        listen = f"127.0.0.1:{port}" if port else ""
        spec = ProxySpec(link.name, upstream(link.target, link.service), listen)
        self._servers[link.home].proxies.create(spec, keep_port=True)

    def _create_nodes(self) -> None:
        from cachesim.servers.certificates import server_context

        ids = random_node_ids(self._topology)
        addresses = {it.name: self._address(it, ids[it.name]) for it in self._topology.redis}
        peer_tls = client_context(self._ca.pem)
        for node in self._topology.nodes:
            if node.service is Service.MEMCACHED:
                self._create_memcached(node)
            else:
                directory = self._directory / node.name
                directory.mkdir(mode=0o700)
                tls = server_context(self._ca.issue(node.name), directory)
                redis = self._create_redis(node, directory, addresses, tls, peer_tls)
                self._nodes[node.name] = redis
                self._accept[upstream(node.name, Service.REDIS)] = redis.accept
                self._accept[upstream(node.name, Service.BUS)] = redis.accept_bus

    def _create_memcached(self, node: Node) -> None:
        from cachesim.embedded.memcached.config import MEGABYTE, MemcachedNodeConfig
        from cachesim.embedded.memcached.node import MemcachedNode
        from cachesim.servers.certificates import server_context

        directory = self._directory / node.name
        directory.mkdir(mode=0o700, exist_ok=True)
        tls = server_context(self._ca.issue(node.name), directory)
        config = MemcachedNodeConfig(node.name, megabytes_for(node) * MEGABYTE, tls)
        created = MemcachedNode(config, loop=self._loop)
        self._nodes[node.name] = created
        self._accept[upstream(node.name, Service.MEMCACHED)] = created.accept

    def _create_redis(
        self,
        node: Node,
        directory: Path,
        addresses: Mapping[str, "NodeAddress"],
        server_tls: ssl.SSLContext,
        peer_tls: ssl.SSLContext,
    ) -> "RedisNode":
        from cachesim.embedded.redis.config import RedisNodeConfig
        from cachesim.embedded.redis.node import RedisNode

        shard = self._topology.shard_of(node.name)
        mine = addresses[node.name]
        config = RedisNodeConfig(
            node.name,
            directory,
            {peer.name: addresses[peer.name] for peer in shard.nodes},
            shard.first_primary,
            engine=self._settings.engine,
            redis_version=self._settings.redis_version,
            users=acl_users(self._credentials),
            replication_user=ADMIN_USER,
            replication_password=self._credentials.admin_password,
            server_tls=server_tls,
            peer_tls=peer_tls,
            settings=redis_settings(
                node,
                AnnouncedPorts(mine.port, mine.bus_port),
                hostname=mine.hostname,
                node_timeout_ms=int(self._settings.node_timeout_seconds * 1000),
                tells_zone=can_tell_zone(self._settings.engine),
            ),
        )
        return RedisNode(config, dial_peer=partial(self._dial_peer, node), loop=self._loop)

    def _address(self, node: Node, id_: str) -> "NodeAddress":
        from cachesim.embedded.redis.config import NodeAddress

        redis = self._announced(node.name, Service.REDIS)
        bus = self._announced(node.name, Service.BUS)
        hostname = self._settings.advertise_host
        return NodeAddress(id_, redis.host, redis.port, bus.port, hostname)

    async def _start_nodes(self) -> None:
        for name in self._nodes:
            await self._start_node(name)

    async def _start_node(self, name: str) -> None:
        node = self._nodes[name]
        node.start()
        self._listeners[name] = await self._loop.create_server(
            node.accept_from_listener, "127.0.0.1", 0
        )

    # --- links ------------------------------------------------------------------------------

    async def _dial(self, factory: "Factory", address: str) -> "Connected":
        """Connect a link to its upstream: a node in this process, or any address on the network."""
        from cachesim.embedded.toxiproxy.proxy import dial_network

        if (accept := self._accept.get(address)) is None:
            return await dial_network(self._loop, factory, address)
        protocol = factory()
        # A port of its own, as a connection on the network has, so that CLIENT KILL finds it.
        peer = ("127.0.0.1", next(self._client_ports))
        transport, _ = pipe(self._loop, protocol, accept(), left_address=peer)
        return transport, protocol

    async def _dial_peer(
        self, dialer: Node, factory: "Factory", peer: str, service: str
    ) -> "Connected":
        spec = self._topology.node(peer)
        link = Link(dialer.zone, peer, Service(service), spec.zone)
        return await self._servers[dialer.zone].proxies.connect(link.name, factory)

    def _announced(self, node: str, service: Service) -> Endpoint:
        """Return the address that a node announces, on which a link to it listens."""
        spec = self._topology.node(node)
        # Clients do not use the bus. Any zone's link to it will do, as peers go by the node's name.
        others = (z.name for z in self._topology.zones if z.name != spec.zone)
        source = next(others) if service is Service.BUS else CLIENT
        link = Link(source, node, service, spec.zone)
        return Endpoint.parse(self._servers[link.home].proxies[link.name].listen)

    def endpoint(self, node: str) -> Endpoint:
        """See `Backend.endpoint`."""
        announced = self._announced(node, self._topology.node(node).service)
        return replace(announced, host=self._client_host)

    def admin(self, node: str) -> Endpoint:
        """See `Backend.admin`."""
        host, port = self._listeners[node].sockets[0].getsockname()
        return Endpoint(host, port)

    def seen_from(self, zone: str, nodes: Sequence[Node]) -> Mapping[str, Endpoint]:
        """See `Backend.seen_from`."""
        proxies = self._servers[zone].proxies
        return {
            node.name: self.endpoint(node.name)
            if node.zone == zone
            else Endpoint.parse(proxies[Link(zone, node.name, node.service, node.zone).name].listen)
            for node in nodes
        }

    def link_bytes(self) -> Mapping[str, int]:
        """See `Backend.link_bytes`."""

        def count() -> dict[str, int]:
            return {
                name: proxy.passed
                for server in self._servers.values()
                for name, proxy in server.proxies.items()
            }

        return self._thread.call(count)

    def toxiproxy(self, zone: str) -> str:
        """See `Backend.toxiproxy`."""
        return self._urls[zone]

    def toxiproxy_client(self, zone: str) -> ToxiproxyClient:
        """See `Backend.toxiproxy_client`."""
        from cachesim.embedded.toxiproxy.in_process import LocalToxiproxy

        return LocalToxiproxy(self._urls[zone], self._servers[zone], self._thread.call)

    def lead_zones_to(self, node: str) -> None:
        """Do nothing: all clients use the endpoint on this machine."""

    def renew_toxiproxy(self, zone: str) -> None:
        """Do nothing: the API of an embedded Toxiproxy never blocks."""

    # --- verbs ------------------------------------------------------------------------------

    def state(self, node: str) -> NodeState:
        """See `Backend.state`."""
        it = self._nodes[node]
        if not it.is_running:
            return NodeState.STOPPED
        return NodeState.PAUSED if it.is_paused else NodeState.RUNNING

    def kill(self, *nodes: str) -> None:
        """See `Backend.kill`."""
        self._call_each("kill", nodes)

    def shut_down(self, node: str) -> None:
        """See `Backend.shut_down`."""
        self._thread.run(self._nodes[node].shut_down_in_sync)

    def pause(self, *nodes: str) -> None:
        """See `Backend.pause`."""
        self._call_each("pause", nodes)

    def resume(self, node: str) -> None:
        """See `Backend.resume`."""
        self._call_each("resume", [node])

    def start_node(self, node: str) -> None:
        """See `Backend.start_node`."""
        self._call_each("start", [node])

    def truncate_aof(self, node: str, size: int) -> None:
        """See `Backend.truncate_aof`."""
        self._thread.call(self._nodes[node].truncate_aof, size)  # type: ignore[union-attr]

    def renew_redis(self) -> None:
        """See `Backend.renew_redis`."""
        self._call_each("renew", [node.name for node in self._topology.redis])

    def answer_with(self, node: str, rules: Sequence["Rule"]) -> None:
        """See `Backend.answer_with`."""
        self._thread.call(self._nodes[node].answer_with, rules)

    def limit_cpu(self, node: str, share: float) -> None:
        """See `Backend.limit_cpu`. Each request takes longer, one after the other."""
        self._thread.call(self._nodes[node].limit_cpu, share)

    def fill_disk(self, node: str, *, is_full: bool, spare: int = 0) -> None:  # noqa: ARG002
        """See `Backend.fill_disk`."""
        self._thread.call(partial(self._nodes[node].fill_disk, is_full=is_full))  # type: ignore[union-attr]

    def limit_connections(self, node: str, most: int | None, clients: int = 0) -> None:  # noqa: ARG002
        """See `Backend.limit_connections`."""
        self._thread.call(self._nodes[node].limit_connections, most)  # type: ignore[union-attr]

    def set_tokens(self, node: str, tokens: Sequence[str]) -> None:
        """See `Backend.set_tokens`."""
        users = acl_users(self._credentials, tokens)
        self._thread.call(self._nodes[node].use_users, users)  # type: ignore[union-attr]

    def set_certificate(self, node: str, problem: str | None) -> None:
        """See `Backend.set_certificate`."""
        from cachesim.servers.certificates import server_context

        tls = server_context(self._ca.issue(node, problem), self._directory / node)
        self._thread.call(self._nodes[node].use_certificate, tls)

    def logs(self, node: str, lines: int = 50) -> str:
        """See `Backend.logs`."""
        return self._nodes[node].logs(lines)

    def _call_each(self, verb: str, nodes: Collection[str]) -> None:
        def call() -> None:
            for node in nodes:
                getattr(self._nodes[node], verb)()

        self._thread.call(call)


def _toxiproxy_port(zone: str) -> str:
    """Return the name of the port of a zone's Toxiproxy, in the setting `ports`."""
    return port_name("toxiproxy", zone)
