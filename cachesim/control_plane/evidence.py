"""What is known of the nodes, and what it means that one of them says nothing.

What is refused, reset or closed is certain at once. Silence is not: it counts only for time in
which the metronome beat, and only beyond several times the slowest answer of the last seconds.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from cachesim.clock import Clock
from cachesim.topology import Role

PROBE_TIMEOUT = 0.25
"""Seconds after which a probe counts as unanswered, at most, where all nodes answer quickly."""
INTERVAL = 0.05
"""Seconds between two probes of a node, unless the evidence has another interval."""
MISSED = 3
"""Heartbeats in a row that have to be missing for a silence."""
_PERIOD = 5.0  # seconds in which the slowest answer tells how slow all is
_SLOWER = 4  # times as slow as that is no answer


@dataclass(frozen=True)
class Probe:
    """The last thing known of a node.

    Attributes:
        at: when the probe began, in monotonic seconds.
        since: since when the node has answered, or has not. Of a node that says nothing, it is
            later by the time that did not count.
        until: when the probe was over: a node that stands still lets one wait.
    """

    answered: bool
    at: float
    since: float
    until: float = field(default=0.0, kw_only=True)


@dataclass(frozen=True)
class RedisProbe(Probe):
    """What a Redis node said when it last answered.

    Attributes:
        offset: of the replication stream, in bytes.
        link_down_since: since when a replica says that its link to the primary is down, and not
            for a resync.
        state_ok: whether it says `cluster_state:ok`.
        is_loading: whether it says that it loads its data: it lives, and can do nothing yet.
    """

    role: Role = Role.REPLICA
    offset: int = 0
    link_down_since: float | None = None
    state_ok: bool = False
    is_loading: bool = False


@dataclass(frozen=True)
class Silence:
    """That a node hears nothing of another.

    Attributes:
        since: when it last heard it, in monotonic seconds.
        until: when it would have heard it last.
    """

    since: float
    until: float


class Evidence(Protocol):
    """What the control plane goes by.

    Attributes:
        interval: seconds between two probes of a node, and between two of its heartbeats.
        timeout: seconds after which a probe counts as unanswered, where all nodes answer quickly.
    """

    interval: float
    timeout: float

    def probe(self, node: str) -> Probe | None:
        """The last probe of a node, if there was one."""
        ...

    def silence(self, listener: str, speaker: str) -> Silence | None:
        """Whether a Redis node hears nothing of another over the cluster bus."""
        ...


def answers(evidence: Evidence, node: str) -> bool:
    """Return whether a node answered its last probe."""
    probe = evidence.probe(node)
    return probe is not None and probe.answered


def redis_answer(evidence: Evidence, node: str) -> RedisProbe | None:
    """Return the last probe of a Redis node if it answered, or else None."""
    probe = evidence.probe(node)
    return probe if isinstance(probe, RedisProbe) and probe.answered else None


class Answers:
    """How long the nodes took for their answers in the last seconds."""

    def __init__(self) -> None:
        # Each slower than all after it, so that the first is the slowest.
        self._slowest: deque[tuple[float, float]] = deque()
        self._lock = threading.Lock()

    def add(self, at: float, seconds: float) -> None:
        """Take note of an answer."""
        with self._lock:
            while self._slowest and self._slowest[-1][1] <= seconds:
                self._slowest.pop()
            self._slowest.append((at, seconds))

    def slowest(self, now: float) -> float:
        """Seconds that the slowest of the last 5 s took, or else the last one; 0 without one."""
        with self._lock:
            while len(self._slowest) > 1 and self._slowest[0][0] < now - _PERIOD:
                self._slowest.popleft()
            return self._slowest[0][1] if self._slowest else 0.0


class Observations:
    """`Evidence`, made of what the prober sees.

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
        self._asked: dict[str, float] = {}  # since when an answer is awaited
        self._heard: dict[tuple[str, str], float] = {}
        self._published: dict[str, float] = {}

    # --- what is known ----------------------------------------------------------------------

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

        Time counts only as far as the listener hears itself and the speaker's heartbeats were
        accepted: a busy machine is no silence.
        """
        since = self._heard.get((listener, speaker))
        own = self._heard.get((listener, listener))
        published = self._published.get(speaker)
        if since is None or own is None or published is None:
            return None
        until = min(own, published)
        quiet = until - since - sum(self._standstills(since, until))
        limit = max(MISSED * self.interval, self._limit(self._clock.monotonic()))
        return Silence(until - quiet, until) if quiet > limit else None

    def slowest(self) -> float:
        """See `Answers.slowest`."""
        return self._answers.slowest(self._clock.monotonic())

    # --- what is seen -----------------------------------------------------------------------

    def asked(self, node: str) -> float:
        """Take note that an answer is awaited, from now on unless one is already.

        Returns:
            Since when.
        """
        return self._asked.setdefault(node, self._clock.monotonic())

    def answered(self, node: str, probe: Probe, begun: float | None = None) -> None:
        """Take note of an answer.

        Args:
            probe: what was learnt; since when it answers is found here.
            begun: when it was asked, if it had to be connected to first.
        """
        asked = self._asked.pop(node)
        now, silent = self._silent(asked)
        limit = self._limit(now)
        before, is_late = self._probes.get(node), silent > limit
        if not is_late or not self._did_others_answer(node, asked):
            self._answers.add(now, min(self._took(begun or asked, now), limit))
        since = before.since if before is not None and before.answered and not is_late else asked
        self._probes[node] = replace(probe, at=asked, since=since)

    def failed(self, node: str) -> None:
        """Take note that a node refuses, resets or closes connections."""
        asked = self._asked.pop(node)
        now, silent = self._silent(asked)
        # What it said last is worth knowing when it is dead.
        before = self._probes.get(node) or Probe(False, asked, now - silent)
        since = now - silent if before.answered else before.since
        self._probes[node] = replace(before, answered=False, at=asked, since=since, until=now)

    def unknown(self, node: str) -> None:
        """Take note that nothing could be learnt."""
        self._asked.pop(node)

    def published(self, node: str, at: float) -> None:
        """Take note that a node took a heartbeat."""
        self._published[node] = at

    def listens(self, listener: str, speaker: str) -> None:
        """Take note that one can be heard from now on, if it was not before."""
        self._heard.setdefault((listener, speaker), self._clock.monotonic())

    def heard(self, listener: str, speaker: str) -> None:
        """Take note that one node heard a heartbeat of another."""
        self._heard[listener, speaker] = self._clock.monotonic()

    def _silent(self, asked: float) -> tuple[float, float]:
        """The present time, and the seconds that count since then."""
        now = self._clock.monotonic()
        return now, now - asked - sum(self._standstills(asked, now))

    def _took(self, begun: float, now: float) -> float:
        """Seconds that an answer took, but for a standstill.

        For one: where there is one after the other, an answer takes as long as all of them.
        """
        return now - begun - max(self._standstills(begun, now), default=0.0)

    def _limit(self, now: float) -> float:
        """Seconds of silence that are no slowness."""
        return max(self.timeout, _SLOWER * self._answers.slowest(now))

    def _did_others_answer(self, node: str, asked: float) -> bool:
        """Whether others were asked and have answered since then, so that not all is slow."""
        others = [probe for name, probe in tuple(self._probes.items()) if name != node]
        return any(other.answered and other.at >= asked for other in others)
