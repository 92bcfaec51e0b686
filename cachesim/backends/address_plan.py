"""The address plan of a topology in containers, and what each container runs. Data, no I/O.

Each zone is a pod: one network namespace, held by the zone's Toxiproxy container, which the zone's
Redis and Memcached containers join. From each place, `127.0.0.1:P(redis-a)` then
leads to a different Toxiproxy: all links to a node have the same address.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cachesim.errors import SettingsError
from cachesim.servers.certificates import CertificateAuthority
from cachesim.servers.credentials import Credentials
from cachesim.servers.memcached_config import MEMCACHED_PORT, memcached_command
from cachesim.servers.redis_config import (
    BUS_PORT,
    REDIS_PORT,
    AnnouncedPorts,
    auth_conf,
    nodes_conf,
    redis_conf,
    redis_settings,
)
from cachesim.settings import PORTS_PER_ZONE
from cachesim.topology import CLIENT, Endpoint, Link, Node, Service, Topology, endpoint_name
from cachesim.toxiproxy.client import PORT

SERVER_PORTS: Mapping[Service, int] = {
    Service.REDIS: REDIS_PORT,
    Service.BUS: BUS_PORT,
    Service.MEMCACHED: MEMCACHED_PORT,
}
"""The ports that servers listen on, inside their pod."""
TOXIPROXY_PORT = PORT
_OF_SERVERS = (*SERVER_PORTS.values(), MEMCACHED_PORT + 1, TOXIPROXY_PORT)
"""The ports in every pod that links can't have. A zone may get a second Memcached node."""
TOXIPROXY_COMMAND = ("-host=0.0.0.0",)
FILES = "/cachesim"
"""The folder in every container that has the topology's files, in a subfolder for each node."""
NETWORK_OPTIONS = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
"""Without address translation: published ports work, but connections to the outside do not."""
LOG_OPTIONS = {"max-size": "16m"}
"""For Docker's `json-file` logs."""
PART_LABEL = "cachesim.part"
"""The label with the name of the node or the pod that a container is."""
REDIS_UID = 999
"""The user of the official Redis and Valkey images."""
MEMCACHED_UID = 11211
"""The user of the official Memcached image."""


@dataclass(frozen=True)
class ZonePorts:
    """The ports of one zone on the host.

    Those of the links (`redis`, `bus`, `memcached`) are the same in every pod.
    """

    redis: int
    bus: int
    memcached: int
    toxiproxy: int
    redis_admin: int
    memcached_admin: int


@dataclass(frozen=True)
class AddedPorts:
    """The ports of a node that was added after the start.

    Attributes:
        link: the announced one, the same in every pod.
        admin: the published port of the server itself.
        server: the one that the server listens on, inside its pod.
    """

    link: int
    admin: int
    server: int


_PLACES = ("redis", "memcached", "toxiproxy", "redis_admin", "memcached_admin", "bus")
"""The kinds of a zone's ports in their order, if they follow a first port."""


def first_ports(topology: Topology, first: int) -> dict[str, ZonePorts]:
    """Return each zone's ports, if they begin at a first port: ten for each, six of them used."""
    return {
        zone.name: ZonePorts(
            **{kind: first + PORTS_PER_ZONE * number + place for place, kind in enumerate(_PLACES)}
        )
        for number, zone in enumerate(topology.zones)
    }


def first_endpoints(first: int) -> dict[str, int]:
    """Return the ports of the configuration endpoints by name, if all ports begin at a first one.

    They follow those of the first zone.
    """
    names = (endpoint_name(Service.REDIS), endpoint_name(Service.MEMCACHED))
    return {name: first + len(_PLACES) + place for place, name in enumerate(names)}


def check_for_pods(ports: Mapping[str, int]) -> None:
    """Do nothing if pods can have these ports besides those of their servers.

    Args:
        ports: by name.

    Raises:
        SettingsError: a link would listen on the port of a server.
    """
    # The others are published, but nothing in a pod listens there.
    elsewhere = (" admin", "toxiproxy-", endpoint_name(Service.MEMCACHED))
    taken = [
        f"{port} ({name})"
        for name, port in ports.items()
        if port in _OF_SERVERS and not any(it in name for it in elsewhere)
    ]
    if taken:
        raise SettingsError(
            f"ports: {', '.join(taken)}: the servers in containers have the ports "
            f"{', '.join(map(str, sorted(_OF_SERVERS)))} themselves, beside the links to all "
            "nodes. Choose others. Emulated nodes (`--backend embedded`) can have them."
        )


def port_name(kind: str, zone: str) -> str:
    """Return the name of a port, such as `redis-a` or `redis-a admin`.

    Args:
        kind: an attribute of `ZonePorts`.
    """
    service, _, use = kind.partition("_")
    return f"{service}-{zone} {use}".strip()


@dataclass(frozen=True)
class Plan:
    """The address plan of one topology.

    Attributes:
        ports: by the zone's name.
        host: the address that ports are published on, as clients reach it.
        endpoints: the ports of the configuration endpoints, by name. That of Redis is the same in
            every pod, where it leads to one node at a time.
        added: the ports of nodes that were added after the start, by name.
        behind: the published ports of the links of clients to nodes whose announced ports this
            process listens on, by the name of the node.
    """

    topology: Topology
    ports: Mapping[str, ZonePorts]
    host: str = "127.0.0.1"
    endpoints: Mapping[str, int] = field(default_factory=dict)
    added: Mapping[str, AddedPorts] = field(default_factory=dict)
    behind: Mapping[str, int] = field(default_factory=dict)

    def endpoint(self, node: str) -> Endpoint:
        """Return a node's announced address."""
        return Endpoint(self.host, self._link_port(node, self.topology.node(node).service))

    def admin(self, node: str) -> Endpoint:
        """Return a node's admin address: the published port of the server itself."""
        if node in self.added:
            return Endpoint(self.host, self.added[node].admin)
        spec = self.topology.node(node)
        ports = self.ports[spec.zone]
        port = ports.redis_admin if spec.service is Service.REDIS else ports.memcached_admin
        return Endpoint(self.host, port)

    def toxiproxy(self, zone: str) -> str:
        """Return the URL of the API of a zone's Toxiproxy."""
        return f"http://{Endpoint(self.host, self.ports[zone].toxiproxy)}"

    def published(self, zone: str) -> dict[int, int]:
        """Return the ports that a pod publishes: the host's port, by the pod's port."""
        ports = self.ports[zone]
        return {
            ports.redis: ports.redis,
            ports.memcached: self.behind.get(port_name("memcached", zone), ports.memcached),
            TOXIPROXY_PORT: ports.toxiproxy,
            REDIS_PORT: ports.redis_admin,
            MEMCACHED_PORT: ports.memcached_admin,
        }

    def moved(self, node: str, port: int) -> "Plan":
        """Return the plan with another announced port of a node."""
        if node in self.added:
            return self.with_added(node, replace(self.added[node], link=port))
        spec = self.topology.node(node)
        ports = replace(self.ports[spec.zone], **{str(spec.service): port})
        return replace(self, ports={**self.ports, spec.zone: ports})

    def with_added(self, node: str, ports: AddedPorts | None) -> "Plan":
        """Return the plan with the ports of an added node; None: without it."""
        added = {name: it for name, it in self.added.items() if name != node}
        return replace(self, added=added if ports is None else {**added, node: ports})

    def listens(self, node: str) -> dict[str, str]:
        """Return where the links to a node listen that its announced port leads to, by name."""
        service = self.topology.node(node).service
        return {
            link.name: self._listen(link)
            for link in self.topology.links
            if (link.target, link.service) == (node, service)
        }

    def proxies(self, zone: str, endpoint_to: str | None = None) -> list[dict[str, str]]:
        """Return the proxies of a zone's Toxiproxy, as its API and its configuration take them.

        Args:
            endpoint_to: the node that the zone's Redis endpoint leads to; None: the first primary.
        """
        proxies = [
            {"name": link.name, "listen": self._listen(link), "upstream": self._upstream(link)}
            for link in self.topology.links
            if link.home == zone
        ]
        endpoint = self.zone_endpoint(zone, endpoint_to or self.topology.shards[0].first_primary)
        return proxies if endpoint is None else [*proxies, endpoint]

    def zone_endpoint(self, zone: str, node: str) -> dict[str, str] | None:
        """Return the proxy that is the Redis endpoint in a pod; None: there is none.

        Args:
            node: the node that it leads to, over the zone's link.
        """
        name = endpoint_name(Service.REDIS)
        if (port := self.endpoints.get(name)) is None:
            return None
        to = self._link_port(node, Service.REDIS)
        return {
            "name": f"{zone}-to-{name}",
            "listen": f"127.0.0.1:{port}",
            "upstream": f"127.0.0.1:{to}",
        }

    def sysctls(self) -> dict[str, str]:
        """Return the kernel settings of every pod.

        No outgoing connection of a pod may get the port of a link as its local port: the proxy of a
        refused link could not listen again.
        """
        ports = [port for it in self.ports.values() for port in (it.redis, it.bus, it.memcached)]
        ports += self.endpoints.values()
        return {"net.ipv4.ip_local_reserved_ports": ",".join(map(str, ports))}

    def initial_nodes_conf(self, ids: Mapping[str, str]) -> dict[str, str]:
        """Return the `nodes.conf` of each Redis node for its first start, by path in `FILES`.

        Args:
            ids: the id of each Redis node, 40 hexadecimal digits, by its name.
        """
        return {
            f"{node}/nodes.conf": text
            for shard in self.topology.shards
            for node, text in nodes_conf(shard, self._announced(), ids).items()
        }

    def redis_files(
        self,
        *,
        hostname: str | None,
        node_timeout_ms: int,
        ids: Mapping[str, str],
        tells_zone: bool = False,
    ) -> dict[str, str]:
        """Return the Redis nodes' files without secrets, by path in `FILES`.

        Args:
            hostname: the name that clients are told instead of the announced IP.
            node_timeout_ms: `cluster-node-timeout`.
            ids: the id of each Redis node, 40 hexadecimal digits, by its name.
            tells_zone: whether clients are told each node's zone.
        """
        files = self.initial_nodes_conf(ids)
        announced = self._announced()
        for node in self.topology.redis:
            settings = redis_settings(
                node,
                announced[node.name],
                hostname=hostname,
                node_timeout_ms=node_timeout_ms,
                tells_zone=tells_zone,
            )
            files[f"{node.name}/redis.conf"] = redis_conf(settings, f"{FILES}/{node.name}")
        return files

    def _listen(self, link: Link) -> str:
        # Docker forwards a published port to the pod's address on the network. So does a door to a
        # zone's links: see `cachesim.backends.containers.changes`. Only the pod uses the bus.
        host = "127.0.0.1" if link.service is Service.BUS else "0.0.0.0"  # noqa: S104
        return f"{host}:{self._link_port(link.target, link.service)}"

    def _upstream(self, link: Link) -> str:
        host = "127.0.0.1" if link.source == CLIENT else pod_name(link.target_zone)
        added = self.added.get(link.target)
        return f"{host}:{SERVER_PORTS[link.service] if added is None else added.server}"

    def _link_port(self, node: str, service: Service) -> int:
        if node in self.added:
            return self.added[node].link
        ports = self.ports[self.topology.node(node).zone]
        return {
            Service.REDIS: ports.redis,
            Service.BUS: ports.bus,
            Service.MEMCACHED: ports.memcached,
        }[service]

    def _announced(self) -> dict[str, AnnouncedPorts]:
        return {
            node.name: AnnouncedPorts(self.ports[node.zone].redis, self.ports[node.zone].bus)
            for node in self.topology.redis
        }


def pod_name(zone: str) -> str:
    """Return the name of a zone's pod, which is also its host name on the network."""
    return f"pod-{zone}"


def server_command(node: Node, engine: str, port: int = MEMCACHED_PORT) -> list[str]:
    """Return the command line of a node's container.

    Args:
        port: the one that a Memcached server listens on.
    """
    directory = f"{FILES}/{node.name}"
    if node.service is Service.MEMCACHED:
        return memcached_command(node, directory, port)
    server = "valkey-server" if engine == "valkey" else "redis-server"
    return [server, f"{directory}/redis.conf"]


def server_uid(node: Node) -> int:
    """Return the user that a node's server runs as, and that has to own its files."""
    return REDIS_UID if node.service is Service.REDIS else MEMCACHED_UID


def certificate_files(topology: Topology, ca: CertificateAuthority) -> dict[str, bytes]:
    """Issue every node's certificate and key; by path in `FILES`."""
    files: dict[str, bytes] = {}
    for node in topology.nodes:
        files |= certificate_of(node, ca)
    return files


def certificate_of(node: Node, ca: CertificateAuthority) -> dict[str, bytes]:
    """Issue a node's certificate and key; by path in `FILES`."""
    certificate = ca.issue(node.name)
    return {
        f"{node.name}/ca.pem": ca.pem,
        f"{node.name}/cert.pem": certificate.chain,
        f"{node.name}/key.pem": certificate.key,
    }


def auth_files(topology: Topology, credentials: Credentials) -> dict[str, str]:
    """Return the Redis nodes' files that hold passwords, by path in `FILES`."""
    return {f"{node.name}/auth.conf": auth_conf(credentials) for node in topology.redis}


def with_owners(
    topology: Topology, files: Mapping[str, str | bytes]
) -> dict[str, tuple[int, str | bytes]]:
    """Return files by path in `FILES`, each as its owner's uid and its content."""
    uids = {node.name: server_uid(node) for node in topology.nodes}
    return {path: (uids[path.partition("/")[0]], content) for path, content in files.items()}
