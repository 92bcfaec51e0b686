"""The configuration endpoints: one address for Redis, and one for Memcached.

Each is a link of its own, in front of the client links: no byte goes around those. A connection
goes to the node that is chosen when it is made, and stays there.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from cachesim.aio.loop import LoopThread
from cachesim.backends.base import file_advice, host_for_clients
from cachesim.backends.discovery import Discovery
from cachesim.backends.ports import check_free, fixed_ports
from cachesim.errors import CachesimError, StartError, ToxiproxyError
from cachesim.settings import Settings
from cachesim.topology import ENDPOINTS, Endpoint, Service, Topology, endpoint_name
from cachesim.toxiproxy.client import ToxiproxyClient

if TYPE_CHECKING:
    from cachesim.backends.node_listeners import NodeListeners
    from cachesim.embedded.toxiproxy.proxy import Connected, Factory
    from cachesim.embedded.toxiproxy.server import ProxyServer

Choose = Callable[[], Endpoint | None]
"""Returns the address for a new connection; None: there is none."""
Way = Callable[[Endpoint], Endpoint]
"""Returns the address to take from a zone in place of a node's announced one. It may wait."""


class ConfigurationEndpoints:
    """The listeners of the configuration endpoints, on 127.0.0.1.

    They refuse connections until `lead` says where to.

    Args:
        name: the topology's name.
        ports: their ports by name, such as `endpoint-redis`; None: those that the settings fix.
            Those that are missing are free ones.
        seed: the seed of the random draws of toxics.

    Attributes:
        thread: the loop that serves them. Emulated nodes run on it too.

    Raises:
        PortTaken: a port is taken.
        StartError: they can't listen.
    """

    def __init__(
        self,
        name: str,
        topology: Topology,
        settings: Settings,
        seed: int,
        ports: Mapping[str, int] | None = None,
    ) -> None:
        if ports is None:
            ports = fixed_ports(settings.ports, topology)
        self._links = {
            link.service: link for link in topology.links if link.target_zone == ENDPOINTS
        }
        wanted = {link.target: ports[link.target] for link in self._links.values()
                  if link.target in ports}  # fmt: skip
        check_free(wanted)
        self._host = host_for_clients(settings.advertise_host, "127.0.0.1")
        self._choose: dict[str, Choose] = {}
        self._ways: dict[str, Way] = {}
        self._discovery: Discovery | None = None
        self._nodes: NodeListeners | None = None
        self.thread = LoopThread(f"cachesim-{name}")
        try:
            self._loop = self.thread.start()
            self._server = self.thread.call(self._start, seed, wanted)
        except (ToxiproxyError, OSError) as error:
            self.thread.stop()
            advice = file_advice(error)
            raise StartError(
                f"the configuration endpoints can't listen: {error}{advice}"
            ) from error
        except BaseException:
            self.thread.stop()
            raise

    def _start(self, seed: int, ports: Mapping[str, int]) -> "ProxyServer":
        from cachesim.embedded.toxiproxy.proxies import Proxies
        from cachesim.embedded.toxiproxy.proxy import ProxySpec
        from cachesim.embedded.toxiproxy.server import ProxyServer

        proxies = Proxies(self._loop, self._dial, Random(f"{seed} {ENDPOINTS}"))
        try:
            for link in self._links.values():
                listen = f"127.0.0.1:{ports.get(link.target, 0)}"
                proxies.create(ProxySpec(link.name, link.target, listen), keep_port=True)
        except ToxiproxyError:
            proxies.close()
            raise
        return ProxyServer(self._loop, proxies)

    def lead(self, service: Service, choose: Choose) -> None:
        """Lead new connections of a service to what a function returns."""
        self._choose[endpoint_name(service)] = choose

    def end_tls(self, discovery: Discovery, *, at_nodes: bool = False) -> "NodeListeners | None":
        """Let the Memcached endpoint answer `config get cluster` itself, and pass all else.

        It is for real servers, which do not know the command.

        Args:
            at_nodes: whether it is done before each node; the endpoint then leads there as it is.

        Returns:
            The listeners before the nodes, which end with these.
        """
        self._discovery = discovery
        if at_nodes:
            from cachesim.backends.node_listeners import NodeListeners

            self._nodes = NodeListeners(self.thread, discovery, self._host)
        return self._nodes

    def tell_cluster(self, reply: bytes) -> None:
        """Answer `config get cluster` so from now on, where that is answered here."""
        if self._discovery is not None:
            self._discovery.reply = reply

    def in_zone(self, zone: str, way: Way) -> dict[str, Endpoint]:
        """Return the endpoints' addresses for programs that are placed in a zone, by name.

        They lead to the same nodes, over the zone's links. The first call makes them. Faults on
        the links of the others do not concern them.

        Args:
            way: where a node is found from the zone.
        """
        self._ways[zone] = way
        return self.thread.call(self._in_zone, zone)

    def _in_zone(self, zone: str) -> dict[str, Endpoint]:
        from cachesim.embedded.toxiproxy.proxy import ProxySpec

        proxies, found = self._server.proxies, {}
        for link in self._links.values():
            name = f"{zone}-to-{link.target}"
            if name not in proxies:
                proxies.create(ProxySpec(name, f"{link.target}@{zone}"), keep_port=True)
            found[link.target] = replace(Endpoint.parse(proxies[name].listen), host=self._host)
        return found

    async def _dial(self, factory: "Factory", target: str) -> "Connected":
        from cachesim.embedded.toxiproxy.proxy import dial_network

        name, _, zone = target.partition("@")
        choose = self._choose.get(name)
        if choose is None or (to := choose()) is None:
            raise ConnectionRefusedError(f"{name} leads nowhere")
        if zone:
            to = await asyncio.to_thread(self._ways[zone], to)
        is_memcached = name == endpoint_name(Service.MEMCACHED)
        if self._discovery is not None and is_memcached and self._nodes is None:
            return self._discovery.accept(self._loop, factory, to)
        return await dial_network(self._loop, factory, str(to))

    def address(self, service: Service) -> Endpoint:
        """Return the address of an endpoint for clients."""
        proxy = self._server.proxies[self._links[service].name]
        return Endpoint(self._host, Endpoint.parse(proxy.listen).port)

    @property
    def ports(self) -> dict[str, int]:
        """The ports by name, such as `endpoint-redis`."""
        return {link.target: self.address(link.service).port for link in self._links.values()}

    def toxiproxy_client(self) -> ToxiproxyClient:
        """Return a new client of the Toxiproxy that has their links, which the caller closes."""
        from cachesim.embedded.toxiproxy.in_process import LocalToxiproxy

        return LocalToxiproxy("http://endpoints", self._server, self.thread.call)

    def close(self) -> None:
        """Close all connections, give up the ports, and end the loop. Repeating it is harmless."""
        with contextlib.suppress(CachesimError):  # the loop does not run
            self.thread.call(self._server.close)
            if self._nodes is not None:
                self._nodes.stop()
        self.thread.stop()
