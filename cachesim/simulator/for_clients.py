"""What `Simulator` gives to clients of its servers: connected clients, addresses and variables."""

import threading
from collections.abc import Iterable
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

    from cachesim.simulator.handles import ControlPlaneHandle, NodeHandle


class ForClients:
    """Base of `cachesim.Simulator`."""

    nodes: "WhileRunning[dict[str, NodeHandle]]" = WhileRunning()
    control_plane: "WhileRunning[ControlPlaneHandle]" = WhileRunning()
    _session: WhileRunning[Session] = WhileRunning()
    _lock: threading.RLock
    topology: Topology

    def redis_cluster(self, **overrides: Any) -> "RedisCluster":
        """Return a RedisCluster with AUTH, TLS and timeouts of 0.5 s, or with what is given."""
        return clients.redis_cluster(*self._redis_access(), **overrides)

    def async_redis_cluster(self, **overrides: Any) -> "AsyncRedisCluster":
        """Return the same for asyncio, for `async with`; it belongs to one event loop."""
        return clients.async_redis_cluster(*self._redis_access(), **overrides)

    def memcached_client(self, **overrides: Any) -> "HashClient":
        """Return a HashClient with TLS, pools and timeouts of 0.5 s, or with what is given."""
        from cachesim.servers.certificates import client_context  # slow to import

        tls = client_context(Path(self._session.description["ca_file"]).read_bytes())
        return clients.memcached_client(self._endpoints(self.topology.memcached), tls, **overrides)

    def toxiproxy(self, zone: str) -> Any:
        """Return toxiproxy-python's `Toxiproxy` for one zone's proxies."""
        url = self._session.description["toxiproxy"][name := self.topology.zone(zone).name]
        with self._lock:  # it imports a module
            return clients.toxiproxy(name, url)

    def env(self) -> dict[str, str]:
        """Return the variables that a service reads, by name, secrets included."""
        return self._session.env()

    def _redis_access(self) -> tuple[list[Endpoint], str, Path]:
        it = self._session.description
        nodes = [self.control_plane.endpoints["redis"], *self._endpoints(self.topology.redis)]
        return nodes, it["token"], Path(it["ca_file"])

    def _endpoints(self, nodes: Iterable[Node]) -> list[Endpoint]:
        return [self.nodes[node.name].endpoint for node in nodes]
