"""Fails over one shard.

`states.TRANSITIONS` is the table of its state machine. It decides by evidence alone and does not
know the faults, so whatever kills or cuts off a primary causes a failover.
"""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from cachesim import elasticache
from cachesim.clock import Clock
from cachesim.control_plane.actions import Branch, ShardActions
from cachesim.control_plane.detection import Loss, find_loss
from cachesim.control_plane.evidence import MISSED, Evidence, RedisProbe, answers, redis_answer
from cachesim.control_plane.old_primaries import OldPrimaries, lost_bytes
from cachesim.control_plane.replacement import Replacement
from cachesim.control_plane.reporter import Reporter
from cachesim.control_plane.states import TRANSITIONS, Signal, State
from cachesim.control_plane.timing import Timing
from cachesim.errors import FaultError
from cachesim.topology import Role, Shard

REJOIN_DELAY = (0.5, 5.0)
"""Bounds, in seconds, of the time for which a node whose `cluster_state` was `fail` refuses writes
after a takeover: its `cluster-node-timeout` (measured with Redis 7.0.15)."""
_SUCCESSION_LIMIT = 10.0
"""Seconds after which a primary that no replica could succeed stays the primary."""


@dataclass
class _Failover:
    """A failover in progress.

    Attributes:
        promised_at: when the new primary is to accept writes.
        detection: for how many seconds the old primary has to be lost first.
        requested: whether it was requested, so that it needs no lost primary.
        planned: whether it waits until the replica has all writes.
        candidate: the node to promote, if one was asked for.
        tried: the nodes whose promotion failed.
        undrawn: the draws as they were before it.
    """

    promised_at: float
    detection: float = 0.0
    requested: bool = False
    planned: bool = False
    candidate: str | None = None
    tried: set[str] = field(default_factory=set)
    undrawn: tuple[Any, ...] | None = None


class ShardFailover:
    """The state machine of one shard. The control plane calls it, one call at a time.

    Args:
        replacement: replaces its nodes.
        timing: returns the present timing.

    Attributes:
        id: the shard's id.
        state: the shard's state.
        primary: the name of the present primary, as far as the control plane knows.
        failovers: the number of completed failovers since the last `restart`.
        reported: how many of them a wait has returned.
        replacement: replaces its nodes.
    """

    def __init__(
        self,
        shard: Shard,
        evidence: Evidence,
        actions: ShardActions,
        replacement: Replacement,
        timing: Callable[[], Timing],
        reporter: Reporter,
        clock: Clock,
    ) -> None:
        self.id = shard.id
        self._shard = shard
        self._nodes = [node.name for node in shard.nodes]
        self._evidence = evidence
        self._actions = actions
        self._timing = timing
        self._reporter = reporter
        self._clock = clock
        self._old = OldPrimaries(actions, evidence, reporter)
        self.replacement = replacement

    def restart(self, primary: str, seed: str, stream: str) -> None:
        """Forget everything in progress: the shard is available, and the draws begin anew.

        Args:
            primary: the name of the present primary.
            stream: names the draws of this shard's failovers.
        """
        self.state = State.AVAILABLE
        self.primary = primary
        self.failovers = self.reported = 0
        self._settled_at = self._clock.monotonic()  # evidence from before does not count
        self._failover: _Failover | None = None
        self._is_fenced = False  # the primary, for a failover that is not completed
        self._branch: Branch | None = None
        self._old.clear()
        self.replacement.restart(seed)
        self._draws = random.Random(f"{seed} {stream}")

    def is_away(self, node: str) -> bool:
        """Return whether a node is a former primary that is not back yet."""
        return node in self._old

    def hand_over(self) -> None:
        """Begin a failover of a primary that is to be replaced; see `ControlPlane.hand_over`.

        The primary takes no more writes, and a replica that has all of them is promoted.

        Raises:
            FaultError: a failover is in progress already.
        """
        self._check_available()
        self._failover = _Failover(self._clock.monotonic(), requested=True, planned=True)
        message = "is to be replaced: a replica succeeds it first"
        self._reporter.record("handing-over", self.primary, message)
        self._signal(Signal.REQUESTED)

    def _check_available(self) -> None:
        if (self.state, Signal.REQUESTED) not in TRANSITIONS:
            raise FaultError(
                f"a failover is in progress already: the shard is {self.state}. "
                f"Wait until it is {State.AVAILABLE}."
            )

    def request(self, to: str | None) -> None:
        """Begin a failover without a detection; see `ControlPlane.failover`.

        Raises:
            ValueError: the primary is in that zone, or there is no such zone.
            FaultError: a failover is in progress already, or the replica does not answer.
        """
        candidate = None if to is None else self._replica_in(to)
        self._check_available()
        timing = self._timing()
        promised = self._clock.monotonic() + timing.draw(self._draws, timing.promotion)
        self._failover = _Failover(promised, requested=True, candidate=candidate)
        message = elasticache.test_failover_called(self.id)
        self._reporter.record("failover-call", self._reporter.group, message)
        self._signal(Signal.REQUESTED)

    def _replica_in(self, zone: str) -> str:
        node = self._shard.node_in(zone).name
        if node == self.primary:
            raise ValueError(f"{node} is the primary already: choose another zone")
        answer = self._answer(node)
        # Right after a start or a reset it may not have been probed yet.
        probe = self._evidence.probe(node)
        was_probed = probe is not None and probe.at >= self._settled_at
        if was_probed and (answer is None or answer.role is not Role.REPLICA):
            raise FaultError(
                f"{node} can't be promoted: it does not answer as a replica. Choose another zone."
            )
        return node

    def tick(self, now: float) -> None:
        """Look at the evidence once, and do what is due."""
        if self.state in (State.AVAILABLE, State.REPLACING):
            self._watch()
        if self.state is State.DETECTING:
            self._detect(now)
        if self.state is State.PROMOTING:
            self._promote(now)
        self.replacement.replace_dead(now, is_spared=self._is_spared, known_dead=self._old)
        self._follow_recoveries()
        if self.state is State.REPLACING and not self._old:
            self._signal(Signal.REPLACED)
        elif self.state is State.AVAILABLE and self._old:
            self._signal(Signal.STILL_REPLACING)

    # --- detection --------------------------------------------------------------------------

    def _watch(self) -> None:
        self._adopt()
        loss = self._find_loss()
        if loss is None:
            self._end_fence()
            return
        timing, undrawn = self._timing(), self._draws.getstate()
        detection = timing.draw(self._draws, timing.detection)
        promotion = timing.draw(self._draws, timing.promotion)
        promised_at = loss.since + detection + promotion
        self._failover = _Failover(promised_at, detection, undrawn=undrawn)
        self._reporter.record(
            "detecting",
            self.primary,
            loss.why,
            lost_at=loss.since,
            detection=detection,
            promotion=promotion,
            promised_at=promised_at,
        )
        self._signal(Signal.PRIMARY_LOST)

    def _adopt(self) -> None:
        """Accept a change of roles that the control plane has not made."""
        probes = {node: probe for node in self._nodes if (probe := self._answer(node))}
        present = probes.get(self.primary)
        if present is None or present.role is Role.PRIMARY or present.at < self._settled_at:
            return
        primaries = [node for node, probe in probes.items() if probe.role is Role.PRIMARY]
        if len(primaries) != 1 or not self._end_fence():
            return
        # A former primary refuses writes until it is unfenced.
        if primaries[0] in self._old and not self._unfence(primaries[0]):
            return
        self._old.remove(primaries[0], self.primary)
        former, self.primary = self.primary, primaries[0]
        self.replacement.forget_recovery(self.primary)
        message = f"is the primary now instead of {former}: its peers follow it"
        self._reporter.record("role", self.primary, message)
        try:
            branch = self._actions.branch(self.primary)
        except FaultError:
            branch = None
        before, self._branch = self._branch, branch
        if before is not None and branch is not None:
            # Two nodes that did not see each other may both have taken over, with the same epoch.
            went_on = branch.history == before.own_history
            shared = branch.offset if went_on else before.offset
            self._old.add(former, before.own_history, shared)

    def _find_loss(self) -> Loss | None:
        return find_loss(self.primary, self._nodes, self._evidence, self._settled_at)

    def _detect(self, now: float) -> None:
        failover, loss = self._in_progress(), self._find_loss()
        if loss is None:
            self._call_off("is reachable again")
        # The evidence must reach up to now: a machine that stood still for a while has seen nothing
        # in between. The time since when a silent primary is lost may have become later meanwhile.
        elif min(now, loss.until + MISSED * self._evidence.interval) >= (
            loss.since + failover.detection
        ):
            self._reporter.record("promoting", self.primary, "is considered dead")
            self._signal(Signal.DETECTED)

    def _call_off(self, why: str) -> None:
        self._end_fence()
        if (undrawn := self._in_progress().undrawn) is not None:
            self._draws.setstate(undrawn)  # or the next one would last as long as another does
        self._failover = None
        self._signal(Signal.PRIMARY_BACK)  # before the event, at which waits look
        self._reporter.record("available", self.primary, why)

    # --- promotion --------------------------------------------------------------------------

    def _promote(self, now: float) -> None:
        failover, old = self._in_progress(), self.primary
        if failover.planned and now >= failover.promised_at + _SUCCESSION_LIMIT:
            self._actions.resume_writes(old)
            # One that is dead by now is failed over as any other. It is fenced until it is back.
            if self._end_fence() or self._find_loss() is not None:
                self._call_off("stays the primary: no replica could succeed it")
            return
        candidate = failover.candidate or self._least_lag(failover.tried)
        candidate = candidate or self._took_over(failover.tried)
        if candidate is None:
            failover.tried.clear()
            message = f"no replica of shard {self.id} can be promoted"
            self._reporter.record_once("waiting", self._reporter.group, message)
        probe = self._answer(candidate) if candidate else None
        delay = 0.0 if probe is None or probe.state_ok else self._rejoin_delay()
        if now < failover.promised_at - delay:
            return
        if not failover.requested and self._find_loss() is None:
            if self._end_fence():
                self._call_off("is reachable again: no failover")
            return
        if candidate is None:
            return
        if failover.planned and not self._is_ready(old, candidate, failover.promised_at - now):
            return
        last = self._evidence.probe(old)
        known_offset = last.offset if isinstance(last, RedisProbe) else 0
        offset = self._actions.fence(old) if last is not None and last.answered else None
        self._is_fenced |= last is not None and last.answered
        try:
            branch = self._actions.promote(candidate)
        except FaultError as error:
            message = f"could not be promoted: {error}"
            self._reporter.record_once("waiting", candidate, message)
            failover.candidate = None
            failover.tried.add(candidate)
            return
        self._old.remove(candidate, old)
        self.primary, self._branch = candidate, branch
        self._settled_at = self._clock.monotonic()
        fenced_since = last.since if last is not None and offset is not None else None
        old_offset = offset if offset is not None else known_offset
        self._old.add(old, branch.history, max(branch.offset, old_offset), fenced_since)
        if failover.planned:
            self._actions.resume_writes(old)  # which it redirects now
        self._failover = None
        self._is_fenced = False  # from here on it is an old primary's
        self.failovers += 1
        self._signal(Signal.PROMOTED)  # before the event, at which waits look
        self._report_failover(old, old_offset, branch.offset)

    def _is_ready(self, primary: str, replica: str, since: float) -> bool:
        """Return whether a replica has all writes of a primary, which takes no more of them."""
        try:
            self._actions.pause_writes(primary, _SUCCESSION_LIMIT + since)
        except FaultError as error:
            self._reporter.record_once("waiting", primary, f"can't be replaced yet: {error}")
            return False
        return self._actions.in_sync(replica, primary)

    def _least_lag(self, but: Collection[str] = ()) -> str | None:
        """Return the replica with the highest replication offset, or None if none answers."""
        replicas = {
            node: probe
            for node in self._nodes
            if node != self.primary and node not in but and (probe := self._answer(node))
            # An old primary that does not know its successor yet has an offset of its own.
            if probe.role is Role.REPLICA and not probe.is_loading
        }
        return max(replicas, key=lambda node: replicas[node].offset, default=None)

    def _took_over(self, tried: Collection[str]) -> str | None:
        """Return a node that took over, but did not accept writes in time."""
        answers = ((node, self._answer(node)) for node in tried)
        return next((it for it, probe in answers if probe and probe.role is Role.PRIMARY), None)

    def _rejoin_delay(self) -> float:
        low, high = REJOIN_DELAY
        return min(max(self._timing().node_timeout, low), high)

    def _report_failover(self, old: str, old_offset: int, offset: int) -> None:
        message = elasticache.failover_completed(old, self.primary)
        lost, group = lost_bytes(old_offset, offset), self._reporter.group
        for source, kind in ((self.primary, "cache-cluster"), (group, "replication-group")):
            self._reporter.record("failover", source, message, source_type=kind, lost_bytes=lost)
        if lost:
            self._old.report_loss(old, old_offset, self.primary, offset)

    # --- recovery ---------------------------------------------------------------------------

    def _is_spared(self, node: str) -> bool:
        """Return whether a dead node is the primary, which another node must first succeed."""
        return node == self.primary and self._least_lag() is not None

    def _follow_recoveries(self) -> None:
        for node in self._old:
            if self._answer(node) is not None:
                self.replacement.begin_recovery(node)
        self._old.fence(self.primary)
        self.replacement.end_recoveries(self._is_recovered)

    def _is_recovered(self, node: str) -> bool:
        if node == self.primary:
            if not answers(self._evidence, node):
                return False
        elif (
            self._answer(node) is None
            or self._answer(self.primary) is None  # waiting for it would delay its failover
            or not self._actions.in_sync(node, self.primary)
            or not self._unfence(node)
        ):
            return False
        self._old.remove(node, self.primary)
        return True

    def _end_fence(self) -> bool:
        """Take the fence of a failover that was not completed from the primary, if it has one.

        Returns:
            Whether it has none any more.
        """
        self._is_fenced = self._is_fenced and not self._unfence(self.primary)
        return not self._is_fenced

    def _unfence(self, node: str) -> bool:
        """Let a node accept writes again; return whether it could be told."""
        try:
            self._actions.unfence(node)
        except FaultError as error:
            message = f"could not be told to accept writes: {error}"
            self._reporter.record_once("waiting", node, message)
            return False
        return True

    # --- helpers ----------------------------------------------------------------------------

    def _signal(self, signal: Signal) -> None:
        self.state = TRANSITIONS[self.state, signal]

    def _in_progress(self) -> _Failover:
        if self._failover is None:
            raise AssertionError(f"the shard is {self.state} without a failover")
        return self._failover

    def _answer(self, node: str) -> RedisProbe | None:
        return redis_answer(self._evidence, node)
