"""What `Simulator` gives to clients of its servers: connected clients, addresses and variables."""

import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachesim.runs.calls import Call
from cachesim.servers import clients
from cachesim.simulator.session import Session
from cachesim.simulator.while_running import WhileRunning
from cachesim.topology import Endpoint, Node, Service, Topology, endpoint_name

if TYPE_CHECKING:
    from pymemcache.client.hash import HashClient
    from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
    from redis.cluster import RedisCluster

    from cachesim.runs.calls import Seen
    from cachesim.simulator.handles import ControlPlaneHandle, NodeHandle


class ForClients:
    """Base of `cachesim.Simulator`."""

    nodes: "WhileRunning[dict[str, NodeHandle]]" = WhileRunning()
    control_plane: "WhileRunning[ControlPlaneHandle]" = WhileRunning()
    _session: WhileRunning[Session] = WhileRunning()
    _lock: threading.RLock
    topology: Topology

    def redis_cluster(self, *, zone: str | None = None, **overrides: Any) -> "RedisCluster":
        """Return a RedisCluster with AUTH, TLS and timeouts of 0.5 s, or with what is given.

        Args:
            zone: where the client is, so that it takes the links from there. None: in no zone, as
                all of cachesim's clients on this machine.

        Raises:
            ValueError: there is no such zone.
            FaultError: `docker compose` has the nodes, and publishes no link of a zone.
        """
        if zone is not None:
            overrides = {"address_remap": partial(self._seen_from, zone), **overrides}
        return clients.redis_cluster(*self._redis_access(zone), **overrides)

    def async_redis_cluster(
        self, *, zone: str | None = None, **overrides: Any
    ) -> "AsyncRedisCluster":
        """Return the same for asyncio, for `async with`; it belongs to one event loop."""
        if zone is not None:
            overrides = {"address_remap": partial(self._seen_from, zone), **overrides}
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
        else:
            seen = self._seen(zone)[endpoint_name(Service.REDIS)]
            nodes.insert(0, Endpoint.parse(seen["seen"]))
        return nodes, it["token"], Path(it["ca_file"])

    def _endpoints(self, nodes: Iterable[Node], zone: str | None = None) -> list[Endpoint]:
        if zone is None:
            return [self.nodes[node.name].endpoint for node in nodes]
        seen = self._seen(zone)
        return [Endpoint.parse(seen[node.name]["seen"]) for node in nodes]

    def _seen(self, zone: str) -> "dict[str, Seen]":
        name = self.topology.zone(zone).name
        seen: dict[str, Seen] = self._session.connection.call(Call.SEEN_FROM, zone=name)
        return seen

    def _seen_from(self, zone: str, address: tuple[str, int]) -> tuple[str, int]:
        """Return the address to take from a zone in place of the one that a node announces."""
        for it in self._seen(zone).values():
            if it["announced"] == str(Endpoint(*address)):
                seen = Endpoint.parse(it["seen"])
                return seen.host, seen.port
        return address
