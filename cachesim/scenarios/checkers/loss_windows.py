"""The spans in which a Redis primary acknowledged writes that may be lost, and how many they are.

See `lost_writes` for the rule.
"""

from dataclasses import dataclass, replace

from cachesim.history.reader import History, Span
from cachesim.history.rows import Sample
from cachesim.scenarios.checkers.faults import applied, death_before, nodes_of
from cachesim.scenarios.checkers.promotions import Promotion, fence_of, primary_at, promotions

IMPAIRING = frozenset({"replication-lag", "partition", "isolate", "latency", "bandwidth"})
"""Faults that let replicas fall behind."""

REPLICATION_DELAY = 1.0
"""Seconds by which a replica may be behind without a fault, if nothing tells."""

_LEDGER = """
SELECT count(*) FROM operations WHERE ledger = 1 AND kind = 'write' AND outcome = 'ok'
AND end > ? AND end <= ? AND (node IS NULL OR ? IS NULL OR node = ?)
"""

_ANSWERED = """
SELECT 1 FROM beats WHERE node = ? AND kind = 'read' AND ok AND start > ? AND start < ? LIMIT 1
"""

_UNNAMED = """
SELECT 1 FROM operations WHERE ledger = 1 AND kind = 'write' AND outcome = 'ok'
AND end > ? AND end <= ? AND node IS NULL LIMIT 1
"""


@dataclass(frozen=True)
class LossWindow:
    """A span in which acknowledged writes may be lost. Times are monotonic seconds.

    Attributes:
        what: what happened, for people.
        node: the primary that acknowledged them.
        earliest: the least that its begin may be.
        begin, end: from where to where the acknowledgements are counted.
        bound: how many ledger writes were acknowledged in it; None: it can't be told.
        edges: how many ledger writes were acknowledged within eps of its begin and its end.
        scales: whether its length scales with the speed.
        upper: whether the bound is only an upper one, so that nothing need be lost.
        is_impaired: whether a fault let replicas fall behind when it began.
        why: why there is no bound.
    """

    what: str
    node: str | None
    earliest: float
    begin: float
    end: float
    bound: int | None
    edges: int = 0
    scales: bool = False
    upper: bool = False
    is_impaired: bool = False
    why: str = ""


def loss_windows(history: History) -> list[LossWindow]:
    """Return the windows of a run: of its promotions, and of power that its primaries lost."""
    found = [
        _of_promotion(history, it, it.called if it.lost_at is None else it.lost_at)
        for it in history.compute(promotions)
        if it.lost_at is not None or it.requested
    ]
    everywhere = _power_lost_everywhere(history)
    found += [_of_power(history, it.begin, "power lost in all zones") for it in everywhere]
    for event in history.events("power-cut"):
        node, at = event.source, event.at
        dark = [it.begin for it in everywhere if it.end >= at]
        if node == primary_at(history, at) and not any(
            _was_away(history, node, at, until)
            for until in (*dark, *_successions(history, node, at))
        ):
            found.append(_of_power(history, at, f"power lost by {node}, which stayed the primary"))
    return found


def _successions(history: History, node: str, since: float) -> list[float]:
    """Return from when on nodes were to be promoted that followed a primary."""
    return [
        it.called if it.lost_at is None else it.lost_at
        for it in history.compute(promotions)
        if it.old == node and it.confirmed >= since
    ]


def _was_away(history: History, node: str, since: float, until: float) -> bool:
    """Return whether a node answered no beat in a time."""
    return not any(history.rows(_ANSWERED, node, since, until))


def _of_promotion(history: History, it: Promotion, lost_at: float) -> LossWindow:
    what = f"failover from {it.old} to {it.new}"
    death = None if it.old is None else death_before(history, it.old, it.confirmed)
    fence = fence_of(history, it)
    end = history.end_at if fence is None else fence.end
    cut = _impaired_since(history, it, lost_at)
    found = LossWindow(
        what, it.old, 0, 0, end, None, scales=death is None, is_impaired=cut is not None
    )
    offset = _applied_offset(history, it)
    passed = None if offset is None else _passed(history, it, offset)
    if passed is None:
        begin = lost_at - REPLICATION_DELAY if cut is None else cut
        why = "the offsets of both nodes are not known"
        return replace(found, earliest=begin, begin=begin, why=why)
    earliest, begin, upper = passed
    if any(history.rows(_UNNAMED, it.confirmed, end)):
        why = "the client does not tell which of two primaries acknowledged a write"
        return replace(found, earliest=earliest, begin=begin, why=why)
    return replace(
        found,
        earliest=earliest,
        begin=begin,
        bound=ledger_writes(history, Span(begin, end), it.old),
        edges=_edges(history, (begin, end), it.old),
        upper=upper,
    )


def _applied_offset(history: History, it: Promotion) -> float | None:
    """Return the offset up to which the promoted node had its predecessor's writes."""
    for event in history.events("lost"):
        offsets = event.data.get("offsets")
        if offsets and event.source == it.old and abs(event.at - it.confirmed) < 1:
            return float(offsets[0])
    last: Sample | None = None
    for sample in history.samples("offset", it.new):
        if sample.at < it.called:
            last = sample
    return None if last is None else last.value


def _passed(history: History, it: Promotion, offset: float) -> tuple[float, float, bool] | None:
    """Return when the failed primary passed an offset.

    Returns:
        The last time at which it was seen not to have passed it; the estimated time, at the same
        share of the way between two readings as the offset is; and whether it was never seen to
        have passed it.
    """
    if it.old is None:
        return None
    before: Sample | None = None
    for sample in history.samples("offset", it.old):
        if sample.at > it.confirmed:
            break
        if sample.value > offset:
            if before is None:
                return None
            share = (offset - before.value) / (sample.value - before.value)
            return before.at, before.at + share * (sample.at - before.at), False
        before = sample
    # What it acknowledged after the last reading may have reached the replica, or not.
    return None if before is None else (before.at, before.at, True)


def _impaired_since(history: History, it: Promotion, lost_at: float) -> float | None:
    """Return since when a fault let replicas fall behind when the primary was lost, if one did.

    One by which it was lost is none. In its first second a replica falls no further behind than it
    may be without a fault.
    """
    found = [
        step.begin_call
        for step in history.compute(applied)
        if step.fault.get("fault") in IMPAIRING and step.begin_call is not None
        if step.begin_call <= lost_at - REPLICATION_DELAY
        if step.end_call is None or step.end_call > lost_at
        if {it.old, it.new} & nodes_of(history, step.fault)
    ]
    return min(found, default=None)


def _power_lost_everywhere(history: History) -> list[Span]:
    """Return the spans in which all Redis nodes were without power."""
    redis = {sample.node for sample in history.samples("role")}
    steps = [it for it in history.compute(applied) if it.fault.get("fault") == "az-power"]
    found: list[Span] = []
    for last in steps:
        begin = last.begin_call if last.begin_confirmed is None else last.begin_confirmed
        if begin is None:
            continue
        dark = {
            node
            for step in steps
            if step.begin_call is not None and step.begin_call <= begin
            if step.end_call is None or step.end_call > begin
            for node in nodes_of(history, step.fault)
        }
        if redis and redis <= dark and not any(span.end >= begin for span in found):
            end = history.end_at if last.end_call is None else last.end_call
            found.append(Span(begin, end))
    return found


def _of_power(history: History, at: float, what: str) -> LossWindow:
    node = primary_at(history, at)
    synced = [it.value for it in history.samples("fsynced_at", node) if it.value <= at]
    if not synced:
        begin = at - 2
        why = "the last completed fsync is not known"
        return LossWindow(what, node, begin, begin, at, None, why=why)
    begin = max(synced)
    bound = ledger_writes(history, Span(begin, at), node)
    return LossWindow(what, node, begin, begin, at, bound, _edges(history, (begin, at), node))


def ledger_writes(history: History, span: Span, node: str | None) -> int:
    """Return how many ledger writes a node acknowledged in a span."""
    [(count,)] = history.rows(_LEDGER, span.begin, span.end, node, node)
    return int(count)


def _edges(history: History, edges: tuple[float, float], node: str | None) -> int:
    eps = history.eps
    return sum(ledger_writes(history, Span(at - eps, at + eps), node) for at in edges)
