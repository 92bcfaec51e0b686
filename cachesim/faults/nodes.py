"""The nodes' processes: kill, stop, pause and start them.

As with links, faults overlap: a node stays down or paused while at least one holder wants it to.
"""

import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Literal, TypeVar

from cachesim.backends.base import Backend
from cachesim.errors import FaultError, NoPower
from cachesim.events import EventLog
from cachesim.faults.links import Links
from cachesim.topology import Node, NodeState, Service, Topology

_Item = TypeVar("_Item")
Address = Literal["same", "new", "first"]
"""The address of a node's next process, beside that of its present one."""


class Nodes:
    """The processes of all nodes. Thread-safe.

    A holder, such as a fault, keeps nodes down or paused until it is released.
    """

    def __init__(
        self, topology: Topology, backend: Backend, links: Links, events: EventLog
    ) -> None:
        self._topology = topology
        self._backend = backend
        self._links = links
        self._events = events
        self._down: dict[str, set[Hashable]] = {n.name: set() for n in topology.nodes}
        self._paused: dict[str, set[Hashable]] = {n.name: set() for n in topology.nodes}
        self._unpowered: dict[str, set[Hashable]] = {z.name: set() for z in topology.zones}
        # The bytes of append-only files that had reached the disks when the power was cut, by node.
        self._synced: dict[str, int] = {}
        self._moved: set[str] = set()
        self._started: dict[str, float] = {}
        self._added: dict[str, float] = {}
        self._lock = threading.RLock()

    def kill(self, holder: Hashable, nodes: Collection[str]) -> None:
        """Kill nodes (SIGKILL). Their machines keep running, so their ports refuse."""
        self._take_down(holder, nodes, orderly=False)

    def stop(self, holder: Hashable, nodes: Collection[str]) -> None:
        """Shut nodes down cleanly. Their machines keep running, so their ports refuse."""
        self._take_down(holder, nodes, orderly=True)

    def _take_down(self, holder: Hashable, nodes: Collection[str], *, orderly: bool) -> None:
        with self._lock:
            up = [node for node in nodes if self.is_up(node)]
            for node in nodes:
                self._down[node].add(holder)
            if orderly:
                _side_by_side(self._backend.shut_down, up)
            # Before the kill, which takes Docker a tenth of a second: data on its way to the
            # replicas is lost with the node, and clients and replicas lose it at the same moment.
            for node in up:
                self._refuse(node)
            if not orderly:
                self._backend.kill(*up)
            for node in nodes:
                self._paused[node].clear()
            self._links.settle()

    def pause(self, holder: Hashable, nodes: Collection[str]) -> None:
        """Pause nodes (SIGSTOP). Connections stay open, nothing is answered.

        Raises:
            FaultError: a node is not running.
        """
        with self._lock:
            for node in nodes:
                if self.state(node) is NodeState.STOPPED:
                    raise FaultError(f"{node} can't be paused: it is not running. Start it first.")
            for node in nodes:
                self._paused[node].add(holder)
            self._backend.pause(*nodes)

    def cut_power(
        self, holder: Hashable, zone: str, synced: Callable[[str], tuple[float, int] | None]
    ) -> None:
        """Stop all nodes of a zone at once. None of them can run until the power is back.

        A dead machine refuses nothing and closes nothing, but a killed process does both. So the
        processes are frozen, and killed when the power is back, which is when others learn that
        their connections are gone.

        Args:
            synced: returns when a node's append-only file last reached the disk, in monotonic
                seconds, and how many bytes; None if that is not known. It is called once the nodes
                are frozen, so that what they acknowledge until then counts.
        """
        with self._lock:
            nodes = self.in_zone(zone)
            # A process may also have ended by itself, as with a full disk.
            up = [node for node in nodes if self.state(node) is not NodeState.STOPPED]
            self._unpowered[zone].add(holder)
            self._backend.pause(*up)
            for node in up:
                self._paused[node].clear()
                if (last := synced(node)) is not None:
                    at, self._synced[node] = last
                    message = "what it wrote after its last fsync is lost"
                    self._events.record("power-cut", node, message, fsynced_at=at)
            for node in set(nodes).difference(up):
                # A dead process refuses, a dead machine does not.
                self._links.release(("down", node))

    def release(self, holder: Hashable) -> None:
        """Resume and start the nodes that only this holder held. Repeating it is harmless."""
        with self._lock:
            held = [
                holders
                for state in (self._unpowered, self._down, self._paused)
                for holders in state.values()
                if holder in holders
            ]
            unpowered = [zone for zone, holders in self._unpowered.items() if holder in holders]
            down = [node for node, holders in self._down.items() if holder in holders]
            paused = [node for node, holders in self._paused.items() if holder in holders]
            for holders in held:
                holders.discard(holder)
            try:
                self._bring_back(unpowered, down, paused)
            except BaseException:
                for holders in held:
                    holders.add(holder)
                raise

    def _bring_back(self, zones: list[str], down: list[str], paused: list[str]) -> None:
        """Start and resume the nodes that no holder holds any more."""
        for node in paused:
            if not self._paused[node] and self.is_up(node):
                self._backend.resume(node)
        again = [n for zone in zones if not self._unpowered[zone] for n in self.in_zone(zone)]
        if again:
            self._backend.kill(*again)
        for node in again:
            if self._down[node]:
                self._refuse(node)
        back = dict.fromkeys([*down, *again])
        self._start([node for node in back if self.is_up(node)])
        self._links.settle()

    def resume(self, node: str) -> None:
        """Resume a node, whatever paused it. Other nodes that a holder paused with it stay so."""
        with self._lock:
            held = tuple(self._paused[node])
            self._paused[node].clear()
            try:
                self._bring_back([], [], [node] if held else [])
            except BaseException:
                self._paused[node].update(held)
                raise

    def replace(self, node: str, address: Address = "same", *, hangs: bool = False) -> None:
        """Give a node a new process, whatever holds it down or paused.

        Args:
            address: that of the new process: the same, a new one, or that of the first.
            hangs: whether connections to the former address hang; else they are refused.

        Raises:
            NoPower: its zone has no power.
            FaultError: it can't have a new address.
        """
        with self._lock:
            if not self.has(node):
                raise FaultError(f"{node} can't be replaced: it is just being added or removed")
            self.check_power(self._topology.node(node))
            # Before the kill: a new machine is there before the old one is gone.
            listens: Mapping[str, str] = {}
            if address != "same":
                listens = self._backend.move_node(node, back=address == "first", hangs=hangs)
                self._moved.add(node)  # before what may fail: a reset moves it back
            if self._backend.state(node) is not NodeState.STOPPED:
                self._backend.kill(node)
            if listens:
                self._links.move(listens, hangs=hangs)
                if address == "first":
                    self._moved.discard(node)
                present = str(self._backend.endpoint(node))
                self._events.record("moved", node, f"has the address {present}", address=present)
            self._down[node].clear()
            self._paused[node].clear()
            self._start([node])
            self._links.settle()

    def check_power(self, node: Node) -> None:
        """Do nothing if a node can be started, in a zone that has power.

        Raises:
            NoPower: its zone has none.
        """
        if self._unpowered[node.zone]:
            raise NoPower(
                f"{node} can't be started: az-{node.zone} has no power. Heal `az-power` first."
            )

    def started_at(self, node: str) -> float:
        """Return when a node's present process was started here, in monotonic seconds.

        Minus infinity: it is the first one.
        """
        return self._started.get(node, float("-inf"))

    def move_back(self) -> bool:
        """Give all nodes the addresses of their start; return whether any had another."""
        with self._lock:
            moved = tuple(self._moved)
            self._links.free_former()
            for node in moved:
                self.replace(node, "first")
        return bool(moved)

    def renew_redis(self) -> None:
        """Give all Redis nodes new processes with empty disks, as at a first start.

        Raises:
            NoPower: a zone has no power.
        """
        with self._lock:
            nodes = [node.name for node in self._topology.redis]
            if zones := [zone for zone, holders in self._unpowered.items() if holders]:
                raise NoPower(
                    f"the Redis nodes can't be renewed: az-{zones[0]} has no power. "
                    "Heal `az-power` first."
                )
            self._backend.kill(*nodes)
            for node in nodes:
                self._down[node].clear()
                self._paused[node].clear()
                self._synced.pop(node, None)
            self._backend.renew_redis()
            self._start(nodes)
            self._links.settle()

    def add(self, node: str) -> None:
        """Control a node that was added."""
        with self._lock:
            self._down[node], self._paused[node] = set(), set()
            self._added[node] = time.monotonic()

    def has(self, node: str) -> bool:
        """Return whether it controls a node."""
        return node in self._down

    def added_at(self, node: str) -> float:
        """Return when a node was added, in monotonic seconds.

        Minus infinity: it was there from the start, or is no node.
        """
        return self._added.get(node, float("-inf"))

    def remove(self, node: str) -> None:
        """Let go of a node that is to be removed."""
        with self._lock:
            for held in (self._down, self._paused):
                held.pop(node)
            self._moved.discard(node)
            self._started.pop(node, None)
            self._added.pop(node, None)

    def suspended(self) -> AbstractContextManager[object]:
        """Return a context manager during which the calls of other threads wait."""
        return self._lock

    def release_all(self) -> None:
        """Resume and start every node, whatever holds it.

        Raises:
            FaultError: a node could not be resumed or started. The others were.
        """
        with self._lock:
            holders = {
                holder
                for held in (self._down, self._paused, self._unpowered)
                for holders in held.values()
                for holder in holders
            }
            for_each(holders, self.release)

    def holds(self, holder: Hashable) -> bool:
        """Return whether a holder holds any node down or paused."""
        held = (*self._down.values(), *self._paused.values())
        return any(holder in holders for holders in held)

    def is_up(self, node: str) -> bool:
        """Return whether no holder holds the node down and its zone has power."""
        return not self._down[node] and not self._unpowered[self._topology.node(node).zone]

    def is_frozen(self, node: str) -> bool:
        """Return whether a node's process is frozen, so that it reads nothing."""
        if node not in self._paused:
            return False
        return bool(self._paused[node] or self._unpowered[self._topology.node(node).zone])

    def state(self, node: str) -> NodeState:
        """Return a node's state as others see it: a node without power is stopped."""
        return self._backend.state(node) if self.is_up(node) else NodeState.STOPPED

    def service(self, node: str) -> Service:
        """Return what a node serves."""
        return self._topology.node(node).service

    def in_zone(self, zone: str) -> list[str]:
        """Return the names of a zone's nodes."""
        return [node.name for node in self._topology.nodes if node.zone == zone]

    def _start(self, nodes: Collection[str]) -> None:
        for node in nodes:
            if (size := self._synced.get(node)) is not None:
                self._backend.truncate_aof(node, size)
                del self._synced[node]  # not before: if it fails, it is tried again
        _side_by_side(self._backend.start_node, nodes)
        self._started |= dict.fromkeys(nodes, time.monotonic())
        for node in nodes:
            self._links.release(("down", node))

    def _refuse(self, node: str) -> None:
        # The Docker engine accepts connections to a published port whatever is behind it. A
        # disabled proxy is the nearest to a port that nobody listens on.
        links = [link for link in self._links.values() if link.target == node]
        self._links.hold_refused(("down", node), links)


def for_each(items: Iterable[_Item], verb: Callable[[_Item], None]) -> None:
    """Do the same to each item, also after an error; then raise the first one."""
    errors: list[Exception] = []
    for item in items:
        try:
            verb(item)
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _side_by_side(verb: Callable[[str], None], nodes: Collection[str]) -> None:
    if len(nodes) < 2:
        for node in nodes:
            verb(node)
        return
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(verb, nodes))
