"""The effects of some faults, as beats and samples show them: data, memory, places, answers.

Each function returns whether an effect was there in a span. None: the history does not tell.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from cachesim.history.reader import History, Span
from cachesim.history.rows import SampleName

Effect = Callable[[History, Mapping[str, Any], Collection[str], Span], bool | None]
"""Returns whether an effect was there: of a fault in its JSON form, on nodes, in a span."""

LATE = 0.5
"""The share of the mean delay from which an answer is late. Delays are even up to twice the mean,
so three of four that are late come later than that."""
LOSS_LEAST, LOSS_MOST = 0.4, 2.5
ENOUGH = 5
"""So many late answers have to be expected, so that a share tells."""
BUSIER = 0.5
"""The share of the asked reads that a node has to serve, as a slow one serves fewer."""
SOON = 1.0
"""Seconds within which keys are gone."""
FULL = 0.8
"""The share of what a node was to be filled to, as some of its memory is its own."""

_ANSWERS = """
SELECT start, end, ok FROM beats
WHERE node = ? AND kind = 'read' AND start >= ? AND start <= ? ORDER BY start
"""


def has_loss(
    history: History, fault: Mapping[str, Any], nodes: Collection[str], span: Span
) -> bool | None:
    """Return whether as many answers to beats came late as a loss of both directions makes late."""
    if history.baseline is None:
        return None
    expected = (1 - LATE / 2) * (1 - (1 - fault["share"]) ** 2)
    limit = LATE * fault["ms"] / 1000
    late = total = before = calm = 0
    for node in nodes:
        usual = _took(history, node, history.baseline)
        if not usual:
            continue
        bound = median(usual) + limit
        during = _first_late([it > bound for it in _took(history, node, span)])
        late, total = late + sum(during), total + len(during)
        ever = _first_late([it > bound for it in usual])
        before, calm = before + sum(ever), calm + len(ever)
    if not calm or expected * total < ENOUGH:
        return None
    share = late / total - before / calm
    return bool(LOSS_LEAST * expected <= share <= LOSS_MOST * expected)


def _first_late(late: Sequence[bool]) -> list[bool]:
    """Return which answers are late of those that do not wait behind another late one."""
    return [now for last, now in pairwise([False, *late]) if not last]


def _took(history: History, node: str, span: Span) -> list[float]:
    """Return how long the answers took; one that never came took for ever."""
    return [
        end - start if ok and end is not None else float("inf")
        for start, end, ok in history.rows(_ANSWERS, node, *span)
    ]


def has_full_memory(
    history: History, fault: Mapping[str, Any], nodes: Collection[str], span: Span
) -> bool | None:
    """Return whether each node's memory was in use as far as it was to be filled."""
    least = FULL * min(fault.get("to", 1.0), 1.0)

    def is_full(node: str) -> bool | None:
        limits = [(it.at, it.value) for it in history.samples("max_memory", node) if it.value]
        begins = [at for at, _ in limits]
        shares = [
            it.value / limits[position - 1][1]
            for it in history.samples("used_memory", node)
            if _within(span, it.at) and (position := bisect_right(begins, it.at))
        ]
        return max(shares) >= least if shares else None

    return _all(nodes, is_full)


def has_fewer_connections(
    history: History,
    fault: Mapping[str, Any],  # noqa: ARG001  # see `Effect`
    nodes: Collection[str],
    span: Span,
) -> bool | None:
    """Return whether each node took fewer connections than in the baseline."""

    def is_limited(node: str) -> bool | None:
        if history.baseline is None:
            return None
        before = _value(history, "max_connections", node, history.baseline.end)
        during = _value(history, "max_connections", node, span.end)
        return None if before is None or during is None else during < before

    return _all(nodes, is_limited)


def has_injected(
    history: History,
    fault: Mapping[str, Any],  # noqa: ARG001  # see `Effect`
    nodes: Collection[str],
    span: Span,
) -> bool | None:
    """Return whether a rule of a fault has worked on requests to one of the nodes."""

    def is_risen(node: str) -> bool | None:
        before = _value(history, "injected_answers", node, span.begin)
        after = _value(history, "injected_answers", node, span.end)
        return None if before is None or after is None else after > before

    told = [it for node in nodes if (it := is_risen(node)) is not None]
    return any(told) if told else None


def has_expired(
    history: History,
    fault: Mapping[str, Any],  # noqa: ARG001  # see `Effect`
    nodes: Collection[str],
    span: Span,
) -> bool | None:
    """Return whether more keys expired on each node just after the begin than just before."""

    def is_risen(node: str) -> bool | None:
        times = (span.begin - SOON, span.begin, span.begin + SOON)
        found = [_value(history, "expired_keys", node, at) for at in times]
        if None in found:
            return None
        earlier, begin, later = (it or 0.0 for it in found)
        return later - begin > begin - earlier

    return _all(nodes, is_risen)


def has_fewer_keys(
    history: History,
    fault: Mapping[str, Any],  # noqa: ARG001  # see `Effect`
    nodes: Collection[str],
    span: Span,
) -> bool | None:
    """Return whether each node had lost most of its keys just after the begin."""

    def is_emptied(node: str) -> bool | None:
        before = _value(history, "keys", node, span.begin)
        soon = Span(span.begin, span.begin + SOON)
        after = [it.value for it in history.samples("keys", node) if _within(soon, it.at)]
        return min(after) < before / 2 if before and after else None

    return _all(nodes, is_emptied)


def has_new_process(
    history: History,
    fault: Mapping[str, Any],  # noqa: ARG001  # see `Effect`
    nodes: Collection[str],
    span: Span,
) -> bool | None:
    """Return whether each node has another process than before: its counter has begun anew."""

    def is_new(node: str) -> bool | None:
        found = [it for it in history.samples("commands", node) if it.at <= span.end]
        later = [(a, b) for a, b in pairwise(found) if b.at >= span.begin]
        return any(b.value < a.value for a, b in later) if later else None

    return _all(nodes, is_new)


def is_read_more(
    history: History, fault: Mapping[str, Any], nodes: Collection[str], span: Span
) -> bool | None:
    """Return whether each node served more requests a second than in the baseline.

    By half of the fault's rate.
    """

    def is_busier(node: str) -> bool | None:
        before = history.baseline and _rate(history, node, history.baseline)
        during = _rate(history, node, span)
        if before is None or during is None:
            return None
        return bool(during >= before + BUSIER * fault.get("rate", 0))

    return _all(nodes, is_busier)


def _rate(history: History, node: str, span: Span) -> float | None:
    """Return how many requests a node served in a second, from its counter."""
    found = [it for it in history.samples("commands", node) if _within(span, it.at)]
    if len(found) < 2 or found[-1].value < found[0].value:  # a new process counts from 0
        return None
    return (found[-1].value - found[0].value) / (found[-1].at - found[0].at)


def _all(nodes: Collection[str], holds: Callable[[str], bool | None]) -> bool | None:
    told = [it for node in nodes if (it := holds(node)) is not None]
    return all(told) if told else None


def _within(span: Span, at: float) -> bool:
    return span.begin <= at <= span.end


def _value(history: History, name: SampleName, node: str, at: float) -> float | None:
    """Return the last reading until a time. A value that stays is read once."""
    found = [it.value for it in history.samples(name, node) if it.at <= at]
    return found[-1] if found else None
