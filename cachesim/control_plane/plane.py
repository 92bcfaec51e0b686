"""The stand-in for ElastiCache's control plane: it watches all shards and the Memcached nodes."""

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

from cachesim.clock import Clock, SystemClock
from cachesim.control_plane.actions import ShardActions
from cachesim.control_plane.evidence import Evidence
from cachesim.control_plane.failover import ShardFailover
from cachesim.control_plane.replacement import Replacement
from cachesim.control_plane.reporter import Reporter
from cachesim.control_plane.timing import Timing
from cachesim.events import EventLog
from cachesim.topology import Node, Topology

_TICK = 0.02  # seconds


class ControlPlane:
    """Watches the nodes, fails over shards and replaces dead nodes.

    Args:
        actions: the actions on the nodes of each shard, by the shard's id.
        replace: gives a dead node a new process. Raises NoPower if its zone has no power, or
            another FaultError if it could not be started.
        seed: the seed of the durations of all phases.
        group: the replication group's name, for events.
        after_tick: called after each look at the evidence.

    Attributes:
        shards: the failover of each shard, by the shard's id.
    """

    def __init__(
        self,
        topology: Topology,
        evidence: Evidence,
        actions: Mapping[str, ShardActions],
        replace: Callable[[str], None],
        timing: Timing,
        events: EventLog,
        *,
        seed: str,
        group: str,
        clock: Clock | None = None,
        after_tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._topology = topology
        self._evidence = evidence
        self._clock = clock or SystemClock()
        self._reporter = Reporter(events, group)
        self._lock = threading.RLock()
        self._after_tick = after_tick
        self._suspending: set[Hashable] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.timing = timing

        def replacement(nodes: Iterable[Node]) -> Replacement:
            names = [node.name for node in nodes]
            return Replacement(
                names, evidence, replace, lambda: self.timing, self._reporter, self._clock
            )

        self.shards = {
            shard.id: ShardFailover(
                shard,
                evidence,
                actions[shard.id],
                replacement(shard.nodes),
                lambda: self.timing,
                self._reporter,
                self._clock,
            )
            for shard in topology.shards
        }
        self._memcached = replacement(topology.memcached)
        self.restart([shard.first_primary for shard in topology.shards], seed)

    @property
    def timing(self) -> Timing:
        """The durations of the phases. Setting it also adapts the probes."""
        return self._timing

    @timing.setter
    def timing(self, timing: Timing) -> None:
        self._timing = timing
        self._evidence.interval = timing.probe_interval
        self._evidence.timeout = timing.probe_timeout

    def shard(self, id_: str | None = None) -> ShardFailover:
        """Return a shard by its id; without one, the only shard.

        Raises:
            ValueError: there is no such shard, or there are several.
        """
        known = ", ".join(self.shards)
        if id_ is None:
            if len(self.shards) > 1:
                raise ValueError(
                    f"there are several shards: choose one of {known}, "
                    "with control_plane.shards[id] or failover(shard=id)"
                )
            id_ = next(iter(self.shards))
        if id_ not in self.shards:
            raise ValueError(f"no shard {id_!r}: there are {known}")
        return self.shards[id_]

    # --- life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start watching."""
        self._stopping.clear()
        self._thread = threading.Thread(
            target=self._run, name="cachesim-control-plane", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. What is in progress stays as it is."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def suspend(self, holder: Hashable) -> None:
        """Decide nothing until this holder, and all others, resume."""
        with self._lock:
            self._suspending.add(holder)

    def resume(self, holder: Hashable) -> None:
        """End what `suspend` began. Repeating it is harmless."""
        with self._lock:
            self._suspending.discard(holder)

    @property
    def suspended_by(self) -> tuple[Hashable, ...]:
        """Who has suspended it, and not resumed it yet."""
        with self._lock:
            return tuple(self._suspending)

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Decide nothing inside the context."""
        holder = object()
        self.suspend(holder)
        try:
            yield
        finally:
            self.resume(holder)

    def restart(self, primaries: str | Iterable[str], seed: str) -> None:
        """Forget everything in progress: all shards are available, and the draws begin anew.

        Args:
            primaries: the name of each shard's present primary, or a single name.

        Raises:
            ValueError: a shard has none, or a name is not that of a Redis node.
        """
        names = [primaries] if isinstance(primaries, str) else primaries
        present = {self._topology.shard_of(name).id: name for name in names}
        if missing := self.shards.keys() - present:
            raise ValueError(f"no primary is given for shard {min(missing)}")
        with self._lock:
            for number, (id_, shard) in enumerate(self.shards.items()):
                # The first shard draws the same, whether there are others or not.
                stream = f"failover {id_}" if number else "failover"
                shard.restart(present[id_], seed, stream)
            self._memcached.restart(seed)
            self._reporter.reset()

    def is_healthy(self, node: str) -> bool:
        """Return whether a node is held for healthy, so that clients may be led to it.

        It answers, and is no former primary that is not back yet. A node that was never probed is.
        """
        probe = self._evidence.probe(node)
        if probe is not None and not probe.answered:
            return False
        return not any(shard.is_away(node) for shard in self.shards.values())

    def failover(self, to: str | None = None, *, shard: str | None = None) -> None:
        """Fail over as ElastiCache's TestFailover does: without a detection.

        Returns at once; the failover takes as long as a promotion does.

        Args:
            to: the zone whose replica is promoted; without it, the replica with the least lag.
            shard: the shard's id; needed only if there are several.

        Raises:
            ValueError: the primary is in that zone, or there is no such zone or shard.
            FaultError: a failover is in progress already, or the replica does not answer.
        """
        failing_over = self.shard(shard)
        with self._lock:
            failing_over.request(to)

    def hand_over(self, shard: str) -> None:
        """Begin to let a replica succeed a primary that is to be replaced. No write is lost.

        Raises:
            FaultError: a failover is in progress already.
        """
        with self._lock:
            self.shards[shard].hand_over()

    def replaced(self, node: str) -> None:
        """Note that a node was given a new process, and report its recovery."""
        with self._lock:
            for replacement in (*(it.replacement for it in self.shards.values()), self._memcached):
                replacement.note(node)

    def add(self, node: str) -> None:
        """Watch one more Memcached node."""
        with self._lock:
            self._memcached.add(node)

    def remove(self, node: str) -> None:
        """Watch a Memcached node no more."""
        with self._lock:
            self._memcached.remove(node)

    def tick(self) -> None:
        """Look at the evidence once, and do what is due."""
        with self._lock:
            if self._suspending:
                return
            now = self._clock.monotonic()
            for shard in self.shards.values():
                shard.tick(now)
            self._memcached.replace_dead(now)
            self._memcached.end_recoveries()

    def _run(self) -> None:
        while not self._stopping.wait(_TICK):
            try:
                self.tick()
                self._after_tick()
            except Exception as error:
                # If the thread died unnoticed, tests would wait in vain.
                message = f"control plane: {error!r}"
                self._reporter.record_once("error", self._reporter.group, message)
