"""Handles on the parts of a running topology: nodes, Redis shards, zones, links."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from cachesim.backends.base import NodeState
from cachesim.control_plane.failover import ShardFailover
from cachesim.control_plane.states import State
from cachesim.daemon.operations import Operations
from cachesim.errors import FailoverTimeout
from cachesim.faults.injector import Fault
from cachesim.topology import CLIENT, Endpoint, Link, Node, Role, Shard, Zone
from cachesim.toxiproxy.toxics import Stream, Toxic


class _Handle:
    """A part of a topology, to be used while that runs."""

    def __init__(self, operations: Operations) -> None:
        self._its_operations = operations

    @property
    def _operations(self) -> Operations:
        self._its_operations.running.check()
        return self._its_operations


class NodeHandle(_Handle):
    """One node of a running topology."""

    def __init__(self, node: Node, operations: Operations) -> None:
        super().__init__(operations)
        self._node = node

    @property
    def name(self) -> str:
        """The name, such as `redis-a`."""
        return self._node.name

    @property
    def zone(self) -> str:
        """The name of its zone."""
        return self._node.zone

    @property
    def endpoint(self) -> Endpoint:
        """Its address, the same for all; each caller reaches it over its own link."""
        # Without a check: a forked child may connect to it.
        return self._its_operations.backend.endpoint(self.name)

    @property
    def state(self) -> NodeState:
        """Whether its process is running, paused or stopped."""
        return self._operations.nodes.state(self.name)

    def kill(self) -> Fault:
        """Kill its process (SIGKILL). Healing the fault, or `restart`, starts it again."""
        return self._operations.faults.kill(self.name)

    def stop(self) -> Fault:
        """Shut its process down. Healing the fault, or `restart`, starts it again."""
        return self._operations.faults.stop(self.name)

    def pause(self) -> Fault:
        """Pause its process (SIGSTOP). Healing the fault, or `resume`, lets it go on."""
        return self._operations.faults.pause(self.name)

    def resume(self) -> None:
        """End every pause of it, if there is one."""
        self._operations.nodes.resume(self.name)

    def restart(self) -> None:
        """Replace its process, whatever its state.

        Raises:
            NoPower: its zone has no power.
        """
        self._operations.nodes.replace(self.name)
        self._operations.events.record("restart", self.name, "by hand")

    def logs(self, lines: int = 50) -> str:
        """Return the last lines of its log."""
        return self._operations.backend.logs(self.name, lines)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class RedisHandle(NodeHandle):
    """One Redis node."""

    @property
    def role(self) -> Role:
        """Its role according to the control plane. Dead nodes have one too."""
        shard = self._operations.topology.shard_of(self.name)
        is_primary = self.name == self._operations.control_plane.shards[shard.id].primary
        return Role.PRIMARY if is_primary else Role.REPLICA


class RedisShardHandle(_Handle):
    """One Redis shard."""

    def __init__(self, shard: Shard, nodes: list[RedisHandle], operations: Operations) -> None:
        self._shard = shard
        super().__init__(operations)
        self._nodes = {node.name: node for node in nodes}
        self._seen = 0

    @property
    def _failover(self) -> ShardFailover:
        return self._operations.control_plane.shards[self.id]

    @property
    def id(self) -> str:
        """The id, as ElastiCache has it."""
        return self._shard.id

    @property
    def state(self) -> State:
        """The shard's state, such as `available`."""
        return self._failover.state

    @property
    def primary(self) -> RedisHandle:
        """The present primary according to the control plane."""
        return self._nodes[self._failover.primary]

    @property
    def replicas(self) -> list[RedisHandle]:
        """The other nodes."""
        return [node for node in self if node.role is Role.REPLICA]

    def __iter__(self) -> Iterator[RedisHandle]:
        return iter(self._nodes.values())

    def __getitem__(self, zone: str) -> RedisHandle:
        """Return the node in a zone, such as `a`."""
        return {node.zone: node for node in self}[zone]

    def wait_for_failover(self, timeout: float | None = None) -> RedisHandle:
        """Wait for a failover. One that completed since the last call counts too.

        Args:
            timeout: seconds; by default the longest possible failover at the present speed, plus
                10 s.

        Returns:
            The new primary.

        Raises:
            FailoverTimeout: no failover was completed in time.
            NotRunning: the topology was stopped meanwhile, or belongs to another process.
            ValueError: the timeout is below 0, or too long.
        """
        failover, events, nodes = self._failover, self._operations.events, self._operations.nodes
        if timeout is None:
            timeout = self._operations.control_plane.timing.longest_failover + 10

        def completed() -> bool:
            # A second primary may have been lost since the first failover.
            is_up = nodes.is_up(failover.primary)
            return failover.failovers > self._seen and is_up

        if not events.wait(completed, timeout):
            raise FailoverTimeout(
                f"no failover was completed within {timeout:g} s: the shard is {failover.state}, "
                f"its primary {failover.primary}. What happened:\n{events}"
            )
        self._seen = failover.failovers
        return self.primary

    def forget_failovers(self) -> None:
        """Count failovers from 0 again, as the control plane does after a reset."""
        self._seen = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"


class ZoneHandle(_Handle):
    """One availability zone.

    Attributes:
        nodes: the nodes in it.
    """

    def __init__(self, zone: Zone, nodes: list[NodeHandle], operations: Operations) -> None:
        super().__init__(operations)
        self._zone = zone
        self.nodes = nodes

    @property
    def name(self) -> str:
        """The name, such as `a`."""
        return self._zone.name

    def lose_power(self) -> Fault:
        """Apply the fault `az_power` to it."""
        return self._operations.faults.az_power(self.name)

    def isolate(self) -> Fault:
        """Apply the fault `isolate` to it."""
        return self._operations.faults.isolate(self.name)

    def __str__(self) -> str:
        return str(self._zone)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._zone}>"


class LinkHandle(_Handle):
    """One link, which is a proxy of a zone's Toxiproxy."""

    def __init__(self, link: Link, operations: Operations) -> None:
        super().__init__(operations)
        self.link = link

    @property
    def name(self) -> str:
        """The proxy's name."""
        return self.link.name

    @property
    def listen(self) -> Endpoint:
        """The address it listens on; in containers, inside the zone's network."""
        return Endpoint.parse(str(self._proxy()["listen"]))

    @property
    def enabled(self) -> bool:
        """Whether it accepts connections."""
        return bool(self._proxy()["enabled"])

    @property
    def toxics(self) -> list[dict[str, Any]]:
        """Its toxics as Toxiproxy's API returns them, including those added by hand."""
        return self._operations.links.toxics(self.link)

    def latency_toxic(self, ms: int, jitter: int = 0) -> Fault:
        """Add `ms` ± `jitter` milliseconds to the round trip."""
        return self._operations.faults.latency(self.link, ms, jitter)

    def toxic(self, toxic: Toxic, stream: Stream = Stream.DOWNSTREAM) -> Fault:
        """Add any toxic."""
        return self._operations.faults.toxic(self.link, toxic, [stream])

    def blackhole(self) -> Fault:
        """Hold all data back: connections hang; none is refused or closed."""
        return self._operations.faults.blackhole(self.link)

    def refuse(self) -> Fault:
        """Close its connections and refuse new ones."""
        return self._operations.faults.refuse(self.link)

    def _proxy(self) -> dict[str, Any]:
        return self._operations.links.server(self.link).proxy(self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class LinkHandles(Mapping[tuple[str, str, str], LinkHandle]):
    """All links by (source, target, service), such as `("client", "redis-a", "redis")`.

    The service defaults to the target's: `("client", "redis-a")` works too.
    """

    def __init__(self, handles: list[LinkHandle]) -> None:
        self._handles = {(h.link.source, h.link.target, str(h.link.service)): h for h in handles}
        self._services = {
            h.link.target: str(h.link.service) for h in handles if h.link.source == CLIENT
        }

    def __getitem__(self, key: tuple[str, ...]) -> LinkHandle:
        source, target, *service = key
        try:
            return self._handles[source, target, service[0] if service else self._services[target]]
        except KeyError:
            known = ", ".join(map(str, self._handles))
            raise KeyError(f"no link {key}: there are {known}") from None

    def __iter__(self) -> Iterator[tuple[str, str, str]]:
        return iter(self._handles)

    def __len__(self) -> int:
        return len(self._handles)

    def where(self, condition: Callable[[Link], bool]) -> list[Link]:
        """Return the links for which a condition holds, for faults that take links."""
        return [handle.link for handle in self.values() if condition(handle.link)]


class Handles(NamedTuple):
    """All handles on a topology: see the attributes of `Simulator`."""

    shards: tuple[RedisShardHandle, ...]
    nodes: dict[str, NodeHandle]
    memcached: dict[str, NodeHandle]
    zones: dict[str, ZoneHandle]
    links: LinkHandles


def handles_of(operations: Operations) -> Handles:
    """Return handles on all parts of the topology that is operated."""
    topology = operations.topology
    redis = {node.name: RedisHandle(node, operations) for node in topology.redis}
    shards = tuple(
        RedisShardHandle(shard, [redis[node.name] for node in shard.nodes], operations)
        for shard in topology.shards
    )
    memcached = {node.zone: NodeHandle(node, operations) for node in topology.memcached}
    nodes = {**redis, **{node.name: node for node in memcached.values()}}
    zones = {
        zone.name: ZoneHandle(zone, [n for n in nodes.values() if n.zone == zone.name], operations)
        for zone in topology.zones
    }
    links = LinkHandles([LinkHandle(link, operations) for link in topology.links])
    return Handles(shards, nodes, memcached, zones, links)
