"""What a topology in containers consists of: addresses, commands, files. Pure, whatever runs them.

Each zone is a pod: one network namespace, held by the zone's Toxiproxy container, which the zone's
Redis and Memcached containers join. `127.0.0.1:P(redis-a)` then means, from each place, another
listener of another Toxiproxy: one link for each (source, target) pair, all under one address.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cachesim.servers.certificates import CertificateAuthority
from cachesim.servers.credentials import Credentials
from cachesim.servers.memcached_config import MEMCACHED_PORT, memcached_command
from cachesim.servers.redis_config import (
    BUS_PORT,
    REDIS_PORT,
    Announced,
    auth_conf,
    nodes_conf,
    redis_conf,
    redis_settings,
)
from cachesim.topology import CLIENT, Endpoint, Link, Node, Service, Topology

TOXIPROXY_PORT = 8474
TOXIPROXY_COMMAND = ("-host=0.0.0.0",)
FILES = "/cachesim"
"""Where every container has the topology's files, in a folder for each node."""
NETWORK_OPTIONS = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
"""Published ports work, but nothing finds its way out: no address is translated."""
LOG_OPTIONS = {"max-size": "16m"}
"""For the engine's `json-file` logs."""
PART_LABEL = "cachesim.part"
"""The label that says what a container is: the name of a node, or of a pod."""
REDIS_UID = 999
"""The official Redis and Valkey images' user."""
MEMCACHED_UID = 11211
"""The official Memcached image's user."""

_LISTENERS = {
    Service.REDIS: REDIS_PORT,
    Service.BUS: BUS_PORT,
    Service.MEMCACHED: MEMCACHED_PORT,
}


@dataclass(frozen=True)
class ZonePorts:
    """The ports of one zone, on the host and, but for the API and the admin ones, in every pod."""

    redis: int
    bus: int
    memcached: int
    toxiproxy: int
    redis_admin: int
    memcached_admin: int


@dataclass(frozen=True)
class Plan:
    """The address plan of one topology.

    Attributes:
        ports: by the zone's name.
        host: where published ports are reached.
    """

    topology: Topology
    ports: Mapping[str, ZonePorts]
    host: str = "127.0.0.1"

    def endpoint(self, node: str) -> Endpoint:
        """The node's announced address."""
        spec = self.topology.node(node)
        ports = self.ports[spec.zone]
        return Endpoint(
            self.host, ports.redis if spec.service is Service.REDIS else ports.memcached
        )

    def admin(self, node: str) -> Endpoint:
        """The published port of the server itself."""
        spec = self.topology.node(node)
        ports = self.ports[spec.zone]
        port = ports.redis_admin if spec.service is Service.REDIS else ports.memcached_admin
        return Endpoint(self.host, port)

    def toxiproxy(self, zone: str) -> str:
        """The URL of the pod holder's API."""
        return f"http://{Endpoint(self.host, self.ports[zone].toxiproxy)}"

    def published(self, zone: str) -> dict[int, int]:
        """What a pod publishes: the host's port by its own."""
        ports = self.ports[zone]
        return {
            ports.redis: ports.redis,
            ports.memcached: ports.memcached,
            TOXIPROXY_PORT: ports.toxiproxy,
            REDIS_PORT: ports.redis_admin,
            MEMCACHED_PORT: ports.memcached_admin,
        }

    def proxies(self, zone: str) -> list[dict[str, str]]:
        """What a zone's Toxiproxy carries, as its API and its configuration take it."""
        return [
            {"name": link.name, "listen": self._listen(link), "upstream": _upstream(link)}
            for link in self.topology.links
            if link.home == zone
        ]

    def sysctls(self) -> dict[str, str]:
        """A pod's: no connection that begins there may take the port of a link.

        It would keep the proxy of a link that was refused from listening again.
        """
        ports = (port for it in self.ports.values() for port in (it.redis, it.bus, it.memcached))
        return {"net.ipv4.ip_local_reserved_ports": ",".join(map(str, ports))}

    def _listen(self, link: Link) -> str:
        ports = self.ports[link.target_zone]
        port = {
            Service.REDIS: ports.redis,
            Service.BUS: ports.bus,
            Service.MEMCACHED: ports.memcached,
        }[link.service]
        # The engine forwards a published port to the pod's address on the network.
        return f"{'0.0.0.0' if link.source == CLIENT else '127.0.0.1'}:{port}"  # noqa: S104

    def _announced(self) -> dict[str, Announced]:
        return {
            node.name: Announced(self.ports[node.zone].redis, self.ports[node.zone].bus)
            for node in self.topology.redis
        }

    def initial_nodes_conf(self, ids: Mapping[str, str]) -> dict[str, str]:
        """What the Redis nodes know of each other at their first start, by path in `FILES`."""
        known = nodes_conf(self.topology, self._announced(), ids)
        return {f"{node}/nodes.conf": text for node, text in known.items()}

    def redis_files(
        self,
        *,
        hostname: str | None,
        node_timeout_ms: int,
        ids: Mapping[str, str],
    ) -> dict[str, str]:
        """The Redis nodes' files without a secret in them, by path in `FILES`.

        Args:
            hostname: what clients are told instead of the announced IP.
            node_timeout_ms: `cluster-node-timeout`.
            ids: the id of each Redis node, 40 hexadecimal digits, by its name.
        """
        files = self.initial_nodes_conf(ids)
        announced = self._announced()
        for node in self.topology.redis:
            settings = redis_settings(
                node, announced[node.name], hostname=hostname, node_timeout_ms=node_timeout_ms
            )
            files[f"{node.name}/redis.conf"] = redis_conf(settings, f"{FILES}/{node.name}")
        return files


def certificate_files(topology: Topology, ca: CertificateAuthority) -> dict[str, bytes]:
    """All nodes' certificates and keys, by path in `FILES`."""
    files = {}
    for node in topology.nodes:
        certificate = ca.issue(node.name)
        files[f"{node.name}/ca.pem"] = ca.pem
        files[f"{node.name}/cert.pem"] = certificate.chain
        files[f"{node.name}/key.pem"] = certificate.key
    return files


def auth_files(topology: Topology, credentials: Credentials) -> dict[str, str]:
    """The Redis nodes' files that hold passwords, by path in `FILES`."""
    return {f"{node.name}/auth.conf": auth_conf(credentials) for node in topology.redis}


def server_command(node: Node, engine: str) -> list[str]:
    """What a node's container runs."""
    files = f"{FILES}/{node.name}"
    if node.service is Service.REDIS:
        return ["valkey-server" if engine == "valkey" else "redis-server", f"{files}/redis.conf"]
    return memcached_command(node, files)


def server_uid(node: Node) -> int:
    """The user that a node's server runs as, who has to own its files."""
    return REDIS_UID if node.service is Service.REDIS else MEMCACHED_UID


def pod_name(zone: str) -> str:
    """The name of a zone's pod, on the network too."""
    return f"pod-{zone}"


def _upstream(link: Link) -> str:
    host = "127.0.0.1" if link.source == CLIENT else pod_name(link.target_zone)
    return f"{host}:{_LISTENERS[link.service]}"
