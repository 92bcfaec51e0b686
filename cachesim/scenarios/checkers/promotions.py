"""Who was the Redis primary when, from the control plane's events and the servers' own word."""

from bisect import bisect_right
from dataclasses import dataclass

from cachesim.history.reader import History, Span
from cachesim.scenarios.checkers.faults import death_before


@dataclass(frozen=True)
class Promotion:
    """A replica that became the primary.

    Attributes:
        old: the primary before.
        new: the primary since.
        lost_at: since when the control plane held the old one for lost; None: it did not.
        called: the earliest time at which the new one may have been the primary.
        confirmed: when it was seen to take writes.
        production: how long detection and promotion take in production, in seconds.
        requested: whether it was asked for. It does not wait for replicas that are behind.
    """

    old: str | None
    new: str
    lost_at: float | None
    called: float
    confirmed: float
    production: float
    requested: bool = False


def promotions(history: History) -> list[Promotion]:
    """Return the promotions, in their order."""
    found: list[Promotion] = []
    primary = _first_primary(history)
    lost_at: float | None = None
    seconds = 0.0
    called: float | None = None
    requested = False
    begins = ("detecting", "promoting", "failover-call", "handing-over")
    for event in history.events(*begins, "available", "failover", "role"):
        if event.kind == "detecting":
            primary, lost_at = event.source, float(event.data.get("lost_at", event.at))
            seconds = float(event.data.get("detection", 0)) + float(event.data.get("promotion", 0))
            called, requested = None, False
        elif event.kind == "promoting":
            called = event.at
        elif event.kind == "available":
            lost_at = called = None
        elif event.kind in ("failover-call", "handing-over"):
            lost_at, called, requested = None, event.at, event.kind == "failover-call"
        elif event.source != primary and event.data.get("source_type") != "replication-group":
            begin = event.at if called is None else called
            length = (event.at - begin if lost_at is None else seconds) * history.speed
            changed = primary, event.source, lost_at
            found.append(Promotion(*changed, begin, event.at, length, requested))
            primary, lost_at, called, requested = event.source, None, None, False
    return found


def _first_primary(history: History) -> str | None:
    for sample in history.samples("role"):
        if sample.value == 1:
            return sample.node
    return None


def _primaries(history: History) -> tuple[list[float], list[str | None]]:
    """Return when the primary changed, and the primaries: of before the first change, and after."""
    changes = history.compute(promotions)
    first = changes[0].old if changes else _first_primary(history)
    return [it.confirmed for it in changes], [first, *(it.new for it in changes)]


def primary_at(history: History, at: float) -> str | None:
    """Return the primary of a moment: the one that was last seen to take writes."""
    times, nodes = history.compute(_primaries)
    return nodes[bisect_right(times, at)]


def fence_of(history: History, promotion: Promotion) -> Span | None:
    """Return between which times an old primary lost the ability to take writes.

    It was dead, or the control plane fenced it, or it became a replica.

    Returns:
        The last time at which it may have taken a write and still be unfenced, from the least to
        the most. None if nothing tells.
    """
    if promotion.old is None:
        return None
    death = death_before(history, promotion.old, promotion.confirmed)
    if death is not None:
        return death
    since = promotion.lost_at if promotion.lost_at is not None else promotion.called
    open_until = since
    signs = [(it.at, it.value == 1) for it in history.samples("fenced", promotion.old)]
    signs += [(it.at, it.value == 0) for it in history.samples("role", promotion.old)]
    for at, is_fenced in sorted(signs):
        if at < since:
            continue
        if is_fenced:
            return Span(open_until, at)
        open_until = at
    return None
