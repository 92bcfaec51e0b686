"""The topology: zones, nodes and the links between them, as data.

The numbers are production's: one Redis shard of one primary and two replicas with 10 GB each, three
Memcached nodes with 12 GB each. Each of the three zones has one Redis node and one Memcached node.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

GIB = 2**30
SLOTS = 16384
"""The hash slots of a Redis cluster, shared out among its shards."""


class Service(StrEnum):
    """The traffic of a link; for nodes, the kind of server."""

    REDIS = "redis"
    """Commands and replication."""
    BUS = "bus"
    """The Redis cluster bus."""
    MEMCACHED = "memcached"


class Role(StrEnum):
    """The role of a Redis node now. A failover changes it."""

    PRIMARY = "primary"
    REPLICA = "replica"


class NodeState(StrEnum):
    """The state of a node's process."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


CLIENT = "client"
"""The source of the links that applications outside the zones use."""
ENDPOINTS = "endpoints"
"""The home of the links to the configuration endpoints, which are in no zone."""


def endpoint_name(service: Service) -> str:
    """Return the name of a service's configuration endpoint, such as `endpoint-redis`.

    Patterns for links to nodes, such as `client-to-redis-*`, leave its link out.
    """
    return f"endpoint-{service}"


@dataclass(frozen=True)
class Zone:
    """An availability zone: `a` in code, shown as `az-a`."""

    name: str

    def __str__(self) -> str:
        return f"az-{self.name}"


@dataclass(frozen=True)
class Node:
    """One server.

    Attributes:
        name: such as `redis-a` or `memcached-b`.
        service: `Service.REDIS` or `Service.MEMCACHED`.
        zone: the name of its zone.
        max_memory: in bytes.
    """

    name: str
    service: Service
    zone: str
    max_memory: int = field(compare=False)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Shard:
    """A group of Redis nodes with the same data: ElastiCache's node group.

    Attributes:
        id: the id, as ElastiCache has it, such as `0001`.
        nodes: in the order of their zones.
        slots: the hash slots that it serves.
        first_primary: the name of the node that is the primary at the start.
    """

    id: str
    nodes: tuple[Node, ...]
    slots: range
    first_primary: str

    def node_in(self, zone: str) -> Node:
        """Return the node in a zone (`a` or `az-a`).

        Raises:
            ValueError: there is none.
        """
        for node in self.nodes:
            if zone in (node.zone, str(Zone(node.zone))):
                return node
        raise ValueError(f"no zone {zone!r}: there are {', '.join(n.zone for n in self.nodes)}")

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True)
class Link:
    """A directed connection path from a source to a node: one Toxiproxy proxy.

    Attributes:
        source: `client` or the name of a zone.
        target: the name of a node, or of a configuration endpoint.
        target_zone: the zone of that node; `ENDPOINTS` for an endpoint.
    """

    source: str
    target: str
    service: Service
    target_zone: str

    @property
    def name(self) -> str:
        """The proxy's name in Toxiproxy, such as `b-to-redis-a-bus`."""
        suffix = "-bus" if self.service is Service.BUS else ""
        return f"{self.source}-to-{self.target}{suffix}"

    @property
    def home(self) -> str:
        """The zone whose Toxiproxy has it, the source or for clients the target's.

        `ENDPOINTS` for links to configuration endpoints.
        """
        return self.target_zone if self.source == CLIENT else self.source

    @property
    def is_replication(self) -> bool:
        """Whether replication can use it (from another zone to a Redis node)."""
        return self.service is Service.REDIS and self.source != CLIENT

    @property
    def crosses_zones(self) -> bool:
        """Whether it leads from a zone to another."""
        return self.source != CLIENT

    def joins(self, one: str, other: str) -> bool:
        """Return whether it connects two places (zones or `client`), in either direction."""
        return {self.source, self.target_zone} == {one, other}

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Endpoint:
    """An address that something listens on."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Parse the text that `str()` returns."""
        host, _, port = text.rpartition(":")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass
class Topology:
    """All zones and nodes. Nothing changes but the number of Memcached nodes: see `scale`.

    Attributes:
        zones: in a fixed order.
        shards: the Redis shards. There is one for now.
        memcached: the Memcached nodes, in the order in which they were added.
    """

    zones: tuple[Zone, ...]
    shards: tuple[Shard, ...]
    memcached: tuple[Node, ...]

    def scaled(self, count: int) -> tuple[Node, ...]:
        """Return so many Memcached nodes: the present ones, less the last ones or with more.

        The zones get new ones in turn.
        """
        nodes, zones = self.memcached, self.zones
        more = []
        for number in range(len(nodes), count):
            zone, round_ = zones[number % len(zones)].name, number // len(zones) + 1
            name = f"{Service.MEMCACHED}-{zone}{round_}"
            more.append(Node(name, Service.MEMCACHED, zone, nodes[0].max_memory))
        return (*nodes, *more)[:count]

    def scale(self, memcached: tuple[Node, ...]) -> None:
        """Take these Memcached nodes for the present ones."""
        self.memcached = memcached
        for name in ("nodes", "links"):
            self.__dict__.pop(name, None)

    @cached_property
    def redis(self) -> tuple[Node, ...]:
        """The Redis nodes of all shards."""
        return tuple(node for shard in self.shards for node in shard.nodes)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, by zone, Redis before Memcached."""
        both = (*self.redis, *self.memcached)
        return tuple(node for zone in self.zones for node in both if node.zone == zone.name)

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """All links. A zone reaches its own nodes over the links that clients use.

        Those to the configuration endpoints are the last.
        """
        return tuple(self._links())

    def _links(self) -> Iterator[Link]:
        for node in self.nodes:
            yield Link(CLIENT, node.name, node.service, node.zone)
            for zone in self.zones:
                if zone.name == node.zone:
                    continue
                yield Link(zone.name, node.name, node.service, node.zone)
                if node.service is Service.REDIS:
                    yield Link(zone.name, node.name, Service.BUS, node.zone)
        for service in (Service.REDIS, Service.MEMCACHED):
            yield Link(CLIENT, endpoint_name(service), service, ENDPOINTS)

    def zone(self, name: str) -> Zone:
        """Return the zone of that name (`a` or `az-a`).

        Raises:
            ValueError: there is none.
        """
        for zone in self.zones:
            if name in (zone.name, str(zone)):
                return zone
        raise ValueError(f"no zone {name!r}: there are {', '.join(z.name for z in self.zones)}")

    def node(self, name: str) -> Node:
        """Return the node of that name.

        Raises:
            ValueError: there is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise ValueError(f"no node {name!r}: there are {', '.join(n.name for n in self.nodes)}")

    def shard_of(self, name: str) -> Shard:
        """Return the shard that a Redis node belongs to.

        Raises:
            ValueError: there is no such Redis node.
        """
        for shard in self.shards:
            if any(node.name == name for node in shard.nodes):
                return shard
        known = ", ".join(node.name for node in self.redis)
        raise ValueError(f"no Redis node {name!r}: there are {known}")


FEWEST_MEMCACHED, MOST_MEMCACHED = 3, 6
"""Memcached nodes that a topology may be scaled to."""


def production(memory_scale: float = 1.0) -> Topology:
    """Return production's topology.

    Args:
        memory_scale: the share of production's memory that each node gets, above 0.
    """
    zones = tuple(Zone(name) for name in "abc")

    def nodes(service: Service, gib: int) -> tuple[Node, ...]:
        memory = int(gib * GIB * memory_scale)
        return tuple(Node(f"{service}-{zone.name}", service, zone.name, memory) for zone in zones)

    redis = nodes(Service.REDIS, 10)
    shard = Shard("0001", redis, range(SLOTS), first_primary=redis[0].name)
    return Topology(zones, (shard,), nodes(Service.MEMCACHED, 12))
