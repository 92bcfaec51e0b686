"""Hit rate: the share of a cache's reads that found something, where it was lowest.

Rule: a read that returned a version is a hit. All else is none: a miss, an error, a read that was
shed or never ended. Of all spans of 10 s, real, after the baseline, the one with the fewest hits
for its reads counts. The figure is the share that were no hits, and so is the threshold.

Bound: what the scenario expects, `min`, a share of 1. The interval is the share, two standard
deviations of a sample of so many reads less and more.

Unknown: no version was read even in the baseline; fewer than 100 reads in a span of 10 s; windows
were compressed by the speed; a hold was cut, so that TTLs passed less than in production; the
generator was unfit then (see `generator`); or the threshold lies inside the interval.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from cachesim.history.reader import History
from cachesim.scenarios.checkers.generator import why_unfit
from cachesim.scenarios.checkers.remap import around
from cachesim.scenarios.checkers.resolution import why_ttls_were_cut
from cachesim.scenarios.checkers.survey import OperationClass, survey
from cachesim.scenarios.checkers.time_scale import compressed
from cachesim.scenarios.verdict import Verdict, against, unknown

NAME = "hit_rate"
WINDOW = 10.0
"""Seconds, real."""
READS = 100

_READS = """
SELECT due, outcome = 'ok' AND read IS NOT NULL FROM operations
WHERE service = ? AND kind = 'read' AND due >= ? AND due <= ? ORDER BY due
"""


@dataclass(frozen=True)
class Expectation:
    """What is expected of a service.

    Attributes:
        service: its name.
        min: the lowest hit rate, from 0 to 1.
    """

    service: str
    min: float

    @property
    def name(self) -> str:
        """The name of the verdict."""
        return f"{NAME}: {self.service}"


class Lowest(NamedTuple):
    """The span with the lowest hit rate, and the fewest reads of any span."""

    misses: int
    reads: int
    begin: float
    end: float
    fewest: int


def check(history: History, expectation: Expectation) -> Verdict:
    """Return the verdict on the lowest hit rate of a service."""
    name = expectation.name
    before = history.compute(survey).get(OperationClass(expectation.service, "read"))
    if history.baseline is None or before is None or not before.baseline_hits:
        return unknown(name, "no version was read in the baseline")
    found = lowest(history, expectation.service, history.baseline.end)
    if found is None:
        return unknown(name, f"the run went on for less than {WINDOW:g} s")
    low, high = around(found.misses, max(found.reads, 1))
    details: dict[str, Any] = {
        "hit_rate": [1 - high, 1 - low],
        "expected": expectation.min,
        "begin": found.begin,
        "end": found.end,
        "reads": found.reads,
        "hit_rate_in_baseline": before.baseline_hits / max(before.baseline_due, 1),
    }
    threshold = 1 - expectation.min
    verdict = against(name, low, high, "share", threshold, details=details)
    reason = None
    if found.fewest < READS:
        reason = f"sampled too thinly: {found.fewest} reads in {WINDOW:g} s, {READS} are needed"
    elif history.compute(compressed):
        reason = "windows were compressed; --speed 1 settles it"
    reason = reason or why_ttls_were_cut(history)
    if reason := reason or why_unfit(history, found.begin, found.end):
        shape: dict[str, Any] = {"low": low, "high": high, "unit": "share"}
        return unknown(name, reason, threshold=threshold, details=details, **shape)
    return verdict


def lowest(history: History, service: str, begin: float) -> Lowest | None:
    """Return the span of `WINDOW` with the lowest hit rate. None: there is no whole one."""
    reads: deque[tuple[float, int]] = deque()
    hits, fewest = 0, None
    worst: Lowest | None = None
    for due, hit in history.rows(_READS, service, begin, history.end_at):
        reads.append((due, hit))
        hits += hit
        while reads[0][0] <= due - WINDOW:
            hits -= reads.popleft()[1]
        if due - begin < WINDOW:
            continue
        count = len(reads)
        fewest = count if fewest is None else min(fewest, count)
        misses = count - hits
        if worst is None or misses * worst.reads > worst.misses * count:
            worst = Lowest(misses, count, due - WINDOW, due, fewest)
    if worst is None or fewest is None:
        return None
    # Without reads at the end, nothing tells of it.
    last = sum(due > history.end_at - WINDOW for due, _ in reads)
    return worst._replace(fewest=min(fewest, last))
