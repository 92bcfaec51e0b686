"""Resets a topology between two tests, and repairs it."""

import contextlib
import time
from collections.abc import Mapping
from functools import partial

from cachesim.clock import Deadline
from cachesim.control_plane.timing import Timing
from cachesim.daemon.operations import Operations
from cachesim.daemon.readiness import wait_for_memcached
from cachesim.errors import FaultError, NoPower, NotReady
from cachesim.servers.admin import errors
from cachesim.servers.memcached_config import tuning_of
from cachesim.servers.redis_health import POLL
from cachesim.topology import FEWEST_MEMCACHED, NodeState, Service

_RESET_LIMIT = 30.0  # seconds
_PATIENCE = 8.0  # seconds until a node that stays unhealthy is replaced


class Restorer:
    """Heals, repairs and empties a topology by means of its operations."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._provision = operations.provision
        self._topology = operations.topology
        self._clusters = operations.clusters
        self._tuning: dict[str, list[bytes]] = {}

    def begin(self) -> None:
        """Note how Memcached nodes are tuned before any client is there."""
        self._tuning = self._ask_memcached()

    def reset(
        self, draws: str = "", *, timing: Timing | None = None, seed: int | None = None
    ) -> None:
        """Make the topology as new: healed, all nodes up, the first primary is primary, empty.

        See `Simulator.reset` for the arguments.

        Raises:
            FaultError: a node stayed unhealthy; the message names it and has its log.
        """
        faults, control_plane = self._operations.faults, self._operations.control_plane
        primaries = {shard.id: shard.first_primary for shard in self._topology.shards}
        # Other threads wait: a fault that they apply during a reset would stay.
        with control_plane.suspended(), faults.suspended():
            self._heal()
            self._operations.scaling.scale(FEWEST_MEMCACHED)
            if self._operations.nodes.move_back():
                self._provision.renew_env(self._operations.events)
                self._operations.naming.changed()
            try:
                if self._is_hurried or self._empty(primaries) is not None:
                    self._repair_if_ill(primaries)
                    self._wait_empty(primaries, Deadline(_RESET_LIMIT))
            except NotReady as error:
                log = self._operations.backend.logs(error.node)
                raise FaultError(f"the reset failed: {error}. Its log:\n{log}") from error
            name = f"{self._operations.seed if seed is None else seed} {draws}".strip()
            self._operations.naming.forget()
            faults.reseed(name)
            control_plane.timing = timing or Timing.of(self._operations.settings)
            control_plane.restart(primaries.values(), name)
            self._operations.monitor.reset()
            self._operations.events.record("reset", self._provision.name, "healed and flushed")

    def make_healthy(self) -> list[str]:
        """Heal all faults and bring all nodes up; the data and the primaries stay.

        Returns:
            The primaries' names.

        Raises:
            NotReady: a node stays unhealthy.
        """
        # The nodes first: a link to a paused node can't be changed.
        self.start_nodes()
        self._heal()
        primaries = {id_: cluster.find_primary() for id_, cluster in self._clusters.items()}
        for id_, cluster in self._clusters.items():
            cluster.resume_writes(primaries[id_])  # it may be about to be succeeded
        self._repair_if_ill(primaries)
        return list(primaries.values())

    def start_nodes(self) -> None:
        """Give a new process to every node that is not running, but in zones without power.

        A paused Memcached node is resumed, as a new process would be empty. A Redis node has its
        data on its disk, and might go on as the primary that it was.
        """
        state = self._operations.backend.state
        for node in self._topology.nodes:
            if node.service is Service.MEMCACHED and state(node.name) is NodeState.PAUSED:
                self._operations.nodes.resume(node.name)
            if state(node.name) is not NodeState.RUNNING:
                with contextlib.suppress(NoPower):  # healing its fault starts it
                    self._operations.nodes.replace(node.name)

    def _heal(self) -> None:
        try:
            self._operations.faults.heal_all()
        except FaultError:
            self._end_scripts()  # of which one may keep a node from it
            self._operations.faults.heal_all()

    def _end_scripts(self) -> None:
        """End all scripts; a node whose script does not end gets a new process."""
        for shard in self._topology.shards:
            for node in shard.nodes:
                if not self._clusters[shard.id].end_script(node.name):
                    self._replace(NotReady("its script does not end", node.name))

    @property
    def _is_hurried(self) -> bool:
        return any(it.is_hurried for it in self._clusters.values())

    def _is_healthy(self, primaries: Mapping[str, str]) -> bool:
        try:
            self._ask_memcached()
        except errors():
            return False
        ill = (it.health.first_problem(primaries[id_]) for id_, it in self._clusters.items())
        return not any(ill)

    def _ask_memcached(self) -> dict[str, list[bytes]]:
        with self._operations.asking_memcached:
            return {name: tuning_of(it) for name, it in self._operations.memcached.items()}

    def _repair_if_ill(self, primaries: Mapping[str, str]) -> None:
        if self._is_hurried or not self._is_healthy(primaries):
            self._repair(primaries)

    def _repair(self, primaries: Mapping[str, str]) -> None:
        """Start all nodes and make them healthy under these primaries, whatever their state.

        Raises:
            NotReady: a node stays unhealthy.
        """
        self.start_nodes()
        self._end_scripts()
        for remedy in (self._replace, partial(self._renew, primaries)):
            try:
                self._converge(primaries, Deadline(_PATIENCE))
            except NotReady as error:
                remedy(error)
            else:
                return
        self._converge(primaries, Deadline(_RESET_LIMIT))

    def _replace(self, error: NotReady) -> None:
        """Give a new process to the node that the error names."""
        self._operations.events.record("replaced", error.node, f"gets a new process: {error}")
        self._operations.nodes.replace(error.node)

    def _renew(self, primaries: Mapping[str, str], error: NotReady) -> None:
        """Start all Redis nodes with empty disks; or, if the error names one, a Memcached node."""
        if self._topology.node(error.node).service is Service.MEMCACHED:
            self._replace(error)
            return
        self._operations.events.record(
            "replaced",
            self._provision.name,
            f"all Redis nodes start again with empty disks: {error}",
        )
        self._operations.nodes.renew_redis()
        deadline = Deadline(_RESET_LIMIT)
        for id_, cluster in self._clusters.items():
            cluster.form(primaries[id_], self._node_timeout_ms, deadline)

    def _converge(self, primaries: Mapping[str, str], deadline: Deadline) -> None:
        for node in self._topology.memcached:
            with self._operations.asking_memcached:
                self._operations.memcached[node.name].close()
            wait_for_memcached(node.name, self._operations.admin, deadline)
        for id_, cluster in self._clusters.items():
            cluster.converge(primaries[id_], self._node_timeout_ms, deadline)

    def _wait_empty(self, primaries: Mapping[str, str], deadline: Deadline) -> None:
        """Empty all nodes, as often as it takes.

        Raises:
            NotReady: one was not empty and healthy at the deadline.
        """
        while (error := self._empty(primaries)) is not None:
            if deadline.expired:
                raise error
            time.sleep(POLL)

    def _empty(self, primaries: Mapping[str, str]) -> NotReady | None:
        """Empty all nodes. Return the first that was not, or that is not healthy, as an error."""
        for id_, cluster in self._clusters.items():
            if (error := cluster.flush(primaries[id_])) is not None:
                return error
        with self._operations.asking_memcached:
            for name, client in self._operations.memcached.items():
                try:
                    tuning = tuning_of(client, flush=True)
                except errors() as error:
                    return NotReady(f"{name}: does not answer: {error}", name)
                if tuning != self._tuning.get(name):
                    self._replace(NotReady("a client has changed its settings", name))
                    client.close()
                    wait_for_memcached(name, self._operations.admin, Deadline(_RESET_LIMIT))
                    self._tuning[name] = tuning_of(client)
        return None

    @property
    def _node_timeout_ms(self) -> int:
        return int(self._provision.settings.node_timeout_seconds * 1000)
