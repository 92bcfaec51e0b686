"""Adds Memcached nodes to a running topology, and removes them."""

import contextlib
import threading
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from cachesim import elasticache
from cachesim.clock import Deadline
from cachesim.control_plane.plane import ControlPlane
from cachesim.control_plane.prober import Prober
from cachesim.daemon.naming import Naming
from cachesim.daemon.provisioning import Provision
from cachesim.daemon.readiness import wait_for_memcached
from cachesim.errors import FaultError, NotReady
from cachesim.events import EventLog
from cachesim.faults.limits import Limits
from cachesim.faults.links import Links
from cachesim.faults.nodes import Nodes
from cachesim.monitoring.readings import Readings
from cachesim.servers.admin import NodeClients
from cachesim.topology import FEWEST_MEMCACHED, MOST_MEMCACHED, Node

if TYPE_CHECKING:
    from pymemcache.client.base import Client

T = TypeVar("T")
Item = TypeVar("Item")
_READY = 30.0  # seconds until a new node answers


def of_each(
    items: Iterable[Item], what: Callable[[Item], T], is_there: Callable[[Item], bool]
) -> list[T]:
    """Return something of each item but those that are removed meanwhile."""
    found = []
    for item in tuple(items):  # at once, as they may change
        try:
            found.append(what(item))
        except Exception:
            if is_there(item):
                raise
    return found


@dataclass(frozen=True)
class Scaling:
    """Changes how many Memcached nodes there are: see `cachesim.faults.appliers.Scaler`.

    Attributes:
        memcached: a client for each Memcached node at its admin address, by the node's name.
        control_plane: returns the control plane, once it is there.
    """

    provision: Provision
    events: EventLog
    links: Links
    nodes: Nodes
    limits: Limits
    admin: NodeClients
    memcached: "MutableMapping[str, Client]"
    readings: Readings
    prober: Prober
    naming: Naming
    control_plane: Callable[[], ControlPlane]
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.provision.topology.memcached)

    def each(self, what: Callable[[str], T]) -> list[T]:
        """Return something of each node but those that are just being added or removed.

        Args:
            what: returns it, given a node's name.
        """
        topology, coming = self.provision.topology, self.provision.coming
        return of_each(
            [node for node in topology.nodes if node.name not in coming],
            lambda node: what(node.name),
            lambda node: node in topology.nodes,
        )

    def scale(self, count: int) -> None:
        """See `Scaler.scale`.

        Raises:
            NoPower: a node is to be added in a zone without power. None is added.
            FaultError: there can't be so many, one could not be added, or the topology was reset
                while the call waited for that.
        """
        # It is what a client has sent, of any type.
        if not isinstance(count, int) or not FEWEST_MEMCACHED <= count <= MOST_MEMCACHED:
            raise FaultError(
                f"there can be {FEWEST_MEMCACHED} to {MOST_MEMCACHED} Memcached nodes, "
                f"not {count!r}"
            )
        topology, begun = self.provision.topology, self.events.mark()
        with self._lock:
            if self.events.of("reset", begun):
                raise FaultError(f"not scaled to {count} Memcached nodes: the topology was reset")
            before = topology.memcached
            wanted = topology.scaled(count)
            for node in wanted[len(before) :]:
                self.nodes.check_power(node)
            for node in wanted[len(before) :]:
                self._add(node)
            for node in reversed(before[count:]):
                self._remove(node)
            if count > len(before):
                message = elasticache.nodes_added(len(before), count)
                new = [node.name for node in wanted[len(before) :]]
                added = {name: str(self.provision.backend.endpoint(name)) for name in new}
                self.events.record("scaled", self.provision.name, message, added=added)

    def suspended(self) -> AbstractContextManager[object]:
        """See `Scaler.suspended`."""
        return self._lock

    def _add(self, node: Node) -> None:
        topology, backend = self.provision.topology, self.provision.backend
        self.provision.coming.add(node.name)
        topology.scale((*topology.memcached, node))
        try:
            backend.add_node(node)
            wait_for_memcached(node.name, self.admin, Deadline(_READY))
            self.links.add([link for link in topology.links if link.target == node.name])
        except BaseException as error:
            topology.scale(topology.memcached[:-1])
            self.provision.coming.discard(node.name)
            with contextlib.suppress(Exception):  # the first error says more
                backend.remove_node(node)
            if isinstance(error, NotReady):
                raise FaultError(f"{node} was not added: {error}") from error
            raise
        self.nodes.add(node.name)
        self.memcached[node.name] = self.admin.new_memcached(node.name)
        self.readings.add(node)
        self.control_plane().add(node.name)
        self.prober.add(node.name)
        self.provision.coming.discard(node.name)
        self._tell()

    def _remove(self, node: Node) -> None:
        topology = self.provision.topology
        links = [link for link in topology.links if link.target == node.name]
        self.control_plane().remove(node.name)  # it would replace a node that is no more
        # Clients are told before the node goes, as in production.
        topology.scale(tuple(it for it in topology.memcached if it != node))
        self._tell()
        self.prober.remove(node.name)
        self.readings.remove(node.name)
        self.memcached.pop(node.name).close()
        self.limits.forget(node.name)
        self.links.remove(links)
        self.nodes.remove(node.name)
        self.provision.backend.remove_node(node)
        message = elasticache.nodes_removed(node.name)
        self.events.record("scaled", self.provision.name, message, removed=[node.name])

    def _tell(self) -> None:
        self.naming.changed()
        self.provision.renew_env(self.events)
