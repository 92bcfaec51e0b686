"""Handles on the parts of a running topology: nodes, Redis shards, zones, links, control plane."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from cachesim.control_plane.states import State
from cachesim.errors import NotRunning
from cachesim.runs.calls import Call, Condition, NodeStatus, ShardStatus
from cachesim.simulator.by_name import ByName
from cachesim.simulator.control_plane import ControlPlaneHandle as ControlPlaneHandle
from cachesim.simulator.control_plane import hangs, wait_for
from cachesim.simulator.faults import Fault
from cachesim.simulator.link_handles import LinkHandle as LinkHandle
from cachesim.simulator.link_handles import LinkHandles as LinkHandles
from cachesim.simulator.means import Handle
from cachesim.simulator.means import Means as Means
from cachesim.topology import (
    Endpoint,
    Node,
    NodeState,
    Role,
    Shard,
    Zone,
)


class NodeHandle(Handle):
    """One node of a running topology."""

    def __init__(self, node: Node, means: Means) -> None:
        super().__init__(means)
        self._node = node
        self._endpoints = means.endpoints

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
        """Its address, the same for all; each caller reaches it over its own link.

        Where the topology can't be asked for it, such as in a forked child, the last known one.
        """
        with contextlib.suppress(NotRunning):
            self._endpoints[self.name] = Endpoint.parse(self._status()["endpoint"])
        return self._endpoints[self.name]

    @property
    def state(self) -> NodeState:
        """Whether its process is running, paused or stopped."""
        return NodeState(self._status()["state"])

    def kill(self) -> Fault:
        """Kill its process (SIGKILL). Healing the fault, or `restart`, starts it again."""
        return self._faults.kill(self.name)

    def stop(self) -> Fault:
        """Shut its process down. Healing the fault, or `restart`, starts it again."""
        return self._faults.stop(self.name)

    def pause(self) -> Fault:
        """Pause its process (SIGSTOP). Healing the fault, or `resume`, lets it go on."""
        return self._faults.pause(self.name)

    def resume(self) -> None:
        """End every pause of it, if there is one."""
        self._connection.call(Call.RESUME, node=self.name)

    def restart(self) -> None:
        """Replace its process, whatever its state.

        Raises:
            NoPower: its zone has no power.
        """
        self._connection.call(Call.RESTART, node=self.name)

    def wait_until_healthy(self, timeout: float | None = None) -> None:
        """Wait until it runs and answers, whoever has restarted it; a replica follows too.

        Faults on links to clients do not count.

        Args:
            timeout: seconds; by default as long as its replacement may take at the present speed,
                plus 10 s.

        Raises:
            WaitTimeout: it was not in time; the message says why.
            NotRunning: the topology was stopped meanwhile, or belongs to another process.
            ValueError: the timeout is below 0, or too long.
        """
        wait_for(self._connection, Condition.HEALTHY, timeout, node=self.name)

    def replace(self, *, new_address: bool = False, old: str = "refuse") -> None:
        """Replace it, as an upgrade of the engine does. A primary is succeeded by a replica first.

        Args:
            new_address: whether the new one has another address. `Simulator.reset` brings the old
                one back.
            old: what connections to the old address do: `refuse` or `hang`.

        Raises:
            NoPower: its zone has no power.
            FaultError: no replica can succeed it, or it can't have a new address.
        """
        arguments = {"new_address": new_address, "hangs": hangs(old)}
        self._connection.wait(Call.REPLACE, node=self.name, **arguments)

    def logs(self, lines: int = 50) -> str:
        """Return the last lines of its log."""
        return str(self._connection.call(Call.LOGS, node=self.name, lines=lines))

    def _status(self) -> NodeStatus:
        status: NodeStatus = self._connection.call(Call.NODE, node=self.name)
        return status

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class RedisHandle(NodeHandle):
    """One Redis node."""

    @property
    def role(self) -> Role:
        """Its role according to the control plane. Dead nodes have one too."""
        return Role(self._status()["role"] or "")


class RedisShardHandle(Handle):
    """One Redis shard."""

    def __init__(self, shard: Shard, nodes: list[RedisHandle], means: Means) -> None:
        super().__init__(means)
        self._shard = shard
        self._nodes = {node.name: node for node in nodes}

    def _status(self) -> ShardStatus:
        status: ShardStatus = self._connection.call(Call.SHARD, shard=self.id)
        return status

    @property
    def id(self) -> str:
        """The id, as ElastiCache has it."""
        return self._shard.id

    @property
    def state(self) -> State:
        """The shard's state, such as `available`."""
        return State(self._status()["state"])

    @property
    def primary(self) -> RedisHandle:
        """The present primary according to the control plane."""
        return self._nodes[self._status()["primary"]]

    @property
    def replicas(self) -> list[RedisHandle]:
        """The other nodes."""
        primary = self.primary
        return [node for node in self if node is not primary]

    def __iter__(self) -> Iterator[RedisHandle]:
        return iter(self._nodes.values())

    def __getitem__(self, zone: str) -> RedisHandle:
        """Return the node in a zone, such as `a` or `az-a`.

        Raises:
            UnknownName: there is no such zone. It is also a KeyError.
        """
        return ByName("zone", {node.zone: node for node in self})[zone]

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
        status = wait_for(self._connection, Condition.FAILOVER, timeout, shard=self.id)
        return self._nodes[status["primary"]]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"


class ZoneHandle(Handle):
    """One availability zone.

    Attributes:
        nodes: the nodes in it.
    """

    def __init__(self, zone: Zone, nodes: list[NodeHandle], means: Means) -> None:
        super().__init__(means)
        self._zone = zone
        self.nodes = nodes

    @property
    def name(self) -> str:
        """The name, such as `a`."""
        return self._zone.name

    def lose_power(self) -> Fault:
        """Apply the fault `az_power` to it."""
        return self._faults.az_power(self.name)

    def isolate(self) -> Fault:
        """Apply the fault `isolate` to it."""
        return self._faults.isolate(self.name)

    def __str__(self) -> str:
        return str(self._zone)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._zone}>"


class Handles(NamedTuple):
    """All handles on a topology: see the attributes of `Simulator`."""

    shards: tuple[RedisShardHandle, ...]
    nodes: dict[str, NodeHandle]
    memcached: dict[str, NodeHandle]
    zones: dict[str, ZoneHandle]
    links: LinkHandles


def handles_of(means: Means) -> Handles:
    """Return handles on all parts of a topology."""
    topology = means.topology
    redis = {node.name: RedisHandle(node, means) for node in topology.redis}
    shards = tuple(
        RedisShardHandle(shard, [redis[node.name] for node in shard.nodes], means)
        for shard in topology.shards
    )
    places = [(node.name.removeprefix(f"{node.service}-"), node) for node in topology.memcached]
    memcached = {place: NodeHandle(node, means) for place, node in places}
    nodes = {**redis, **{node.name: node for node in memcached.values()}}
    zones = {
        zone.name: ZoneHandle(zone, [n for n in nodes.values() if n.zone == zone.name], means)
        for zone in topology.zones
    }
    links = LinkHandles([LinkHandle(link, means) for link in topology.links])
    return Handles(
        shards,
        ByName("node", nodes),
        ByName("zone", memcached),
        ByName("zone", zones),
        links,
    )
