"""Replaces nodes as an upgrade of the engine or another node type does: one after the other."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cachesim.clock import Deadline
from cachesim.control_plane.plane import ControlPlane
from cachesim.control_plane.states import State
from cachesim.daemon.readiness import wait_for_memcached
from cachesim.errors import FaultError, NotReady
from cachesim.events import EventLog
from cachesim.faults.nodes import Nodes
from cachesim.servers.admin import NodeClients
from cachesim.servers.redis_cluster import Cluster
from cachesim.topology import Service, Topology

_SUCCESSION_LIMIT = 30.0  # seconds: the control plane gives up a succession before
_RECOVERY_LIMIT = 60.0  # seconds until a new node is in sync


@dataclass(frozen=True)
class Replacing:
    """Replaces nodes: see `cachesim.faults.appliers.Replacer`.

    Attributes:
        control_plane: returns the control plane, once it is there.
        replaced: called with each node that was replaced.
    """

    topology: Topology
    nodes: Nodes
    clusters: Mapping[str, Cluster]
    admin: NodeClients
    events: EventLog
    control_plane: Callable[[], ControlPlane]
    replaced: Callable[[str], None]

    def prepare(self, node: str) -> None:
        """See `Replacer.prepare`."""
        if self.topology.node(node).service is Service.REDIS:
            self._let_succeed(node, self.events.mark())

    def replace(self, node: str, *, new_address: bool = False, hangs: bool = False) -> None:
        """See `Replacer.replace`. It returns when the new process runs.

        Raises:
            NoPower: its zone has no power.
            FaultError: no replica can succeed it, it can't have a new address, or the topology was
                reset meanwhile.
        """
        self._replace(node, self.events.mark(), new_address, hangs)

    def _replace(self, node: str, begun: int, new_address: bool, hangs: bool) -> None:
        if self.topology.node(node).service is Service.REDIS:
            self._let_succeed(node, begun)
        with self._not_reset_since(node, begun):
            self.nodes.replace(node, "new" if new_address else "same", hangs=hangs)
        self.control_plane().replaced(node)
        self.replaced(node)

    def roll(self, *, new_addresses: bool = False, hangs: bool = False) -> None:
        """Replace all nodes: of each shard the replicas, then the primary; then Memcached.

        Each has recovered before the next one is replaced.

        Raises:
            FaultError: a node could not be replaced, or did not recover, or the topology was reset
                meanwhile. Those after it stay.
        """
        begun = self.events.mark()
        try:
            for shard in self.topology.shards:
                names = [node.name for node in shard.nodes]
                primary = self.control_plane().shards[shard.id].primary
                for node in [*(name for name in names if name != primary), primary]:
                    self._replace(node, begun, new_addresses, hangs)
                    present = self.control_plane().shards[shard.id].primary
                    deadline = Deadline(_RECOVERY_LIMIT)
                    self.clusters[shard.id].health.wait_healthy(present, deadline)
            for cache in self.topology.memcached:
                if not self.nodes.has(cache.name):
                    continue  # it is just being added, or was removed meanwhile
                self._replace(cache.name, begun, new_addresses, hangs)
                wait_for_memcached(cache.name, self.admin, Deadline(_RECOVERY_LIMIT))
        except NotReady as error:
            raise FaultError(f"the replacement stopped: {error}") from error

    @contextlib.contextmanager
    def _not_reset_since(self, node: str, begun: int) -> Iterator[None]:
        """Let a reset wait inside the context.

        Raises:
            FaultError: one has ended since.
        """
        with self.nodes.suspended():
            if self.events.of("reset", begun):
                raise FaultError(f"{node} was not replaced: the topology was reset meanwhile")
            yield

    def _let_succeed(self, node: str, begun: int) -> None:
        """Let a replica succeed a node, if that is the primary."""
        shard = self.control_plane().shards[self.topology.shard_of(node).id]
        if shard.primary != node:
            return
        self.control_plane().hand_over(shard.id)
        self.events.wait(lambda: shard.state is not State.PROMOTING, _SUCCESSION_LIMIT)
        if shard.primary == node:
            with self._not_reset_since(node, begun):  # which ends a succession too
                raise FaultError(
                    f"{node} can't be replaced: no replica has succeeded it as the primary. "
                    "`cachesim events` says why; heal what keeps the replicas away."
                )
