"""What each node was when: the lanes of the timeline."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cachesim.history.reader import History
from cachesim.scenarios.checkers.faults import all_nodes
from cachesim.scenarios.checkers.survey import begin_of

UNSEEN = 1.0
"""Seconds without a reading after which a node's role is not known."""

State = Literal["primary", "replica", "fenced", "up", "away"]
"""`fenced`: a former primary that refuses writes. `up`: a Memcached node that answers. `away`: a
node that answers no beat of the prober."""

_BEATS = (
    "SELECT node, due, ok AND end IS NOT NULL FROM beats WHERE kind = 'read' ORDER BY node, due"
)
_ROLES = (
    "SELECT node, at, name, value FROM samples WHERE name IN ('role', 'fenced') ORDER BY 1, 2, 3"
)


@dataclass(frozen=True)
class Stretch:
    """A time in which a node was the same. Times are monotonic seconds."""

    state: State
    begin: float
    end: float


@dataclass(frozen=True)
class Lane:
    """A node, and what it was when."""

    node: str
    zone: str
    stretches: list[Stretch]


def lanes(history: History) -> list[Lane]:
    """Return the lanes of all nodes, by zone."""
    roles, away, there = _roles(history), _away(history), _there(history)
    found = []
    for node in sorted(history.compute(all_nodes)):
        kind, _, place = node.rpartition("-")
        zone = place.rstrip("0123456789")  # memcached-a2 is in zone a
        whole = Stretch("up", begin_of(history), history.end_at)
        known = roles.get(node) or there.get(node) or ([whole] if kind != "redis" else [])
        found.append(Lane(node, zone, [*known, *away.get(node, ())]))
    return sorted(found, key=lambda lane: (lane.zone, not lane.node.startswith("redis")))


def _roles(history: History) -> dict[str, list[Stretch]]:
    found: dict[str, list[Stretch]] = {}
    state: dict[str, tuple[bool, bool]] = {}
    for node, at, name, value in history.rows(_ROLES):
        is_primary, is_fenced = state.get(node, (False, False))
        if name == "role":
            is_primary = value == 1
        else:
            is_fenced = value == 1
        state[node] = is_primary, is_fenced
        if name == "role":
            now: State = "fenced" if is_fenced else "primary" if is_primary else "replica"
            stretches = found.setdefault(node, [])
            last = stretches[-1] if stretches else None
            if last is not None and at - last.end <= UNSEEN:
                stretches[-1] = Stretch(last.state, last.begin, at)
            if last is None or last.state != now or at - last.end > UNSEEN:
                stretches.append(Stretch(now, at, at))
    return {node: [it for it in every if it.end > it.begin] for node, every in found.items()}


def _there(history: History) -> dict[str, list[Stretch]]:
    """Return when nodes were there that were added or removed."""
    found: dict[str, list[Stretch]] = {}
    since: dict[str, float] = {}
    begin = begin_of(history)
    for event in history.events("scaled"):
        since |= dict.fromkeys(event.data.get("added", ()), event.at)
        for node in event.data.get("removed", ()):
            stretch = Stretch("up", since.pop(node, begin), event.at)
            found.setdefault(node, []).append(stretch)
    for node, at in since.items():
        found.setdefault(node, []).append(Stretch("up", at, history.end_at))
    return found


def _away(history: History) -> dict[str, list[Stretch]]:
    found: dict[str, list[Stretch]] = {}
    for node, begin, end in _silences(history):
        found.setdefault(node, []).append(Stretch("away", begin, end))
    return found


def _silences(history: History) -> Iterator[tuple[str, float, float]]:
    """Yield the times in which a node answered no beat: from a first to the next answered one."""
    node, since, last = "", None, 0.0
    for name, due, ok in history.rows(_BEATS):
        if name != node:
            if since is not None:
                yield node, since, last
            node, since = name, None
        last = due
        if ok and since is not None:
            yield node, since, due
            since = None
        elif not ok and since is None:
            since = due
    if since is not None:
        yield node, since, last
