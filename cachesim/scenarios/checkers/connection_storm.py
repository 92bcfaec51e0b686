"""Connection storm: how many connections the clients opened at once, and whether they closed them.

Rule: from the servers' own counters, without cachesim's connections, after the baseline: the most
connections that one node accepted within a second, the most that were open on one node, and how
many are open after recovery. The first two are scaled to the architecture, 50 pods with pools of
10, if the run tells its pods and pool; the details have both. A leak is more than 1.1 times the
baseline's open connections plus one a pod, on all nodes of the baseline together, at the end of a
run that has recovered: it fails. Nodes that were added since need connections of their own, and
those that were removed have none.

Bound: what the scenario expects, `max`, in new connections a second on one node.

Unknown: the run has not recovered, or a node told nothing in its last 2 s, so that a leak can't be
told; counters were not sampled; the generator's processors were busy in that second, so that the
peak is a lower bound; or, for `max`, windows were compressed by the speed, or the generator was
unfit then (see `generator`).
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from cachesim.history.reader import History
from cachesim.history.rows import SampleName
from cachesim.scenarios.checkers.faults import removed
from cachesim.scenarios.checkers.generator import why_unfit
from cachesim.scenarios.checkers.recovery import measure
from cachesim.scenarios.checkers.time_scale import compressed
from cachesim.scenarios.verdict import Result, Verdict, against, unknown

NAME = "connection_storm"
PODS, POOL = 50, 10
"""What production has."""
CONNECTIONS_LIMIT = 65_000
"""Connections that a node takes."""
LEAK_FACTOR = 1.1
SECOND = 1.0
QUIET = 2.0
"""Seconds before the end in which connections count as left open."""
BUSY = 0.8
"""The share of a processor from which a pod may have been too slow to open more."""

Series = list[tuple[float, float]]


@dataclass(frozen=True)
class Expectation:
    """What is expected of the clients. A leak always fails.

    Attributes:
        max: the most new connections of a second on one node, scaled. None: any number.
    """

    max: float | None = None

    @property
    def name(self) -> str:
        """The name of the verdict."""
        return NAME


@dataclass(frozen=True)
class Peak:
    """The most connections that a node accepted within a second.

    Attributes:
        low, high: from the least to the most: readings are some time apart.
        begin, end: the second, in monotonic seconds.
    """

    low: float = 0
    high: float = 0
    begin: float = 0
    end: float = 0


def check(history: History, expectation: Expectation) -> Verdict:
    """Return the verdict on new connections and on those left open."""
    received = _series(history, "connections_received")
    opened = _series(history, "connections")
    if history.baseline is None or not received or not _of_baseline(history, opened):
        return unknown(NAME, "the servers' connections were not sampled, or there is no baseline")
    since = history.baseline.end
    peaks = {
        node: peak_of(_since(since, series), _new_processes(history, node))
        for node, series in received.items()
    }
    node = max(peaks, key=lambda name: peaks[name].high)
    peak = peaks[node]
    factor = _factor(history)
    most = max((value for s in opened.values() for at, value in s if at >= since), default=0)
    low, high = peak.low * factor, peak.high * factor
    busy = _was_busy(history, peak)
    if busy:
        high = float("inf")
    before, left, leak = _left_open(history, opened)
    details: dict[str, Any] = {
        "node": node,
        "peak": [peak.low, peak.high],
        "factor": factor,
        "peak_open": most,
        "share_of_limit": most * factor / CONNECTIONS_LIMIT,
        "open_in_baseline": before,
        "left_open": left,
    }
    shape: dict[str, Any] = {"low": low, "high": high, "unit": "connections/s"}
    shape |= {"threshold": expectation.max, "details": details}
    recovered = history.compute(measure)
    has_recovered = recovered.steady is not None and recovered.steady.end <= history.end_at - QUIET
    if has_recovered and left > leak:
        reason = f"{left:g} connections are left open, {before:g} were in the baseline"
        return Verdict(NAME, Result.FAIL, reason=reason, **shape)
    if expectation.max is not None:
        settle = "the generator's processors were busy in the second of the peak" if busy else ""
        verdict = against(NAME, low, high, "connections/s", expectation.max, settle, details)
        if history.compute(compressed):
            return unknown(NAME, "windows were compressed; --speed 1 settles it", **shape)
        if unfit := why_unfit(history, peak.begin, peak.end):
            return unknown(NAME, unfit, **shape)
        if verdict.result is not Result.PASS:
            return verdict
    unread = [it for it in _to_compare(history, opened) if not _last(history, opened[it])]
    if unread:
        reason = f"a leak can't be told: {' and '.join(sorted(unread))} did not answer in the end"
        return unknown(NAME, reason, **shape)
    if not has_recovered:
        return unknown(NAME, "a leak can't be told: the run has not recovered", **shape)
    return Verdict(NAME, Result.PASS, reason="no connection is left open", **shape)


def _series(history: History, name: SampleName) -> dict[str, Series]:
    found: dict[str, Series] = defaultdict(list)
    for sample in history.samples(name):
        found[sample.node].append((sample.at, sample.value))
    return dict(found)


def _since(begin: float, series: Series) -> Series:
    """Return the readings since a time; those of a node that is added later begin with none."""
    added = [(begin, 0.0)] if series[0][0] > begin + SECOND else []
    return [*added, *(it for it in series if it[0] >= begin)]


def _new_processes(history: History, node: str) -> frozenset[float]:
    """Return the times of the first readings of new processes.

    Of its connections a new process may have accepted more than the one before it. It has not
    served as many requests.
    """
    return frozenset(
        b.at for a, b in pairwise(history.samples("commands", node)) if b.value < a.value
    )


def peak_of(readings: Series, new: Collection[float] = ()) -> Peak:
    """Return the most that a counter rose within a second.

    A counter that fell began anew with its process.

    Args:
        new: the times of readings of another process than the reading before.
    """
    at, total = [], []
    before, rise = None, 0.0
    for time, value in readings:
        if before is not None:
            rise += value - before if value >= before and time not in new else value
        before = value
        at.append(time)
        total.append(rise)
    low, best = 0.0, Peak()
    for first in range(len(at) - 1):
        # What two readings at most a second apart tell is surely in one second.
        inside = bisect_right(at, at[first] + SECOND) - 1
        low = max(low, total[inside] - total[first])
        # A second that begins before the next reading ends before this one.
        around = min(bisect_left(at, at[first + 1] + SECOND), len(at) - 1)
        if total[around] - total[first] > best.high:
            best = Peak(0, total[around] - total[first], at[first], at[around])
    return replace(best, low=low)


def _factor(history: History) -> float:
    pods, pool = history.meta.get("pods"), history.meta.get("pool")
    return PODS * POOL / (pods * pool) if pods and pool else 1.0


def _was_busy(history: History, peak: Peak) -> bool:
    return any(
        reading.cpu > BUSY and peak.begin <= reading.at <= peak.end
        for reading in history.generator()
    )


def _of_baseline(history: History, opened: dict[str, Series]) -> dict[str, float]:
    """Return the most connections that were open in the baseline, of each node of then."""
    begin, end = history.baseline or (0.0, 0.0)
    found = {node: [it for at, it in s if begin <= at <= end] for node, s in opened.items()}
    return {node: max(values) for node, values in found.items() if values}


def _left_open(history: History, opened: dict[str, Series]) -> tuple[float, float, float]:
    """Return the open connections of the baseline and of the end, and from how many it is a leak.

    At the end, the fewest of the last seconds count: a connection that is being closed is no leak.
    Nodes without a reading in the baseline do not count, nor do those that were removed.
    """
    before = left = 0.0
    for node, most in _to_compare(history, opened).items():
        before += most
        left += min(_last(history, opened[node]), default=0.0)
    pods = history.meta.get("pods") or 0
    return before, left, LEAK_FACTOR * before + pods


def _to_compare(history: History, opened: dict[str, Series]) -> dict[str, float]:
    """Return the most open connections in the baseline of each node that was not removed since."""
    gone = history.compute(removed)
    return {node: it for node, it in _of_baseline(history, opened).items() if node not in gone}


def _last(history: History, series: Series) -> list[float]:
    """Return the readings just before the end. After it, the workload closes all that it has."""
    end = history.end_at
    return [value for at, value in series if end - QUIET <= at <= end]
