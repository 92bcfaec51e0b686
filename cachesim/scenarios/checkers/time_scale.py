"""The time scale: what a run at a speed above 1 may say of production.

The timeline's times, detection, promotion and replacement are production time divided by the speed.
What a client does is real: its timeouts, retries and pauses. So a client may outlive a window that
is compressed to a second and not the one of production. Its profile tells the difference:
`patience` is the longest that a call may take and still succeed, `comeback` the longest until an
unused node is tried again.

Rule, for a window of production length W that stopped a class of operations:

- it is not served for at least `max(0, W - min(patience, deadline))`;
- and at most for `W + E + comeback + gap x speed`, W taken from the call of its fault, E being the
  time from the window's end until the node was able, as measured, and gap the longest between
  operations of the class.

A fault of some of a service's nodes is no such window for sure: a client that needs a second to get
around them may do so within it in production, and can't in its compressed part. So that class is
not served for at least the seconds, real, that it lasted. A failover can't be got around.

What is not declared is infinite. At speed 1 nothing is compressed, and the measured figures stand.

Windows that follow each other before the client may be back are up to one outage.

A window stopped a class if an outage of it, counting only what was answered within the window,
covers the window's later half up to its end. It did not if the class was served again by then:
the outage was the client's, in real time, and stands as measured; of all outages together it counts
up to times the speed, as it may come again. With fewer than three operations in the later half, or
an outage that began in it, the window may have stopped the class. So it may if its fault comes and
goes by production's clock: what stopped the class was over by then.

A fault that happens once, such as a replacement, is no window: what follows from it is real. But
clients with auto discovery ask for the nodes from time to time, which is production time here.
From the moment when a node has left its address until they have asked, and are back, they may not
be served.

A window may also have stopped a class of a service that does not use its nodes: an outage of it at
that moment need not be the window's; and without one, in production the workers of its pods may all
wait for the service that the window stops. They do if its rate, times the shorter of its client's
patience and the window, is as many as a pod has; of a user's own code, whose workers nobody knows,
if it is one or more.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cachesim.history.outages import APART, Outage, Track
from cachesim.history.reader import History, Span
from cachesim.scenarios.checkers.faults import (
    ONCE,
    able_since,
    applied,
    nodes_of,
    nodes_of_services,
    removed,
)
from cachesim.scenarios.checkers.generator import union
from cachesim.scenarios.checkers.promotions import promotions
from cachesim.scenarios.checkers.survey import OperationClass, survey

FEW = 3
CACHES = "memcached-"
"""How the names of caches begin, whose items may go at any time."""
ROUND_TRIP = 0.02
"""Seconds that an answer may take without a fault."""
INFINITE = float("inf")

_DUE_IN = """
SELECT due, end, outcome FROM operations
WHERE service = ? AND (kind = 'read') = ? AND due BETWEEN ? AND ? ORDER BY due
"""
_SLOWEST_IN = """
SELECT max(end - due) FROM operations
WHERE service = :service AND (kind = 'read') = :read AND due BETWEEN :begin AND :end
AND outcome = 'ok' AND end <= :end
"""
_LONGEST = "SELECT max(end - start) FROM operations WHERE outcome = 'ok' AND service = ?"
_FIRST_ANSWERS = """
SELECT pod, min(CASE WHEN outcome = 'ok' AND start >= ? THEN end END) FROM operations
WHERE service = ? AND (kind = 'read') = ? GROUP BY pod
"""


@dataclass(frozen=True)
class Window:
    """A span that is compressed by the speed.

    Attributes:
        what: what it is, for people.
        begin, end: monotonic seconds, as they were in the run.
        production: its length in production, in seconds, at least.
        more: by how much it may be longer.
        until_able: seconds, real, from its end until the node was able. Infinite: it never was.
        nodes: the nodes that it is about.
        is_failover: whether it is a failover, and not a step.
        is_discovery: whether it is the time until clients ask for the nodes again.
        is_flapping: whether its fault comes and goes in it, by production's clock.
    """

    what: str
    begin: float
    end: float
    production: float
    until_able: float
    nodes: frozenset[str] = frozenset()
    is_failover: bool = False
    more: float = 0.0
    is_discovery: bool = False
    is_flapping: bool = False

    def outage(self, history: History, name: OperationClass, gap: float) -> tuple[float, float]:
        """Return how long production serves nothing of a class that it stops, in seconds.

        Args:
            gap: the longest time between operations of the class, in seconds.
        """
        patience, comeback = history.patience_of(name.service), history.comeback_of(name.service)
        best = max(0.0, self.production - min(patience, history.deadline))
        used = history.compute(nodes_of_services).get(name.service)
        if not self.is_failover and not (used and used <= self.nodes):
            best = min(best, self.end - self.begin)
        worst = self.production + self.more + self.until_able + comeback + gap * history.speed
        return best, worst


def compressed(history: History) -> list[Window]:
    """Return the windows that are compressed, in their order. At speed 1 there are none."""
    if history.speed == 1:
        return []
    found = [*_promotions(history), *_holds(history), *_discoveries(history)]
    return sorted(found, key=lambda window: window.begin)


def _promotions(history: History) -> list[Window]:
    found = []
    for it in history.compute(promotions):
        if it.lost_at is not None:
            able = able_since(history, None, it.confirmed)
            until = INFINITE if able is None else able.end - it.confirmed
            what = f"failover from {it.old} to {it.new}"
            nodes = frozenset({it.new, *([it.old] if it.old else [])})
            found.append(Window(what, it.lost_at, it.confirmed, it.production, until, nodes, True))
    return found


def _holds(history: History) -> list[Window]:
    found = []
    for step in history.compute(applied):
        if step.fault.get("fault") in ONCE:
            continue
        assert step.begin_call is not None  # noqa: S101 - for the type checker
        begin = step.begin_call if step.begin_confirmed is None else step.begin_confirmed
        end = history.end_at if step.end_call is None else step.end_call
        until = INFINITE if step.end_call is None else 0.0
        nodes = nodes_of(history, step.fault)
        there = nodes - history.compute(removed) if step.end_call is not None else ()
        for node in there:
            able = able_since(history, node, end)
            until = max(until, INFINITE if able is None else able.end - end)
        what, length = f"step {step.id}", (end - begin) * history.speed
        more = (begin - step.begin_call) * history.speed
        flaps = step.id in history.compute(_flapping)
        found.append(Window(what, begin, end, length, until, nodes, more=more, is_flapping=flaps))
    return found


def _flapping(history: History) -> frozenset[str]:
    """Return which steps come and go by production's clock."""
    steps = (history.meta.get("scenario") or {}).get("steps", ())
    return frozenset(
        it["id"] for it in steps if (it.get("flap") or {}).get("clock") == "production"
    )


def _discoveries(history: History) -> list[Window]:
    """Return the times until clients with auto discovery know what has become of a node."""
    client = (history.meta.get("clients") or {}).get("api_cache", {})
    if (every := client.get("discovery")) is None:
        return []
    left = [(it.at, it.source) for it in history.events("moved") if it.source.startswith(CACHES)]
    left += [
        (it.at, node) for it in history.events("scaled") for node in it.data.get("removed", ())
    ]
    return [
        Window(f"wait of auto discovery after {node} left", at, at + every, 0.0, 0.0,
               frozenset({node}), more=every * history.speed, is_discovery=True)
        for at, node in left
    ]  # fmt: skip


def stopped(history: History, name: OperationClass, window: Window) -> bool | None:
    """Return whether a window stopped a class of operations. None: it may have."""
    found = history.compute(_stopped, name, window)
    used = history.compute(nodes_of_services)
    if not window.nodes or not used.get(name.service) or used[name.service] & window.nodes:
        is_open = window.is_discovery or (window.is_flapping and found is False)
        return None if is_open else found
    if window.is_discovery:
        return False
    return False if found is False and not _takes_workers(history, name, window) else None


def _takes_workers(history: History, name: OperationClass, window: Window) -> bool:
    """Return whether in production all workers of a pod wait for what a window stops.

    Args:
        name: the class that they are missing for.
    """
    baseline, pods = history.baseline, history.meta.get("pods")
    pool = history.meta.get("pool") or 1  # of a user's own code nobody knows it
    if not baseline or not pods:
        return False
    waiting = sum(
        found.baseline_due * min(history.patience_of(it.service), window.production)
        for it, found in history.compute(survey).items()
        if it.service != name.service and history.compute(_stopped, it, window)
    )
    return bool(waiting / (baseline.end - baseline.begin) / pods >= pool)


def _stopped(history: History, name: OperationClass, window: Window) -> bool | None:
    """Return whether a window stopped a class, from its own operations alone."""
    begin, is_read = window.begin, name.kind == "read"
    # What was due just before the end had no time to be answered.
    within = {"service": name.service, "read": is_read, "begin": begin, "end": window.end}
    [(slowest,)] = history.rows(_SLOWEST_IN, **within)
    last = window.end - min((slowest or 0) + ROUND_TRIP, (window.end - begin) / 4)
    middle = (begin + last) / 2
    track, later = Track(begin), 0
    for due, end, outcome in history.rows(_DUE_IN, name.service, is_read, begin, last):
        limit = min(due + history.deadline, window.end)
        track.add(due, outcome == "ok" and end is not None and end <= limit)
        later += due >= middle
    if later < FEW:
        return None
    outages = track.outages(last)
    if not outages or not _reaches(outages[-1], last):
        return False
    return True if outages[-1].begin <= middle else None


def _reaches(outage: Outage, last: float) -> bool:
    """Return whether an outage goes on until the last time looked at.

    If only some fail, three good ones in a row are no end of it yet.
    """
    return outage.is_open or (not outage.is_full and last - outage.end < APART)


def grown(history: History, least: float, most: float) -> tuple[float, float]:
    """Return how many there are in production of what may grow with the time, or may not."""
    return least * min(1.0, history.speed), most * max(1.0, history.speed)


def least_together(history: History, outages: Iterable[tuple[float, float, float]]) -> float:
    """Return how long production serves nothing at least, from outages that may overlap.

    Windows of faults that are there at the same time are the same seconds of production.

    Args:
        outages: the least that each lasts, in seconds of production, and its begin and end.
    """
    sure = [(low, Span(begin, end)) for low, begin, end in outages if low > 0]
    covered = union(sorted(span for _, span in sure))
    twice = sum(it.end - it.begin for _, it in sure) - sum(it.end - it.begin for it in covered)
    lows = [low for low, _ in sure]
    return max([0.0, *lows, sum(lows) - twice * history.speed])


def most_in_a_row(history: History, windows: Iterable[tuple[float, float]]) -> float:
    """Return how long production serves nothing at a stretch at most, in seconds.

    Args:
        windows: the most that each stops a class, in seconds of production, and its begin.
    """
    longest, first, last = 0.0, 0.0, float("-inf")
    for begin, most in sorted((begin, most) for most, begin in windows):
        at = begin * history.speed
        if at > last:
            first, last = at, at + most
            longest = max(longest, most)
        else:
            last = max(last, at + most)
            longest = max(longest, last - first)
    return longest


def why_wrong(history: History, name: OperationClass) -> str | None:
    """Return how the run contradicts the client's profile, or None if it does not."""
    patience, comeback = history.patience_of(name.service), history.comeback_of(name.service)
    [(longest,)] = history.rows(_LONGEST, name.service)
    if longest is not None and longest > patience + history.eps:
        return (
            f"the profile is wrong: a call took {longest:.3g} s and succeeded, its patience is "
            f"{patience:.3g} s"
        )
    windows = history.compute(compressed)
    for window in windows:
        able = window.end + window.until_able
        limit = able + comeback
        is_followed = any(window.begin < it.begin <= limit and it.end > able for it in windows)
        if limit >= history.end_at or is_followed or not stopped(history, name, window):
            continue
        answers = history.rows(_FIRST_ANSWERS, able, name.service, name.kind == "read")
        for pod, first in answers:
            if first is None or first > limit + history.eps:
                return (
                    f"the profile is wrong: after the {window.what}, pod {pod} was not back "
                    f"within its comeback of {comeback:.3g} s"
                )
    return None
