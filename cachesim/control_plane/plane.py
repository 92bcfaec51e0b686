"""Our stand-in for ElastiCache's control plane.

It goes by evidence alone: the admin probes, and what the replicas hear of their primary. It knows
nothing of the faults, so whatever kills or cuts off a primary gets a failover.
"""

import random
import threading
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from cachesim import elasticache
from cachesim.clock import Clock, SystemClock
from cachesim.control_plane.evidence import (
    INTERVAL,
    MISSED,
    PROBE_TIMEOUT,
    Evidence,
    RedisProbe,
    Silence,
)
from cachesim.errors import FaultError, NoPower
from cachesim.events import EventLog
from cachesim.settings import Settings
from cachesim.topology import Role, Topology

RECONNECTING = 1.5
"""Seconds in which a replica's link may be down without its primary being lost: replicas try to
connect once a second, so a primary that was restarted is not followed at once."""
REJOIN_DELAY = (0.5, 5.0)
"""Seconds that a node whose `cluster_state` was `fail` refuses writes after a takeover: its
`cluster-node-timeout`, within these bounds (measured with Redis 7.0.15)."""
_TICK = 0.02  # seconds
_PING_BYTES = 14
"""A primary's PING in the replication stream, one in 10 s. No write is as short."""


class State(StrEnum):
    """Where a shard is."""

    AVAILABLE = "available"
    DETECTING = "detecting"
    PROMOTING = "promoting"
    REPLACING = "replacing"


class Signal(StrEnum):
    """What moves it on."""

    PRIMARY_LOST = "primary lost"
    PRIMARY_BACK = "primary back"
    DETECTED = "detected"
    REQUESTED = "failover requested"
    PROMOTED = "promoted"
    REPLACED = "replaced"
    STILL_REPLACING = "an old primary is still away"


TRANSITIONS: Mapping[tuple[State, Signal], State] = {
    (State.AVAILABLE, Signal.PRIMARY_LOST): State.DETECTING,
    (State.AVAILABLE, Signal.REQUESTED): State.PROMOTING,
    (State.AVAILABLE, Signal.STILL_REPLACING): State.REPLACING,
    (State.DETECTING, Signal.PRIMARY_BACK): State.AVAILABLE,
    (State.DETECTING, Signal.DETECTED): State.PROMOTING,
    (State.PROMOTING, Signal.PRIMARY_BACK): State.AVAILABLE,
    (State.PROMOTING, Signal.PROMOTED): State.REPLACING,
    (State.REPLACING, Signal.PRIMARY_LOST): State.DETECTING,
    (State.REPLACING, Signal.REQUESTED): State.PROMOTING,
    (State.REPLACING, Signal.REPLACED): State.AVAILABLE,
}


@dataclass(frozen=True)
class Timing:
    """How long the phases take at speed 1, as ranges in seconds, and the speed."""

    detection: tuple[float, float]
    promotion: tuple[float, float]
    replacement: tuple[float, float]
    node_timeout: float
    speed: float = 1.0

    @classmethod
    def of(cls, settings: Settings) -> "Timing":
        """That of the settings."""
        return cls(
            settings.detection_seconds,
            settings.promotion_seconds,
            settings.replacement_seconds,
            settings.node_timeout_seconds,
            settings.speed,
        )

    @property
    def probe_interval(self) -> float:
        """Seconds between two probes: a tenth of the quickest failover, from 0.05 to 0.25.

        Probing more often than it matters costs a laptop its rest.
        """
        quickest = (self.detection[0] + self.promotion[0]) / self.speed
        return min(max(INTERVAL, quickest / 10), 5 * INTERVAL)

    @property
    def probe_timeout(self) -> float:
        """Seconds after which a node that says nothing is missed: below the quickest detection."""
        return min(PROBE_TIMEOUT, self.detection[0] / self.speed / 2)

    @property
    def longest_failover(self) -> float:
        """Seconds at most from the loss of a primary to the promotion of another."""
        return (self.detection[1] + self.promotion[1]) / self.speed


@dataclass(frozen=True)
class _Lost:
    """That the primary is lost: since when and until when it is known, and why."""

    since: float
    until: float
    why: str


@dataclass(frozen=True)
class Branch:
    """Where a primary has gone on from its predecessor.

    Attributes:
        history: the id of the replication history that it shares with it.
        offset: how far, in bytes.
        own_history: the id of its own.
    """

    history: str
    offset: int
    own_history: str


class Shard(Protocol):
    """What the control plane does to the nodes."""

    def fence(self, node: str) -> int | None:
        """Make a primary refuse writes.

        Returns:
            Its replication offset, after which it takes nothing any more; None if it is no
            primary or does not answer.
        """
        ...

    def unfence(self, node: str) -> None:
        """Let a node take writes again, when it is asked to.

        Raises:
            FaultError: it does not answer.
        """
        ...

    def branch(self, primary: str) -> Branch:
        """Where a primary has gone on from its predecessor.

        Raises:
            FaultError: it does not answer.
        """
        ...

    def promote(self, node: str) -> Branch:
        """Make a replica the primary.

        Raises:
            FaultError: it did not become a primary that serves the slots.
        """
        ...

    def asked_from(self, node: str, history: str) -> int | None:
        """The offset of a history from which a node has asked another to let it go on.

        It is how far it had come itself, as a primary. None if it has never asked for that.
        """
        ...

    def in_sync(self, node: str, primary: str) -> bool:
        """Whether a node is a replica that follows the primary without a lag."""
        ...

    def replace(self, node: str) -> None:
        """Give a dead node a new process.

        Raises:
            NoPower: its zone has no power.
        """
        ...


@dataclass
class _Failover:
    """A failover under way.

    Attributes:
        promised_at: when the new primary is to take writes.
        detection: seconds that the old one has to be lost before.
        candidate: the node to promote, if one was asked for.
        fenced: whether the old primary refuses writes for it already.
        tried: the nodes whose promotion failed.
    """

    promised_at: float
    detection: float = 0.0
    requested: bool = False
    candidate: str | None = None
    fenced: bool = False
    tried: set[str] = field(default_factory=set)


@dataclass
class _OldPrimary:
    """A former primary that is not back yet.

    Attributes:
        history: the id of its replication history.
        told_offset: the replication offset up to which its losses were told.
        fenced_since: the beginning of the run of answers in which it was fenced.
    """

    history: str
    told_offset: int
    fenced_since: float | None = None


class ControlPlane:
    """Watches one shard and the Memcached nodes. `tick` decides; a thread calls it.

    Args:
        seed: how long phases take is drawn from it alone.
        group: the replication group's name, for events.

    Attributes:
        state: where the shard is.
        primary: the name of the node that it holds for the primary.
        failovers: how many were completed since the last `restart`.
    """

    def __init__(
        self,
        topology: Topology,
        evidence: Evidence,
        shard: Shard,
        timing: Timing,
        events: EventLog,
        *,
        seed: str,
        group: str,
        clock: Clock | None = None,
    ) -> None:
        self._evidence = evidence
        self.timing = timing
        self._shard = shard
        self._events = events
        self._group = group
        self._clock = clock or SystemClock()
        self._shard_id = topology.shards[0].id
        self._redis = [node.name for node in topology.redis]
        self._nodes = [node.name for node in topology.nodes]
        self._zones = {node.name: node.zone for node in topology.nodes}
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.restart(topology.shards[0].first_primary, seed)

    @property
    def timing(self) -> Timing:
        """How long the phases take. The probes follow it."""
        return self._timing

    @timing.setter
    def timing(self, timing: Timing) -> None:
        self._timing = timing
        self._evidence.interval = timing.probe_interval
        self._evidence.timeout = timing.probe_timeout

    # --- life -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to watch."""
        self._stopping.clear()
        self._thread = threading.Thread(
            target=self._run, name="cachesim-control-plane", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. What is under way is left as it is."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def suspended(self) -> AbstractContextManager[object]:
        """While it is entered, nothing is decided."""
        return self._lock

    def restart(self, primary: str, seed: str) -> None:
        """Forget what was under way: all is well, this is the primary, and draws begin anew."""
        with self._lock:
            self.state = State.AVAILABLE
            self.primary = primary
            self.failovers = 0
            self._settled_at = self._clock.monotonic()  # what is older says nothing of the present
            # Since when each has had its process, as far as that is known.
            self._new_at = dict.fromkeys(self._nodes, self._settled_at)
            self._failover: _Failover | None = None
            self._branch: Branch | None = None
            self._old: dict[str, _OldPrimary] = {}
            # Since when a node is away, and the seconds until it is replaced.
            self._replacements: dict[str, tuple[float, float]] = {}
            self._recovering: set[str] = set()
            self._told: set[tuple[str, str]] = set()
            # Streams of their own: what is drawn for one must not depend on what happened to
            # another.
            self._failover_draws = random.Random(f"{seed} failover")
            self._replacement_draws = {
                node: random.Random(f"{seed} replacement {node}") for node in self._nodes
            }

    def failover(self, to: str | None = None) -> None:
        """Fail over as ElastiCache's TestFailover does: no detection, the rest as ever.

        Returns at once; the failover takes as long as a promotion does.

        Args:
            to: the zone whose replica is promoted; without it, the one with the least lag.

        Raises:
            ValueError: the primary is in that zone, or there is no such zone.
            FaultError: a failover is under way already, or the replica does not answer.
        """
        with self._lock:
            candidate = None if to is None else self._replica_in(to)
            if (self.state, Signal.REQUESTED) not in TRANSITIONS:
                raise FaultError(f"a failover is under way already: the shard is {self.state}")
            now = self._clock.monotonic()
            promised = now + self._draw(self._failover_draws, self.timing.promotion)
            self._failover = _Failover(promised, requested=True, candidate=candidate)
            self._record(
                "failover-call", self._group, elasticache.test_failover_called(self._shard_id)
            )
            self._signal(Signal.REQUESTED)

    def _replica_in(self, zone: str) -> str:
        of_zone = {self._zones[node]: node for node in self._redis}
        node = of_zone.get(zone.removeprefix("az-"))
        if node is None:
            raise ValueError(f"no zone {zone!r}: there are {', '.join(of_zone)}")
        if node == self.primary:
            raise ValueError(f"{node} is the primary already")
        answer = self._answer(node)
        # Right after the start it may not have been asked yet.
        was_asked = self._evidence.probe(node) is not None
        if was_asked and (answer is None or answer.role is not Role.REPLICA):
            raise FaultError(f"{node} can't be promoted: it does not answer as a replica")
        return node

    def _run(self) -> None:
        while not self._stopping.wait(_TICK):
            try:
                self.tick()
            except Exception as error:
                # A control plane that died unnoticed would let a run wait for nothing.
                self._once("error", self._group, f"control plane: {error!r}")

    # --- decisions --------------------------------------------------------------------------

    def tick(self) -> None:
        """Look at the evidence once and do what is due."""
        with self._lock:
            now = self._clock.monotonic()
            if self.state in (State.AVAILABLE, State.REPLACING):
                self._look_for_loss()
            if self.state is State.DETECTING:
                self._detect(now)
            if self.state is State.PROMOTING:
                self._promote(now)
            self._replace_dead(now)
            self._follow_recoveries()
            if self.state is State.REPLACING and not self._old:
                self._signal(Signal.REPLACED)
            elif self.state is State.AVAILABLE and self._old:
                self._signal(Signal.STILL_REPLACING)

    def _look_for_loss(self) -> None:
        self._adopt()
        lost = self._lost()
        if lost is None:
            return
        detection = self._draw(self._failover_draws, self.timing.detection)
        promotion = self._draw(self._failover_draws, self.timing.promotion)
        promised_at = lost.since + detection + promotion
        self._failover = _Failover(promised_at, detection)
        self._record(
            "detecting",
            self.primary,
            lost.why,
            lost_at=lost.since,
            detection=detection,
            promotion=promotion,
            promised_at=promised_at,
        )
        self._signal(Signal.PRIMARY_LOST)

    def _adopt(self) -> None:
        """Follow a change of roles that someone else has made."""
        answers = {node: probe for node in self._redis if (probe := self._answer(node))}
        present = answers.get(self.primary)
        if present is None or present.role is Role.PRIMARY or present.at < self._settled_at:
            return
        primaries = [node for node, probe in answers.items() if probe.role is Role.PRIMARY]
        if len(primaries) != 1:
            return
        # A former one refuses writes.
        if primaries[0] in self._old and not self._unfence(primaries[0]):
            return
        self._is_back(primaries[0])
        former, self.primary = self.primary, primaries[0]
        self._recovering.discard(self.primary)
        self._record("role", self.primary, f"is the primary, not {former}: its peers follow it")
        try:
            present_branch = self._shard.branch(self.primary)
        except FaultError:
            present_branch = None
        before, self._branch = self._branch, present_branch
        if before is not None and present_branch is not None:
            # Two that have not seen each other may both have taken over, with the same epoch.
            went_on = present_branch.history == before.own_history
            shared = present_branch.offset if went_on else before.offset
            self._old[former] = _OldPrimary(before.own_history, shared)

    def _detect(self, now: float) -> None:
        failover, lost = self._under_way(), self._lost()
        if lost is None:
            self._record("available", self.primary, "is there again")
            self._failover = None
            self._signal(Signal.PRIMARY_BACK)
        # The evidence must reach as far as the time: a machine that stood still for a while has
        # seen nothing in between. Since when a silent one is lost may have come later meanwhile.
        elif min(now, lost.until + MISSED * self._evidence.interval) >= (
            lost.since + failover.detection
        ):
            self._record("promoting", self.primary, "is held for dead")
            self._signal(Signal.DETECTED)

    def _lost(self) -> _Lost | None:
        """Whether the primary is lost."""
        probe = self._evidence.probe(self.primary)
        if probe is None:
            return None
        if not probe.answered:
            lost = _Lost(probe.since, max(probe.at, probe.until), "does not answer")
            return lost if probe.at > self._settled_at else None
        if isinstance(probe, RedisProbe) and probe.is_loading:
            return None  # nobody can follow it yet
        # A majority of the shard's nodes, so of three both replicas: otherwise a partition between
        # two zones would cost a primary that its clients still see.
        needed = len(self._redis) // 2 + 1
        deaf = [s for n in self._redis if n != self.primary and (s := self._deafness(n))]
        if len(deaf) < needed:
            return None
        since = max(self._settled_at, sorted(silence.since for silence in deaf)[needed - 1])
        until = min(silence.until for silence in deaf)
        if until - since <= MISSED * self._evidence.interval:
            return None
        return _Lost(since, until, f"is not heard by {len(deaf)} replicas")

    def _deafness(self, replica: str) -> Silence | None:
        probe = self._answer(replica)
        if probe is None:
            return None
        down_since = probe.link_down_since
        if down_since is not None and probe.at - down_since > RECONNECTING:
            return Silence(down_since, probe.at)
        return self._evidence.silence(replica, self.primary)

    def _promote(self, now: float) -> None:
        failover, old = self._under_way(), self.primary
        candidate = failover.candidate or self._least_lag(failover.tried)
        if candidate is None:
            failover.tried.clear()
            self._once("waiting", self._group, "there is no replica that can be promoted")
        probe = self._answer(candidate) if candidate else None
        delay = 0.0 if probe is None or probe.state_ok else self._rejoin_delay()
        if now < failover.promised_at - delay:
            return
        if not failover.requested and self._lost() is None:
            if failover.fenced and not self._unfence(old):
                return
            self._record("available", old, "is there again: no failover")
            self._failover = None
            self._signal(Signal.PRIMARY_BACK)
            return
        if candidate is None:
            return
        said = self._evidence.probe(old)
        last_known = said.offset if isinstance(said, RedisProbe) else 0
        offset = self._shard.fence(old) if said is not None and said.answered else None
        failover.fenced |= said is not None and said.answered
        try:
            taken_over = self._shard.promote(candidate)
        except FaultError as error:
            self._once("waiting", candidate, f"could not be promoted: {error}")
            failover.candidate = None
            failover.tried.add(candidate)
            return
        self._is_back(candidate)
        self.primary, self._branch = candidate, taken_over
        self._settled_at = self._clock.monotonic()
        fenced_since = said.since if said is not None and offset is not None else None
        last_offset = offset if offset is not None else last_known
        told_offset = max(taken_over.offset, last_offset)
        self._old[old] = _OldPrimary(taken_over.history, told_offset, fenced_since)
        self._failover = None
        self.failovers += 1
        self._tell_failover(old, last_offset, taken_over.offset)
        self._signal(Signal.PROMOTED)

    def _tell_failover(self, old: str, old_offset: int, offset: int) -> None:
        message = elasticache.failover_completed(old, self.primary)
        lost = old_offset - offset if old_offset > offset + _PING_BYTES else 0
        for source, kind in ((self.primary, "cache-cluster"), (self._group, "replication-group")):
            self._record("failover", source, message, source_type=kind, lost_bytes=lost)
        if lost:
            self._tell_loss(old, old_offset, offset)

    def _tell_loss(self, old: str, old_offset: int, offset: int) -> None:
        self._record(
            "lost",
            old,
            f"took {old_offset - offset} bytes of writes that {self.primary} never had: "
            "they are dropped",
            lost_bytes=old_offset - offset,
            offsets=(offset, old_offset),
        )

    def _is_back(self, node: str) -> None:
        """Hold a node for an old primary no longer."""
        old = self._old.pop(node, None)
        if old is not None and old.fenced_since is None:
            # Its peers may have told it before it could be fenced. Then it has dropped what it took
            # meanwhile.
            self._tell_more(node, old, self._shard.asked_from(node, old.history) or 0)

    def _tell_more(self, node: str, old: _OldPrimary, offset: int) -> None:
        """Tell of what an old primary took beyond what was told already."""
        if offset > old.told_offset + _PING_BYTES:
            self._tell_loss(node, offset, old.told_offset)
            old.told_offset = offset

    def _rejoin_delay(self) -> float:
        low, high = REJOIN_DELAY
        return min(max(self.timing.node_timeout, low), high)

    def _least_lag(self, but: Collection[str] = ()) -> str | None:
        replicas = {
            node: probe
            for node in self._redis
            if node != self.primary and node not in but and (probe := self._answer(node))
            # An old primary that does not know yet has an offset of its own.
            if probe.role is Role.REPLICA and not probe.is_loading
        }
        return max(replicas, key=lambda node: replicas[node].offset, default=None)

    # --- replacement ------------------------------------------------------------------------

    def _replace_dead(self, now: float) -> None:
        for node in self._nodes:
            probe = self._evidence.probe(node)
            new_at = self._new_at[node]
            if probe is not None and not probe.answered and probe.at <= new_at:
                continue  # that was the process before
            if probe is None or probe.answered or (node == self.primary and self._least_lag()):
                # A dead primary is first of all replaced by another node.
                self._replacements.pop(node, None)
                continue
            if node not in self._replacements:
                draws = self._replacement_draws[node]
                detection = 0.0 if node in self._old else self._draw(draws, self.timing.detection)
                started = now if node in self._old else max(probe.since, new_at)
                replacement = self._draw(draws, self.timing.replacement)
                self._replacements[node] = started, detection + replacement
            started, delay = self._replacements[node]
            # Since when a silent one is away may have come later meanwhile.
            if now >= max(started, probe.since, new_at) + delay:
                self._replace(node)

    def _replace(self, node: str) -> None:
        try:
            self._shard.replace(node)
        except NoPower as error:
            self._once("waiting", node, str(error))
        except FaultError as error:
            self._once("waiting", node, f"could not be replaced: {error}")
        else:
            del self._replacements[node]
            self._new_at[node] = self._clock.monotonic()
            self._recovers(node)

    def _recovers(self, node: str) -> None:
        if node not in self._recovering:
            self._recovering.add(node)
            self._record("recovering", node, elasticache.recovering(node))

    def _follow_recoveries(self) -> None:
        for node, was in list(self._old.items()):
            probe = self._answer(node)
            if probe is None:
                continue
            self._recovers(node)
            if probe.role is Role.PRIMARY and was.fenced_since != probe.since:
                # It was away when another took over, and does not know yet.
                offset = self._shard.fence(node)
                if offset is None:
                    continue
                was.fenced_since = probe.since
                self._tell_more(node, was, offset)
        for node in list(self._recovering):
            if node in self._redis and node != self.primary:
                if self._answer(node) is None or not self._shard.in_sync(node, self.primary):
                    continue
                if not self._unfence(node):
                    continue
            elif not self._answers(node):
                continue
            self._recovering.discard(node)
            self._is_back(node)
            self._record("recovered", node, elasticache.recovered(node))

    # --- helpers ----------------------------------------------------------------------------

    def _signal(self, signal: Signal) -> None:
        self.state = TRANSITIONS[self.state, signal]

    def _under_way(self) -> _Failover:
        if self._failover is None:
            raise AssertionError(f"the shard is {self.state} without a failover")
        return self._failover

    def _unfence(self, node: str) -> bool:
        """Let a node take writes again; whether it could be told."""
        try:
            self._shard.unfence(node)
        except FaultError as error:
            self._once("waiting", node, f"could not be told to take writes: {error}")
            return False
        return True

    def _answers(self, node: str) -> bool:
        probe = self._evidence.probe(node)
        return probe is not None and probe.answered

    def _answer(self, node: str) -> RedisProbe | None:
        probe = self._evidence.probe(node)
        return probe if isinstance(probe, RedisProbe) and probe.answered else None

    def _draw(self, draws: random.Random, bounds: tuple[float, float]) -> float:
        return draws.uniform(*bounds) / self.timing.speed

    def _record(self, kind: str, source: str, message: str, **data: object) -> None:
        # What was said once may be said again after something has happened.
        self._told.clear()
        self._events.record(kind, source, message, **data)

    def _once(self, kind: str, source: str, message: str) -> None:
        if (source, message) not in self._told:
            self._told.add((source, message))
            self._events.record(kind, source, message)
