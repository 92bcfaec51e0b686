"""The evidence on the nodes, and how long a node may be silent before it counts as unreachable.

A connection that is refused counts at once. One that is closed says nothing of the process that may
be there by now. Silence counts only for time in which the metronome beat, and only beyond several
times the slowest answer of the last seconds.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from cachesim.clock import Clock
from cachesim.control_plane.timing import INTERVAL, PROBE_TIMEOUT
from cachesim.topology import Role

MISSED = 3
"""Heartbeats in a row that must be missing for a silence."""
_PERIOD = 5.0  # seconds; the slowest answer in it shows how slow the nodes are at present
_SLOWER = 4  # times the slowest answer, after which a probe counts as unanswered


@dataclass(frozen=True)
class Probe:
    """The result of the last probe of a node.

    Attributes:
        answered: whether the node answered it.
        at: when the probe began, in monotonic seconds.
        since: since when the node has answered, or has not, in monotonic seconds. For a silent node
            it is later by the time that did not count.
        until: up to when the probe shows that the node did not answer, in monotonic seconds.
    """

    answered: bool
    at: float
    since: float
    until: float = field(default=0.0, kw_only=True)


@dataclass(frozen=True)
class RedisProbe(Probe):
    """The result of the last probe of a Redis node, with what its last answer said.

    Attributes:
        role: its role.
        offset: its replication offset, in bytes.
        state_ok: whether its `cluster_state` is ok.
        is_loading: whether it is loading its data: it is alive, but serves nothing yet.
    """

    role: Role = Role.REPLICA
    offset: int = 0
    state_ok: bool = False
    is_loading: bool = False


@dataclass(frozen=True)
class Silence:
    """A node does not hear another.

    Attributes:
        since: when it last heard it, in monotonic seconds.
        until: the last moment when it would have heard it, in monotonic seconds.
    """

    since: float
    until: float


class Evidence(Protocol):
    """The evidence for the control plane's decisions.

    Attributes:
        interval: seconds between two probes of a node, and between two of its heartbeats.
        timeout: seconds after which a probe counts as unanswered, if all nodes answer quickly.
    """

    interval: float
    timeout: float

    def probe(self, node: str) -> Probe | None:
        """Return the last probe of a node, or None if there was none."""
        ...

    def silence(self, listener: str, speaker: str) -> Silence | None:
        """Return for how long a Redis node has not heard another over the cluster bus, or None."""
        ...


def answers(evidence: Evidence, node: str) -> bool:
    """Return whether a node answered its last probe."""
    probe = evidence.probe(node)
    return probe is not None and probe.answered


def redis_answer(evidence: Evidence, node: str) -> RedisProbe | None:
    """Return the last probe of a Redis node if it answered, or else None."""
    probe = evidence.probe(node)
    return probe if isinstance(probe, RedisProbe) and probe.answered else None


def is_outdated(probe: Probe, moment: float, evidence: Evidence) -> bool:
    """Return whether a probe shows nothing of the time after a moment.

    One that began before, and has stayed unanswered, does: a silent node is not asked again.
    """
    return probe.at <= moment and probe.until - moment <= evidence.timeout


class Answers:
    """The answer times of the nodes in the last 5 s."""

    def __init__(self) -> None:
        # Each slower than all after it, so that the first is the slowest.
        self._slowest: deque[tuple[float, float]] = deque()
        self._lock = threading.Lock()

    def add(self, at: float, seconds: float) -> None:
        """Note an answer."""
        with self._lock:
            while self._slowest and self._slowest[-1][1] <= seconds:
                self._slowest.pop()
            self._slowest.append((at, seconds))

    def slowest(self, now: float) -> float:
        """Return how long the slowest answer of the last 5 s took, in seconds.

        If there was none in that time, the last answer counts; 0 if there was no answer at all.
        """
        with self._lock:
            while len(self._slowest) > 1 and self._slowest[0][0] < now - _PERIOD:
                self._slowest.popleft()
            return self._slowest[0][1] if self._slowest else 0.0


class Observations:
    """The `Evidence` that the prober gathers.

    Args:
        standstills: see `Metronome.standstills`.
    """

    def __init__(self, clock: Clock, standstills: Callable[[float, float], list[float]]) -> None:
        self.interval = INTERVAL
        self.timeout = PROBE_TIMEOUT
        self._clock = clock
        self._standstills = standstills
        self._answers = Answers()
        self._probes: dict[str, Probe] = {}
        self._asked: dict[str, float] = {}  # since when each node has owed an answer
        # When each node closed a connection, if it has not answered since.
        self._closed: dict[str, float] = {}
        self._heard: dict[tuple[str, str], float] = {}
        # From when to when each Redis node has heard itself, and has accepted heartbeats, without
        # being away in between.
        self._hearing: dict[str, tuple[float, float]] = {}
        self._publishing: dict[str, tuple[float, float]] = {}

    # --- reading ----------------------------------------------------------------------------

    def probe(self, node: str) -> Probe | None:
        """See `Evidence.probe`."""
        probe, asked = self._probes.get(node), self._asked.get(node)
        if asked is None:
            return probe
        now, silent = self._silent(asked)
        if silent <= self._limit(now):
            return probe
        if probe is None:
            return Probe(False, asked, now - silent, until=now)
        since = now - silent if probe.answered else probe.since
        return replace(probe, answered=False, at=asked, since=since, until=now)

    def silence(self, listener: str, speaker: str) -> Silence | None:
        """See `Evidence.silence`.

        Time counts only while the listener hears itself and the speaker accepts heartbeats, so
        neither a busy machine nor the absence of one of them is a silence.
        """
        heard = self._heard.get((listener, speaker))
        own = self._hearing.get(listener)
        published = self._publishing.get(speaker)
        if heard is None or own is None or published is None:
            return None
        since, until = max(heard, own[0], published[0]), min(own[1], published[1])
        quiet = until - since - sum(self._standstills(since, until))
        is_silence = quiet > self._longest_pause(self._clock.monotonic())
        return Silence(until - quiet, until) if is_silence else None

    def heard_at(self, listener: str, speaker: str) -> float | None:
        """Return when a Redis node last heard another over the cluster bus, in monotonic seconds.

        None: it never listened to it.
        """
        return self._heard.get((listener, speaker))

    def slowest(self) -> float:
        """See `Answers.slowest`."""
        return self._answers.slowest(self._clock.monotonic())

    # --- noting -----------------------------------------------------------------------------

    def asked(self, node: str) -> float:
        """Note that a node owes an answer, from now on unless it owes one already.

        Returns:
            Since when, in monotonic seconds.
        """
        return self._asked.setdefault(node, self._clock.monotonic())

    def answered(self, node: str, probe: Probe, begun: float | None = None) -> None:
        """Note an answer.

        Args:
            probe: what it said; `since` is set here.
            begun: when the node was asked, if a connection had to be made first.
        """
        asked, closed = self._asked.pop(node), self._closed.pop(node, None)
        if closed is not None:  # who has answered now was not there when its predecessor was asked
            asked = max(asked, closed)
        now, silent = self._silent(asked)
        limit = self._limit(now)
        before = self._probes.get(node) if closed is None else None
        is_late = silent > limit
        if not is_late or not self._did_others_answer(node, asked):
            self._answers.add(now, min(self._took(begun or asked, now), limit))
        since = before.since if before is not None and before.answered and not is_late else asked
        self._probes[node] = replace(probe, at=asked, since=since)

    def closed(self, node: str, since: float) -> None:
        """Note that a node has closed a connection. An answer on another is of a new process.

        Args:
            since: when the probe began; without such an answer, the node is missed since then.
        """
        self._asked.setdefault(node, since)
        self._closed[node] = self._clock.monotonic()

    def failed(self, node: str, since: float) -> None:
        """Note that a node refuses, resets or closes a new connection.

        Args:
            since: when the probe began, if the node owes no answer any more. The connection may
                have been closed right after, however late that is noticed.
        """
        self._closed.pop(node, None)
        known = self._probes.get(node)
        asked = self._asked.pop(node, since if known is None else max(since, known.at))
        now, silent = self._silent(asked)
        until = now if silent > self._limit(now) else asked
        # Its last answer is still needed when it is dead.
        before = known or Probe(False, asked, now - silent)
        since = now - silent if before.answered else before.since
        self._probes[node] = replace(before, answered=False, at=asked, since=since, until=until)

    def forget(self, node: str) -> None:
        """Forget a node that is not there any more."""
        for noted in (self._asked, self._closed, self._probes):
            noted.pop(node, None)

    def unknown(self, node: str) -> None:
        """Note that a probe showed nothing about the node."""
        self._asked.pop(node, None)

    def published(self, node: str, at: float) -> None:
        """Note that a node accepted a heartbeat."""
        self._publishing[node] = self._continued(self._publishing.get(node), at)

    def listens(self, listener: str, speaker: str) -> None:
        """Note that a node can hear another from now on, unless it could before."""
        self._heard.setdefault((listener, speaker), self._clock.monotonic())
        # What it did not hear while nobody could ask it is no silence of others.
        self._hearing.pop(listener, None)

    def heard(self, listener: str, speaker: str) -> None:
        """Note that a node heard a heartbeat of another."""
        now = self._heard[listener, speaker] = self._clock.monotonic()
        if listener == speaker:
            self._hearing[listener] = self._continued(self._hearing.get(listener), now)

    def _continued(self, before: tuple[float, float] | None, at: float) -> tuple[float, float]:
        """Return from when to when a node did something that it does again at a moment.

        After a pause that is too long for a slow answer, it begins anew.
        """
        if before is None:
            return at, at
        begun, last = before
        pause = at - last - sum(self._standstills(last, at))
        return (at if pause > self._longest_pause(at) else begun), at

    def _longest_pause(self, now: float) -> float:
        """Return for how many seconds heartbeats may be missing that are only late."""
        return max(MISSED * self.interval, self._limit(now))

    def _silent(self, asked: float) -> tuple[float, float]:
        """Return the present time, and the seconds that count since a moment."""
        now = self._clock.monotonic()
        return now, now - asked - sum(self._standstills(asked, now))

    def _took(self, begun: float, now: float) -> float:
        """Return how long an answer took, in seconds, less the longest standstill.

        Only the longest is subtracted: when standstills follow each other, answers do take long.
        """
        return now - begun - max(self._standstills(begun, now), default=0.0)

    def _limit(self, now: float) -> float:
        """Return after how many seconds of silence a node counts as unreachable."""
        return max(self.timeout, _SLOWER * self._answers.slowest(now))

    def _did_others_answer(self, node: str, asked: float) -> bool:
        """Return whether other nodes were asked since then and answered, so not all are slow."""
        others = [probe for name, probe in tuple(self._probes.items()) if name != node]
        return any(other.answered and other.at >= asked for other in others)
