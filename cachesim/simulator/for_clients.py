"""What `Simulator` gives to clients of its servers: connected clients, addresses and variables."""

import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachesim.servers import clients
from cachesim.simulator.session import Session
from cachesim.simulator.while_running import WhileRunning
from cachesim.topology import Endpoint, Node, Topology

if TYPE_CHECKING:
    from pymemcache.client.hash import HashClient
    from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
    from redis.cluster import RedisCluster

    from cachesim.simulator.handles import ControlPlaneHandle, LinkHandles, NodeHandle


class ForClients:
    """Base of `cachesim.Simulator`."""

    nodes: "WhileRunning[dict[str, NodeHandle]]" = WhileRunning()
    links: "WhileRunning[LinkHandles]" = WhileRunning()
    control_plane: "WhileRunning[ControlPlaneHandle]" = WhileRunning()
    _session: WhileRunning[Session] = WhileRunning()
    _lock: threading.RLock
    topology: Topology

    def redis_cluster(self, *, zone: str | None = None, **overrides: Any) -> "RedisCluster":
        """Return a RedisCluster with AUTH, TLS and timeouts of 0.5 s, or with what is given.

        Args:
            zone: where the client is, so that it takes the links from there; embedded only. None:
                in no zone, as all of cachesim's clients on this machine.

        Raises:
            ValueError: there is no such zone, or the nodes are containers.
        """
        if zone is not None:
            overrides = {"address_remap": partial(self._seen_from, self._place(zone)), **overrides}
        return clients.redis_cluster(*self._redis_access(zone), **overrides)

    def async_redis_cluster(
        self, *, zone: str | None = None, **overrides: Any
    ) -> "AsyncRedisCluster":
        """Return the same for asyncio, for `async with`; it belongs to one event loop."""
        if zone is not None:
            overrides = {"address_remap": partial(self._seen_from, self._place(zone)), **overrides}
        return clients.async_redis_cluster(*self._redis_access(zone), **overrides)

    def memcached_client(self, *, zone: str | None = None, **overrides: Any) -> "HashClient":
        """Return a HashClient with TLS, pools and timeouts of 0.5 s, or with what is given.

        Args:
            zone: see `redis_cluster`.
        """
        from cachesim.servers.certificates import client_context  # slow to import

        tls = client_context(Path(self._session.description["ca_file"]).read_bytes())
        nodes = self._endpoints(self.topology.memcached, zone)
        return clients.memcached_client(nodes, tls, **overrides)

    def toxiproxy(self, zone: str) -> Any:
        """Return toxiproxy-python's `Toxiproxy` for one zone's proxies."""
        url = self._session.description["toxiproxy"][name := self.topology.zone(zone).name]
        with self._lock:  # it imports a module
            return clients.toxiproxy(name, url)

    def env(self) -> dict[str, str]:
        """Return the variables that a service reads, by name, secrets included."""
        return self._session.env()

    def _redis_access(self, zone: str | None) -> tuple[list[Endpoint], str, Path]:
        it = self._session.description
        nodes = self._endpoints(self.topology.redis, zone)
        if zone is None:
            nodes.insert(0, self.control_plane.endpoints["redis"])
        return nodes, it["token"], Path(it["ca_file"])

    def _endpoints(self, nodes: Iterable[Node], zone: str | None = None) -> list[Endpoint]:
        if zone is None:
            return [self.nodes[node.name].endpoint for node in nodes]
        return [self._from_zone(self._place(zone), node) for node in nodes]

    def _place(self, zone: str) -> str:
        """Return a zone's name, if clients on this machine can be placed in zones."""
        if self._session.description["backend"] != "embedded":
            raise ValueError(
                "a client on this machine can't be placed in a zone of containers: run it in a "
                "container that joins the zone's network, or take the backend `embedded`"
            )
        return self.topology.zone(zone).name

    def _from_zone(self, zone: str, node: Node) -> Endpoint:
        """Return a node's address as it is seen from a zone: a zone reaches its own as all do."""
        if node.zone == zone:
            return self.nodes[node.name].endpoint
        return self.links[zone, node.name].listen

    def _seen_from(self, zone: str, address: tuple[str, int]) -> tuple[str, int]:
        """Return the address to take from a zone in place of the one that a node announces."""
        for node in self.topology.redis:
            announced = self.nodes[node.name].endpoint
            if node.zone != zone and address == (announced.host, announced.port):
                seen = self._from_zone(zone, node)
                return seen.host, seen.port
        return address
