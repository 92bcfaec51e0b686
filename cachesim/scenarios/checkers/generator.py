"""Gate: the generator of the workload was fit.

Rule: an operation that began more than 50 ms after it was due, while its pod had an idle worker, is
late through the generator. So is a whole pod whose thread that wakes every 10 ms was late by more
than a quarter of the deadline for more than 1 % of the time. So is what was due while the topology
itself stood still, by the control plane's own witness: nothing answered it, not even Toxiproxy.
That all workers of a pod are busy inside calls is the client's behaviour, and counts.

A hold that was cut is time in which it kept its schedule, as right before it.

Unknown: unavailability, error budget, recovery and connection storm, where what decides them lies
in a span that the generator spoiled; and the whole run, if more than 1 % of it is.
"""

import heapq
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from cachesim.history.reader import History, Span
from cachesim.scenarios.checkers.survey import begin_of
from cachesim.scenarios.verdict import Result, Verdict, unknown

NAME = "generator"
LATE = 0.05
"""Seconds."""
SPOILED_SHARE = 0.01

_LATE_OPERATIONS = """
SELECT pod, due, start FROM operations WHERE start - due > ? AND due >= ? ORDER BY due
"""


class _Idle:
    """How many idle workers a pod had when."""

    def __init__(self) -> None:
        self._at = array("d")
        self._idle = array("l")

    def add(self, at: float, idle: int) -> None:
        self._at.append(at)
        self._idle.append(idle)

    def between(self, begin: float, end: float) -> bool:
        """Return whether every look from one time to another found an idle worker.

        Without a look in between, the last one before tells: a pod that did not run did not look.
        """
        first, last = bisect_left(self._at, begin), bisect_right(self._at, end)
        seen = self._idle[first:last] or self._idle[max(first - 1, 0) : first]
        return bool(seen) and min(seen) > 0


def _idle_workers(history: History) -> dict[str, _Idle]:
    """Return the idle workers of each pod."""
    pods: dict[str, _Idle] = {}
    for reading in history.generator():
        pods.setdefault(reading.pod, _Idle()).add(reading.at, reading.idle)
    return pods


def had_idle_worker(history: History, pod: str, begin: float, end: float) -> bool:
    """Return whether a pod had an idle worker all the time, as far as it is known."""
    pods = history.compute(_idle_workers)
    return pod in pods and pods[pod].between(begin, end)


def spoiled(history: History) -> list[Span]:
    """Return the spans in which operations were late through the generator, in their order."""
    late = (
        Span(due, start)
        for pod, due, start in history.rows(_LATE_OPERATIONS, LATE, begin_of(history))
        if had_idle_worker(history, pod, due, start)
    )
    return union(heapq.merge(late, history.compute(standstills)))


def standstills(history: History) -> list[Span]:
    """Return the spans in which nothing of the topology answered, in their order."""
    begin = begin_of(history)
    found = [
        Span(event.at - float(event.data.get("seconds", 0)), event.at)
        for event in history.events("standstill")
    ]
    return sorted(span for span in found if span.end >= begin)


def union(spans: Iterable[Span]) -> list[Span]:
    """Return the same time as spans that do not overlap.

    Args:
        spans: by their begin.
    """
    found: list[Span] = []
    for span in spans:
        if found and span.begin <= found[-1].end:
            found[-1] = Span(found[-1].begin, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def _length(history: History) -> float:
    """Return how long the run would have been without cuts, in seconds."""
    return max(history.end_at - begin_of(history), 1e-9) + history.cut_within()


def lag_shares(history: History) -> dict[str, float]:
    """Return the share of the time for which each pod's thread was too late."""
    length = _length(history)
    late: dict[str, float] = {}
    for reading in history.generator():
        is_late = reading.at >= begin_of(history) and reading.lag > history.deadline / 4
        late[reading.pod] = late.get(reading.pod, 0.0) + (reading.lag if is_late else 0.0)
    return {pod: seconds / length for pod, seconds in late.items()}


def check(history: History) -> Verdict:
    """Return whether the generator was fit for the run as a whole."""
    shares = history.compute(lag_shares)
    spans = history.compute(spoiled)
    share = sum(span.end - span.begin for span in spans) / _length(history)
    details = {"lag_shares": shares, "spoiled": [list(span) for span in spans[:100]]}
    codes = history.meta.get("exit_codes") or {}
    dead = {pod: f"{pod} ended with exit code {code}" for pod, code in codes.items() if code}
    dead |= {pod: f"{pod} was {what}" for pod, what in (history.meta.get("dead") or {}).items()}
    if dead:
        reason = "; ".join(dead.values())
        return unknown(NAME, f"not all pods lived: {reason}", details=details)
    if not shares:
        return unknown(NAME, "it was not watched", details=details)
    if (missing := (history.meta.get("pods") or 0) - len(shares)) > 0:
        return unknown(NAME, f"{missing} of its pods were not watched", details=details)
    pod = max(shares, key=lambda name: shares[name])
    worst = max(share, shares[pod])
    result = Result.PASS if worst <= SPOILED_SHARE else Result.UNKNOWN
    reason = "it kept its schedule"
    if shares[pod] > SPOILED_SHARE:
        reason = f"pod {pod} did not get its processor for {shares[pod]:.1%} of the time"
    elif share > SPOILED_SHARE:
        reason = f"operations began late although workers were idle, for {share:.1%} of the time"
        if history.compute(standstills):
            reason = f"the machine was too busy, for {share:.1%} of the time"
    return Verdict(NAME, result, worst, worst, "share", SPOILED_SHARE, reason, details)


def why_unfit(history: History, begin: float, end: float) -> str | None:
    """Return why the generator decides what happened in a span, or None if it does not."""
    whole = history.compute(check)
    if whole.result is not Result.PASS:
        return f"the generator: {whole.reason}"
    for span in history.compute(spoiled):
        if span.begin <= end and span.end >= begin:
            return "the generator began operations late although workers were idle"
    return None


def longest_fit(history: History, begin: float, end: float) -> float:
    """Return the longest part of a span in which the generator decides nothing, in seconds."""
    if history.compute(check).result is not Result.PASS:
        return 0.0
    longest = 0.0
    for span in history.compute(spoiled):
        if begin <= span.end and span.begin <= end:
            longest = max(longest, span.begin - begin)
            begin = span.end
    return max(longest, end - begin)
