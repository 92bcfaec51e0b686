"""Outages split into their parts: detection, promotion, and the client's own tail.

An outage of a failover goes from its first bad operation to the begin of the promotion (detection),
from there until the new primary was seen to take writes (promotion), and from there to its end (the
client's tail). Detection and promotion are the control plane's, in production time. The tail is
real: at a speed above 1 it is anything from nothing to what the time scale allows. An outage that
no failover explains is split at the heal of its fault.
"""

from collections.abc import Iterator

from cachesim.history.outages import Outage
from cachesim.history.reader import History
from cachesim.scenarios.checkers.faults import applied
from cachesim.scenarios.checkers.promotions import Promotion, promotions
from cachesim.scenarios.checkers.survey import OperationClass, survey
from cachesim.scenarios.checkers.time_scale import INFINITE
from cachesim.scenarios.report import figures
from cachesim.scenarios.report.record import Interval, Split, SplitPart

SHORT = 1.0
"""Seconds of a client's tail that are hardly worth an effort."""


def splits(history: History, origin: float) -> list[Split]:
    """Return the longest outage of each class, split.

    Args:
        origin: the time that `begin` and `end` of the result count from.
    """
    found = []
    for name, it in history.compute(survey).items():
        outages = [one for one in it.all.outages(history.end_at) if one.counts]
        if outages:
            longest = max(outages, key=lambda one: one.high)
            gap = it.all.gap(history.end_at)
            found.append(_split(history, name, longest, gap, origin))
    return sorted(found, key=lambda split: -_high(split.total))


def _split(
    history: History, name: OperationClass, outage: Outage, gap: float, origin: float
) -> Split:
    promotion = _promotion_in(history, outage) if _asks_redis(history, name) else None
    if promotion is not None:
        what = f"failover from {promotion.old} to {promotion.new}"
        parts = list(_of_failover(history, outage, promotion, gap))
    else:
        what, parts = _of_faults(history, outage, gap)
    lows = sum(part.length.low for part in parts)
    highs = [part.length.high for part in parts]
    total = Interval(low=lows, high=None if None in highs else sum(it or 0 for it in highs))
    return Split(
        name=str(name),
        what=what,
        begin=outage.begin - origin,
        end=outage.end - origin,
        parts=parts,
        total=total,
        shorten=_advice(parts),
    )


def _asks_redis(history: History, name: OperationClass) -> bool:
    """Return whether operations of a class go to Redis. They may if no node is known."""
    nodes = history.compute(survey)[name].nodes
    return not nodes or any(node.startswith("redis") for node in nodes)


def _promotion_in(history: History, outage: Outage) -> Promotion | None:
    """Return the promotion whose failover an outage overlaps, the last of them."""
    found = [
        it
        for it in history.compute(promotions)
        if it.lost_at is not None and outage.begin <= it.confirmed and outage.end >= it.lost_at
    ]
    return found[-1] if found else None


def _of_failover(
    history: History, outage: Outage, it: Promotion, gap: float
) -> Iterator[SplitPart]:
    begin = min(outage.begin, it.called)
    detection = (it.called - begin) * history.speed
    promotion = (it.confirmed - it.called) * history.speed
    yield SplitPart(
        name="detection",
        title="Detection",
        length=Interval(low=detection, high=detection),
        note="until the control plane held the primary for lost",
    )
    yield SplitPart(
        name="promotion",
        title="Promotion",
        length=Interval(low=promotion, high=promotion),
        note=f"until {it.new} took writes",
    )
    yield _tail(history, outage, it.confirmed, gap, f"until the clients used {it.new}")


def _tail(history: History, outage: Outage, since: float, gap: float, note: str) -> SplitPart:
    low = max(0.0, outage.last_bad - since)
    high: float | None = max(low, outage.end - since)
    if history.speed != 1:
        low = 0.0
        most = max(history.comeback + gap * history.speed, high or 0)
        high = None if most == INFINITE else most
    return SplitPart(
        name="client", title="Client's tail", length=Interval(low=low, high=high), note=note
    )


def _of_faults(history: History, outage: Outage, gap: float) -> tuple[str, list[SplitPart]]:
    """Split an outage at the last heal before its end."""
    during = [
        step
        for step in history.compute(applied)
        if step.begin_call is not None
        and step.begin_call <= outage.end
        and (step.end_confirmed or step.end_call or history.end_at) >= outage.begin
    ]
    if not during:
        note = "no fault was there: it is the client's, or the load generator's"
        return "no fault", [_tail(history, outage, outage.begin, gap, note)]
    what = " and ".join(f"{step.fault.get('fault')} on {step.target}" for step in during)
    healed = max(step.end_call or history.end_at for step in during)
    until = min(healed, outage.end)
    length = Interval(
        low=max(0.0, min(until, outage.last_bad) - outage.begin) * history.speed,
        high=(until - outage.before) * history.speed,
    )
    parts = [
        SplitPart(
            name="fault",
            title="While the fault was there",
            length=length,
            note="until its heal" if healed < outage.end else "the clients got around it",
        )
    ]
    if healed < outage.end:
        parts.append(_tail(history, outage, healed, gap, "after the heal"))
    return what, parts


def _advice(parts: list[SplitPart]) -> str:
    """Return which part to shorten."""
    longest = max(parts, key=lambda part: _high(part.length))
    tail = next((part for part in parts if part.name == "client"), None)
    told = f"{longest.title} is the longest part"
    if longest.name == "fault":
        told = "It lasted while the fault was there"
    if tail is None or _high(tail.length) < SHORT:
        plane = any(part.name == "promotion" for part in parts)
        if not plane:
            return f"{told}, or until the clients got around it: bound the time of a call."
        return (
            f"{told}, and ElastiCache's: the client can only bridge it, with answers that need no "
            "write."
        )
    size = figures.interval(tail.length.low, tail.length.high, "s")
    if tail is longest:
        return f"Shorten the client's tail, {size}: it is the longest part, and the client's own."
    return f"{told}. The client's own part is its tail, {size}: shorten that."


def _high(length: Interval) -> float:
    return INFINITE if length.high is None else length.high
