"""Outages split into their parts: detection, promotion, and the client's own tail.

The longest outage of each class is split, as the verdict on unavailability has it. One of a
failover goes from its first bad operation to the begin of the promotion (detection), from there
until the new primary was seen to take writes (promotion), and from there to its end (the client's
tail). Detection and promotion are the control plane's, in production time. One that no failover
explains is split at the heal of its fault.

At a speed above 1 the tail is not measured: it is anything up to what the time scale allows.
"""

from collections.abc import Iterator

from cachesim.history.outages import Outage
from cachesim.history.reader import History
from cachesim.scenarios.checkers.faults import applied
from cachesim.scenarios.checkers.promotions import Promotion, promotions
from cachesim.scenarios.checkers.survey import OperationClass, survey
from cachesim.scenarios.checkers.time_scale import INFINITE, Window, compressed
from cachesim.scenarios.checkers.unavailability import Figure, figures_of
from cachesim.scenarios.report import figures
from cachesim.scenarios.report.record import Interval, Split, SplitPart
from cachesim.scenarios.report.services import main_classes

MOST = 0.5
"""The share of bad operations that were never begun from which the workers made the outage."""
SHORT = 1.0
"""Seconds of a client's tail that are hardly worth an effort."""
_NEAR = 1e-6


def splits(history: History, origin: float) -> list[Split]:
    """Return the longest outage of each class, split, the longest first.

    Args:
        origin: the time that `begin` and `end` of the result count from.
    """
    found = []
    for name in main_classes(history):
        every, *_ = figures_of(history, name)
        longest = max(every, key=lambda it: it.high, default=None)
        if longest is not None and longest.high > 0:
            found.append(_split(history, name, longest, origin))
    return sorted(found, key=lambda split: -_high(split.total))


def _split(history: History, name: OperationClass, it: Figure, origin: float) -> Split:
    window = next((w for w in history.compute(compressed) if _is_of(it, w)), None)
    if window is not None:
        what, parts = _of_window(history, window, it)
    else:
        track = history.compute(survey)[name].all
        outage = next(o for o in track.outages(history.end_at) if abs(o.begin - it.begin) < _NEAR)
        what, parts = _of_outage(history, name, outage)
    return Split(
        name=str(name),
        what=what,
        begin=it.begin - origin,
        end=it.end - origin,
        parts=parts,
        total=Interval.of(it.low, it.high),
        shorten=_advice(history, name, parts),
    )


def _is_of(it: Figure, window: Window) -> bool:
    return it.what == window.what and abs(it.begin - window.begin) < _NEAR


# --- at a speed -------------------------------------------------------------------------------


def _of_window(history: History, it: Window, figure: Figure) -> tuple[str, list[SplitPart]]:
    """Split a window that the speed compressed: only the client's tail is not known."""
    promotion = next(
        (p for p in history.compute(promotions) if abs(p.confirmed - it.end) < _NEAR), None
    )
    tail = _part("client", 0.0, figure.high - it.production, "not measured at a speed")
    if promotion is None:
        held = _part("fault", figure.low, it.production, "until its heal")
        return it.what, [held, tail]
    share = (promotion.called - it.begin) / max(it.end - it.begin, _NEAR)
    detection = it.production * min(max(share, 0), 1)
    return it.what, [*_plane(promotion, detection, it.production - detection), tail]


# --- as measured ------------------------------------------------------------------------------


def _of_outage(
    history: History, name: OperationClass, outage: Outage
) -> tuple[str, list[SplitPart]]:
    promotion = _promotion_in(history, outage) if _asks_redis(history, name) else None
    if promotion is not None:
        since = promotion.confirmed
        detection = max(0.0, promotion.called - outage.begin)
        # What was due just before the end of a failover may have waited for it.
        length = max(0.0, min(since, outage.end) - promotion.called)
        note = f"until the clients used {promotion.new}"
        parts = [
            *_plane(promotion, detection, length),
            _tail(outage, since, note),
        ]
        return f"failover from {promotion.old} to {promotion.new}", parts
    during = [
        step
        for step in history.compute(applied)
        if step.begin_call is not None
        and step.begin_call <= outage.end
        and (step.end_confirmed or step.end_call or history.end_at) >= outage.begin
    ]
    if not during:
        note = "no fault was there: it is the client's, or the load generator's"
        return "no fault", [_tail(outage, outage.begin, note)]
    what = " and ".join(f"{step.fault.get('fault')} on {step.target}" for step in during)
    healed = max(step.end_call or history.end_at for step in during)
    if healed >= outage.end:
        return what, [_part("fault", outage.low, outage.high, "until the clients got around it")]
    held = max(0.0, healed - outage.begin)
    return what, [
        _part("fault", held, held, "until its heal"),
        _tail(outage, max(healed, outage.begin), "after the heal"),
    ]


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


# --- parts ------------------------------------------------------------------------------------

_TITLES = {
    "detection": "Detection",
    "promotion": "Promotion",
    "fault": "While the fault was there",
    "client": "Client's tail",
}


def _plane(it: Promotion, detection: float, promotion: float) -> Iterator[SplitPart]:
    note = "until the control plane held the primary for lost"
    yield _part("detection", detection, detection, note)
    yield _part("promotion", promotion, promotion, f"until {it.new} took writes")


def _tail(outage: Outage, since: float, note: str) -> SplitPart:
    low = max(0.0, outage.last_bad - since)
    return _part("client", low, max(low, outage.end - since), note)


def _part(name: str, low: float, high: float, note: str) -> SplitPart:
    length = Interval.of(max(0.0, low), max(0.0, high))
    return SplitPart.model_validate(
        {"name": name, "title": _TITLES[name], "length": length, "note": note}
    )


def _advice(history: History, name: OperationClass, parts: list[SplitPart]) -> str:
    """Return which part to shorten."""
    longest = max(parts, key=lambda part: _high(part.length))
    told = "The fault itself" if longest.name == "fault" else longest.title
    tail = next((part for part in parts if part.name == "client"), None)
    is_failover = any(part.name == "promotion" for part in parts)
    if tail is not None and history.speed != 1 and longest.name != "client":
        return f"{told} is the longest part, whatever the client's tail is."
    if tail is not None and history.speed != 1:
        return (
            f"At speed {history.speed:g} the client's tail is not measured: at most it is the "
            "comeback that the client declares. `--speed 1` or `--quiet-cut` measures it."
        )
    if tail is None or _high(tail.length) < SHORT:
        found = history.compute(survey)[name]
        if not is_failover and found.errors["shed"] > MOST * found.all.bad:
            return (
                "Most of it was never begun, as all workers of the pods waited in calls: shorten "
                "the calls, or give it workers of its own."
            )
        if not is_failover:
            return "It lasted until the clients got around the fault: bound the time of a call."
        return (
            f"{told} is the longest part, and ElastiCache's: the client can only bridge "
            "it, with answers that need no write."
        )
    size = figures.interval(tail.length.low, tail.length.high, "s")
    if tail is longest:
        return f"Shorten the client's tail, {size}: it is the longest part, and the client's own."
    return f"{told} is the longest part. The client's own is its tail, {size}: shorten it."


def _high(length: Interval) -> float:
    return INFINITE if length.high is None else length.high
