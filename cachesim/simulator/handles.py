"""Handles on the parts of a running topology: nodes, Redis shards, zones, links, control plane."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from cachesim.control_plane.states import State
from cachesim.control_plane.timing import Timing
from cachesim.errors import NotRunning
from cachesim.events import check_timeout
from cachesim.faults.catalogue import FORMER, HANG, OnePart, name_of
from cachesim.runs.calls import Call, Condition, NodeStatus, ShardStatus
from cachesim.runs.failing_over import fail_over
from cachesim.simulator.by_name import ByName
from cachesim.simulator.connection import Connection
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
        _wait(self._connection, Condition.HEALTHY, timeout, node=self.name)

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
        arguments = {"new_address": new_address, "hangs": _hangs(old)}
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
        status = _wait(self._connection, Condition.FAILOVER, timeout, shard=self.id)
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


class ControlPlaneHandle(Handle):
    """The stand-in for ElastiCache's control plane: it fails over and replaces nodes.

    Attributes:
        endpoints: the addresses of the configuration endpoints: `redis` and `memcached`.
    """

    def __init__(self, means: Means) -> None:
        super().__init__(means)
        self.endpoints = dict(means.configuration)

    @property
    def timing(self) -> Timing:
        """The durations of its phases, until the next reset. It can be set."""
        return Timing.from_dict(self._connection.call(Call.TIMING))

    @timing.setter
    def timing(self, timing: Timing) -> None:
        self._connection.call(Call.SET_TIMING, timing=timing.as_dict())

    @property
    def state(self) -> State:
        """The state of the only shard."""
        return State(self._shard()["state"])

    @property
    def primary(self) -> str:
        """The name of the only shard's primary, as far as the control plane knows."""
        return self._shard()["primary"]

    @property
    def failovers(self) -> int:
        """The number of completed failovers of the only shard since the start or last reset."""
        return self._shard()["failovers"]

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Decide nothing inside the context. Contexts may overlap: the last one to end counts."""
        with self._connection.channel() as channel:
            channel.call(Call.SUSPEND)
            yield

    def failover(
        self, to: OnePart | None = None, *, shard: str | None = None, wait: bool = False
    ) -> str:
        """Fail over as ElastiCache's TestFailover does: without a detection.

        It takes as long as a promotion does.

        Args:
            to: the zone whose replica is promoted; without it, the replica with the least lag.
            shard: the shard's id; needed only if there are several.
            wait: return when it is completed. A failover that is in progress already is waited for;
                another one begins only if that one has not promoted a replica of the zone `to`.

        Returns:
            The name of the primary: with `wait` the new one, else the one that is replaced.

        Raises:
            ValueError: the primary is in that zone, or there is no such zone or shard.
            FaultError: a failover is in progress already, without `wait`; or the replica does not
                answer.
            FailoverTimeout: it was not completed in time.
            NotRunning: the topology does not run, or belongs to another process.
        """
        zone = None if to is None else name_of(to)
        if wait:
            return fail_over(self._connection.wait, zone, shard)["primary"]
        begun: ShardStatus = self._connection.call(Call.FAILOVER, to=zone, shard=shard)
        return begun["primary"]

    def wait(self, what: str, timeout: float | None = None) -> str:
        """Wait until something is true of the only shard.

        Args:
            what: `failover`: a failover is completed; one since the last wait counts too.
                `available`: no failover is in progress, and every old primary is back.
                `healthy`: that, and all nodes run and answer, and replicas follow without a lag.
                Faults on links to clients do not count.
            timeout: seconds; by default as long as it may take at the present speed, plus 10 s.

        Returns:
            The name of the primary.

        Raises:
            WaitTimeout: it did not become true in time; the message says why.
            NotRunning: the topology was stopped meanwhile, or belongs to another process.
            ValueError: the timeout is below 0, or too long; or there is no such condition.
        """
        return _wait(self._connection, what, timeout)["primary"]

    def rolling_replacement(self, *, new_addresses: bool = False, old: str = "refuse") -> None:
        """Replace all nodes, one after the other, as an upgrade of the engine does.

        Of Redis the replicas come first. Each node has recovered before the next one is replaced.

        Args:
            new_addresses: whether the new nodes have other addresses. Then no client knows a
                living address from its start, but for those of `endpoints`.
            old: what connections to the old addresses do: `refuse` or `hang`.

        Raises:
            FaultError: a node could not be replaced, or did not recover. Those after it stay.
        """
        arguments = {"new_addresses": new_addresses, "hangs": _hangs(old)}
        self._connection.wait(Call.ROLL, **arguments)

    def _shard(self) -> ShardStatus:
        status: ShardStatus = self._connection.call(Call.SHARD)
        return status


def _wait(
    connection: Connection,
    what: str,
    timeout: float | None,
    shard: str | None = None,
    node: str | None = None,
) -> ShardStatus:
    if timeout is not None:
        check_timeout(timeout)
    status: ShardStatus = connection.wait(
        Call.WAIT, limit=timeout, what=what, shard=shard, seconds=timeout, node=node
    )
    return status


def _hangs(old: str) -> bool:
    if old not in FORMER:
        raise ValueError(f"old must be {' or '.join(FORMER)}, got {old!r}")
    return old == HANG


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
    memcached = {node.zone: NodeHandle(node, means) for node in topology.memcached}
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
