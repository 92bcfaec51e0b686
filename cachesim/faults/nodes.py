"""Node verbs: killing, pausing and starting nodes, by whoever wants them so.

As with links, faults overlap: a node is down or paused as long as one holder wants it so.
"""

import threading
from collections.abc import Callable, Collection, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from cachesim.backends.base import Backend, NodeState
from cachesim.errors import FaultError, NoPower
from cachesim.events import EventLog
from cachesim.faults.links import Links
from cachesim.topology import Topology


class Nodes:
    """All nodes' processes. Thread-safe."""

    def __init__(
        self, topology: Topology, backend: Backend, links: Links, events: EventLog
    ) -> None:
        self._topology = topology
        self._backend = backend
        self._links = links
        self._events = events
        self._down: dict[str, set[Hashable]] = {n.name: set() for n in topology.nodes}
        self._paused: dict[str, set[Hashable]] = {n.name: set() for n in topology.nodes}
        self._dark: dict[str, set[Hashable]] = {z.name: set() for z in topology.zones}
        # What had reached the disks when the power went, by node, in bytes.
        self._synced: dict[str, int] = {}
        self._lock = threading.RLock()

    def kill(self, holder: Hashable, nodes: Collection[str]) -> None:
        """SIGKILL. The machine lives on, so its ports refuse."""
        self._take_down(holder, nodes, orderly=False)

    def stop(self, holder: Hashable, nodes: Collection[str]) -> None:
        """An orderly end of the process."""
        self._take_down(holder, nodes, orderly=True)

    def _take_down(self, holder: Hashable, nodes: Collection[str], *, orderly: bool) -> None:
        with self._lock:
            up = [node for node in nodes if self.is_up(node)]
            for node in nodes:
                self._down[node].add(holder)
            if orderly:
                _side_by_side(self._backend.shut_down, up)
            # Before the kill, which takes the engine a tenth of a second: what is on its way to
            # replicas is lost with the node, and clients and replicas lose it at one moment.
            for node in up:
                self._refuse(node)
            if not orderly:
                self._backend.kill(*up)
            for node in nodes:
                self._paused[node].clear()
            self._links.settle()

    def pause(self, holder: Hashable, nodes: Collection[str]) -> None:
        """SIGSTOP: connections stay, nothing is answered.

        Raises:
            FaultError: a node is not running.
        """
        with self._lock:
            for node in nodes:
                if not self.is_up(node):
                    raise FaultError(f"{node} can't be paused: it is not running")
            for node in nodes:
                self._paused[node].add(holder)
            self._backend.pause(*nodes)

    def cut_power(self, holder: Hashable, zone: str, synced: Callable[[str], int | None]) -> None:
        """Stop all nodes of a zone dead at once; none can run until the power is back.

        A dead machine refuses nothing and closes nothing, but a killed process does both. So the
        processes are frozen, and killed when the power is back, which is when others learn that
        their connections are gone.

        Args:
            synced: says how many bytes of a node's append-only file have reached the disk, if that
                is known. It is asked when the nodes stand still: what they acknowledge until then
                counts too.
        """
        with self._lock:
            nodes = self.in_zone(zone)
            up = [node for node in nodes if self.is_up(node)]
            self._dark[zone].add(holder)
            self._backend.pause(*up)
            for node in up:
                self._paused[node].clear()
                if (size := synced(node)) is not None:
                    self._synced[node] = size
            for node in set(nodes).difference(up):
                # A dead process refuses, a dead machine does not.
                self._links.release(("down", node))

    def release(self, holder: Hashable) -> None:
        """Resume and start what the holder held and no one else holds. Repeating is harmless."""
        with self._lock:
            held = [
                holders
                for verb in (self._dark, self._down, self._paused)
                for holders in verb.values()
                if holder in holders
            ]
            back = [zone for zone, holders in self._dark.items() if holder in holders]
            touched = [node for node, holders in self._down.items() if holder in holders]
            frozen = [node for node, holders in self._paused.items() if holder in holders]
            for holders in held:
                holders.discard(holder)
            try:
                self._bring_back(back, touched, frozen)
            except BaseException:
                for holders in held:
                    holders.add(holder)
                raise

    def _bring_back(self, zones: list[str], down: list[str], paused: list[str]) -> None:
        """Let go on what nobody holds any more: zones without power, dead and paused nodes."""
        for node in paused:
            if not self._paused[node] and self.is_up(node):
                self._backend.resume(node)
        again = [n for zone in zones if not self._dark[zone] for n in self.in_zone(zone)]
        if again:
            self._backend.kill(*again)
        for node in again:
            if self._down[node]:
                self._refuse(node)
        back = dict.fromkeys([*down, *again])
        self._start([node for node in back if self.is_up(node)])
        self._links.settle()

    def resume(self, node: str) -> None:
        """End every pause of a node."""
        for holder in tuple(self._paused[node]):
            self.release(holder)

    def replace(self, node: str) -> None:
        """Give a node a new process, whoever wanted it down or paused.

        Raises:
            NoPower: its zone has no power.
        """
        with self._lock:
            zone = self._topology.node(node).zone
            if self._dark[zone]:
                raise NoPower(f"{node} can't be started: az-{zone} has no power")
            if self._backend.state(node) is not NodeState.STOPPED:
                self._backend.kill(node)
            self._down[node].clear()
            self._paused[node].clear()
            self._start([node])
            self._links.settle()

    def renew_redis(self) -> None:
        """Give all Redis nodes new processes with the disks of a first start.

        Raises:
            NoPower: a zone has no power.
        """
        with self._lock:
            nodes = [node.name for node in self._topology.redis]
            if dark := [zone for zone, holders in self._dark.items() if holders]:
                raise NoPower(f"the shard can't begin anew: az-{dark[0]} has no power")
            self._backend.kill(*nodes)
            for node in nodes:
                self._down[node].clear()
                self._paused[node].clear()
                self._synced.pop(node, None)
            self._backend.renew_redis()
            self._start(nodes)
            self._links.settle()

    def suspended(self) -> AbstractContextManager[object]:
        """While it is entered, the verbs of other threads wait."""
        return self._lock

    def release_all(self) -> None:
        """Resume and start every node, whoever held it.

        Raises:
            FaultError: not all could be; those that could are.
        """
        with self._lock:
            holders = {
                holder
                for held in (self._down, self._paused, self._dark)
                for holders in held.values()
                for holder in holders
            }
            errors = []
            for holder in holders:
                try:
                    self.release(holder)
                except FaultError as error:
                    errors.append(error)
            if errors:
                raise errors[0]

    def holds(self, holder: Hashable) -> bool:
        """Whether a holder has any node down or paused."""
        held = (*self._down.values(), *self._paused.values())
        return any(holder in holders for holders in held)

    def is_up(self, node: str) -> bool:
        """Whether nobody holds the node down and its zone has power."""
        return not self._down[node] and not self._dark[self._topology.node(node).zone]

    def is_frozen(self, node: str) -> bool:
        """Whether a process stands still, so that nobody reads what is sent to it."""
        if node not in self._paused:
            return False
        return bool(self._paused[node] or self._dark[self._topology.node(node).zone])

    def state(self, node: str) -> NodeState:
        """What a node does, as anybody else would see it."""
        return self._backend.state(node) if self.is_up(node) else NodeState.STOPPED

    def in_zone(self, zone: str) -> list[str]:
        """The names of a zone's nodes."""
        return [node.name for node in self._topology.nodes if node.zone == zone]

    def _start(self, nodes: Collection[str]) -> None:
        for node in nodes:
            if node in self._synced:
                self._backend.truncate_aof(node, self._synced.pop(node))
        _side_by_side(self._backend.start_node, nodes)
        for node in nodes:
            self._links.release(("down", node))

    def _refuse(self, node: str) -> None:
        # A published port is accepted by the engine whatever is behind it; a disabled proxy is
        # nearest to a port that nobody listens on.
        links = [link for link in self._links.values() if link.target == node]
        self._links.hold_refused(("down", node), links)


def _side_by_side(verb: Callable[[str], None], nodes: Collection[str]) -> None:
    if len(nodes) < 2:
        for node in nodes:
            verb(node)
        return
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(verb, nodes))
