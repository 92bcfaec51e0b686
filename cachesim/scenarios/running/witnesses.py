"""Witnesses: what shows that a fault is there, besides the answer of what injected it.

Each looks at what cachesim's own beats, or the servers themselves, tell. A fault without a witness
here may have one among the checkers, which see the whole history.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Protocol

from cachesim.faults.spec import FaultSpec
from cachesim.history.rows import Beat
from cachesim.runs.calls import Readings
from cachesim.scenarios.running.address_witnesses import Left, Ways
from cachesim.scenarios.running.attempts import Access, Attempts
from cachesim.topology import CLIENT, Service, Topology

SILENCING = frozenset({"kill", "stop", "pause", "blackhole", "refuse", "reset", "isolate"})
"""Faults of nodes, zones and clients' links, besides `az-power`, that let no beat through."""
SLOW_LEAST = 0.8
"""The share of a latency by which answers have to rise."""
FEW = 5
"""So many beats tell a median, or a silence."""
FOREVER = float("inf")
UNHEARD = 0.5
"""Seconds without a heartbeat from which nodes do not hear each other."""


class BeatLog(Protocol):
    """The beats of the last half minute."""

    def recent(self, node: str, since: float) -> list[Beat]:
        """Return the reads of a node that began after a time and are decided, by their begin."""
        ...


class Witness(Protocol):
    """Tells when the effect of a fault was seen. Times are monotonic seconds."""

    @property
    def what(self) -> str:
        """What it looks at, for people."""
        ...

    def seen(self, since: float, until: float) -> float | None:
        """Return when the effect was first seen, or None.

        Args:
            since: when the fault was applied.
            until: when it was healed; infinite: it is not yet.
        """
        ...

    def gone(self, since: float) -> float | None:
        """Return when the effect was first seen to be gone, or None.

        Args:
            since: when the fault was healed.
        """
        ...


@dataclass(frozen=True)
class Unanswered:
    """The nodes answer no beats, `FEW` in a row."""

    nodes: Sequence[str]
    beats: BeatLog
    what: str = "beats without an answer"

    def seen(self, since: float, until: float) -> float | None:
        """See `Witness.seen`."""
        return _all(self._silent_since(node, since, until) for node in self.nodes)

    def gone(self, since: float) -> float | None:
        """See `Witness.gone`."""
        return _all(
            next((it.end for it in self.beats.recent(node, since) if it.ok), None)
            for node in self.nodes
        )

    def _silent_since(self, node: str, since: float, until: float) -> float | None:
        beats = [it for it in self.beats.recent(node, since) if it.start <= until]
        # A fault that is over may have been shorter than that.
        few = FEW if until == float("inf") else max(1, min(FEW, len(beats)))
        for first in range(len(beats) - few + 1):
            if all(_failed(it, until) for it in beats[first : first + few]):
                return beats[first].start
        return None


@dataclass(frozen=True)
class Slow:
    """The answers to beats take longer.

    Attributes:
        seconds: by how much.
        before: the median without the fault, by node, in seconds.
    """

    nodes: Sequence[str]
    beats: BeatLog
    seconds: float
    before: Mapping[str, float]
    what: str = "the median of the beats' answers"

    def seen(self, since: float, until: float) -> float | None:
        """See `Witness.seen`."""
        return _all(self._first(node, since, until, self._is_slow) for node in self.nodes)

    def gone(self, since: float) -> float | None:
        """See `Witness.gone`."""
        return _all(
            self._first(node, since, float("inf"), lambda rise: not self._is_slow(rise))
            for node in self.nodes
        )

    def _is_slow(self, rise: float) -> bool:
        return rise >= SLOW_LEAST * self.seconds

    def _first(
        self, node: str, since: float, until: float, holds: Callable[[float], bool]
    ) -> float | None:
        """Return when the first beat began of some in a row whose median tells it."""
        answered = [
            (it.start, it.end - it.start)
            for it in self.beats.recent(node, since)
            if it.ok and it.end is not None and it.start <= until
        ]
        for first in range(len(answered) - FEW + 1):
            some = answered[first : first + FEW]
            if holds(median(took for _, took in some) - self.before.get(node, 0.0)):
                return some[0][0]
        return None


@dataclass(frozen=True)
class Unheard:
    """Redis nodes do not hear each other's heartbeats, which go by the cluster bus.

    Attributes:
        pairs: who does not hear whom.
        latest: returns what the servers last said.
    """

    pairs: Sequence[tuple[str, str]]
    latest: Callable[[], Readings | None]
    what: str = "heartbeats over the cluster bus"

    def seen(self, since: float, until: float) -> float | None:
        """See `Witness.seen`."""
        heard, now = self._heard()
        if heard is None or min(now, until) - max([since, *heard]) < UNHEARD:
            return None
        return max([since, *heard])

    def gone(self, since: float) -> float | None:
        """See `Witness.gone`."""
        heard, _ = self._heard()
        return max(heard) if heard and min(heard) > since else None

    def _heard(self) -> tuple[list[float] | None, float]:
        """Return when each pair last heard each other, and when that was asked."""
        latest = self.latest()
        if latest is None or not latest["nodes"]:
            return None, 0.0
        told = [latest["heard"].get(one, {}).get(other, 0.0) for one, other in self.pairs]
        return told, max(it["at"] for it in latest["nodes"].values())


def _all(found: Iterable[float | None]) -> float | None:
    """Return the last of some times, if all of them are known."""
    times = list(found)
    known = [it for it in times if it is not None]
    return max(known) if known and len(known) == len(times) else None


def _failed(beat: Beat, until: float) -> bool:
    return not beat.ok or beat.end is None or beat.end > until


@dataclass(frozen=True)
class Witnesses:
    """Chooses the witness of a fault.

    Attributes:
        before: the median of the beats' answers without faults, by node, in seconds.
        latest: returns what the servers last said.
        access: how clients reach nodes. None: nothing is tried.
        ways: how clients find nodes. None: nothing is tried.
    """

    topology: Topology
    beats: BeatLog
    before: Mapping[str, float]
    latest: Callable[[], Readings | None]
    access: Access | None = None
    ways: Ways | None = None

    def of(self, faults: Sequence[FaultSpec]) -> Witness | None:
        """Return the witness of faults that are applied together. None: there is none here."""
        values = [fault.as_dict() for fault in faults]
        nodes = touched(self.topology, values)
        if not values or not nodes:
            return None
        name = values[0]["fault"]
        links = [str(link) for it in values for link in it.get("links", ())]
        if any(not link.startswith(f"{CLIENT}-") for link in links):
            return None
        if name in SILENCING or name == "az-power":
            return Unanswered(nodes, self.beats)
        if name == "latency":
            return Slow(nodes, self.beats, values[0]["ms"] / 1000, self.before)
        if name == "partition":
            return Unheard(self._apart(values[0]), self.latest)
        if name in ("replace", "scale", "stale"):
            return None if self.ways is None else _of_ways(name, values[0], nodes, self.ways)
        if self.access is not None:
            return self._of_attempts(name, values[0], nodes, self.access)
        return None

    def _of_attempts(
        self, name: str, fault: Mapping[str, Any], nodes: Sequence[str], access: Access
    ) -> Witness | None:
        if name == "bad-certificate":
            return Attempts("TLS handshakes", nodes, access.refuses_certificate)
        if name == "connection-limit" and all(
            self.topology.node(node).service is Service.MEMCACHED for node in nodes
        ):
            return Attempts("connections", nodes, access.keeps_waiting)
        if name == "aof-error":
            return Attempts("pings", nodes, access.refuses_writes)
        if name == "auth-rotate":
            alone = fault["strategy"] == "set"
            return Attempts("logins", nodes, partial(access.has_new_token, alone=alone))
        if name == "bandwidth":
            return Attempts("transfers", nodes, partial(access.takes_time, kb_s=fault["kb_s"]))
        if name == "toxic" and fault.get("toxicity", 1) == 1:
            return self._of_toxic(fault["toxic"], nodes, access)
        return None

    def _of_toxic(
        self, toxic: Mapping[str, Any], nodes: Sequence[str], access: Access
    ) -> Witness | None:
        values = toxic["attributes"]
        match toxic["type"]:
            case "latency":
                return Slow(nodes, self.beats, values["latency"] / 1000, self.before)
            case "timeout" | "reset_peer":
                return Unanswered(nodes, self.beats)
            case "bandwidth":
                return Attempts("transfers", nodes, partial(access.takes_time, kb_s=values["rate"]))
            case "limit_data":
                return Attempts(
                    "cut transfers", nodes, partial(access.is_cut, limit=values["bytes"])
                )
        return None

    def _apart(self, fault: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return which Redis nodes a partition keeps from hearing which."""
        sides = [
            [it.name for it in self.topology.redis if it.zone == fault[side].removeprefix("az-")]
            for side in ("a", "b")
        ]
        pairs = [(listener, speaker) for speaker in sides[0] for listener in sides[1]]
        return pairs if fault.get("one_way") else [*pairs, *((b, a) for a, b in pairs)]


def _of_ways(
    name: str, fault: Mapping[str, Any], nodes: Sequence[str], ways: Ways
) -> Witness | None:
    if name == "replace":
        return Left(nodes, ways) if fault["new_address"] else None  # the checker has a witness
    if name == "scale":
        return Attempts("config get cluster", [str(fault["memcached"])], ways.tells)

    # It is seen only once a node has another address.
    def is_astray(_: str) -> bool:
        return any(ways.is_astray(it) for it in fault["endpoints"])

    return Attempts("connections to endpoints", ["any"], is_astray, FOREVER)


def touched(topology: Topology, faults: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the nodes that faults touch: those they name, and those of their zones and links.

    Also all that endpoints lead to, and for a change of their number all Memcached nodes.

    Args:
        faults: their JSON forms, with full names.
    """
    found: set[str] = set()
    links = {link.name: link.target for link in topology.links}
    for fault in faults:
        found.update(map(str, [*(fault.get("nodes") or ()), *(fault.get("replicas") or ())]))
        found.update(links[str(link)] for link in fault.get("links", ()) if link in links)
        zones = {str(fault[key]).removeprefix("az-") for key in ("zone", "a", "b") if key in fault}
        found.update(node.name for node in topology.nodes if node.zone in zones)
        services = {name.removeprefix("endpoint-") for name in map(str, fault.get("endpoints", ()))}
        if fault.get("fault") == "scale":
            services.add(Service.MEMCACHED)
        found.update(node.name for node in topology.nodes if node.service in services)
    return [node.name for node in topology.nodes if node.name in found]


def medians(beats: BeatLog, nodes: Iterable[str], since: float) -> dict[str, float]:
    """Return the median of the beats' answers since a time, by node, in seconds."""
    found = {}
    for node in nodes:
        took = [it.end - it.start for it in beats.recent(node, since) if it.ok and it.end]
        if took:
            found[node] = median(took)
    return found
