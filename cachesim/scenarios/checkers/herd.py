"""Herd: how hard the origin was hit, when the cache did not answer for it.

Rule: from the loads of the origin after the baseline: the most loads of one key that were under way
at once (`same_key`), the most that began within a second (`loads`), and how many it refused
(`refused`), as they were beyond its capacity. The details have them for the baseline too. A client
that loads what many ask for at once as often as they ask is a hot herd: three or more at once.

Bound: what the scenario expects of each.

Unknown: no load was recorded; loads take no time, so that none can be under way at once; windows
were compressed by the speed; a hold was cut, in which more would have expired, unless it fails; the
generator was unfit (see `generator`).
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cachesim.history.reader import History
from cachesim.history.rows import ORIGIN
from cachesim.scenarios.checkers import generator
from cachesim.scenarios.checkers.resolution import why_ttls_were_cut
from cachesim.scenarios.checkers.survey import begin_of
from cachesim.scenarios.checkers.time_scale import compressed
from cachesim.scenarios.verdict import Result, Verdict, against, unknown

NAME = "herd"
SECOND = 1.0
LEAST = 0.001
"""Seconds that a load has to take at least, so that two can be under way at once."""

_LOADS = """
SELECT key, start, coalesce(end, ?) FROM operations
WHERE service = ? AND kind = 'read' AND outcome NOT IN ('fail', 'shed') AND due >= ? AND due < ?
ORDER BY key, start
"""
_BEGINS = """
SELECT start FROM operations
WHERE service = ? AND kind = 'read' AND outcome != 'shed' AND due >= ? AND due < ? ORDER BY start
"""
_REFUSED = """
SELECT count(*) FROM operations
WHERE service = ? AND kind = 'read' AND outcome = 'fail' AND due >= ? AND due < ?
"""


@dataclass(frozen=True)
class Expectation:
    """What is expected of the clients. None: nothing.

    Attributes:
        same_key: the most loads of one key at once.
        loads: the most loads that begin within a second.
        refused: the most loads that the origin refuses.
    """

    same_key: int | None = None
    loads: float | None = None
    refused: int | None = None

    @property
    def name(self) -> str:
        """The name of the verdict."""
        return NAME


@dataclass(frozen=True)
class Loads:
    """The loads of a span.

    Attributes:
        count: all of them, those refused too.
        same_key: the most of one key that were under way at once.
        key: that key.
        peak: the most that began within a second.
        refused: how many the origin refused.
        longest: the longest, in seconds.
    """

    count: int
    same_key: int
    key: str
    peak: int
    refused: int
    longest: float


def loads_of(history: History, begin: float, end: float) -> Loads:
    """Return the loads that were due from one time to another."""
    rows = list(history.rows(_LOADS, history.end_at, ORIGIN, begin, end))
    most, key = max(_at_once(rows), default=(0, ""))
    begins = [at for (at,) in history.rows(_BEGINS, ORIGIN, begin, end)]
    [(refused,)] = history.rows(_REFUSED, ORIGIN, begin, end)
    longest = max((ended - start for _, start, ended in rows), default=0.0)
    return Loads(len(begins), most, key, _peak(begins), refused, longest)


def _at_once(rows: Iterable[tuple[str, float, float]]) -> Iterator[tuple[int, str]]:
    """Yield how many loads of a key are under way when one more begins."""
    last, ends = "", list[float]()
    for key, start, end in rows:
        if key != last:
            last, ends = key, []
        while ends and ends[0] <= start:
            heapq.heappop(ends)
        heapq.heappush(ends, end)
        yield len(ends), key


def _peak(begins: list[float]) -> int:
    first = peak = 0
    for position, at in enumerate(begins):
        while begins[first] <= at - SECOND:
            first += 1
        peak = max(peak, position - first + 1)
    return peak


def check(history: History, expectation: Expectation) -> Verdict:
    """Return the verdict on the loads of the origin."""
    baseline = history.baseline
    since = baseline.end if baseline else begin_of(history)
    found = loads_of(history, since, float("inf"))
    details: dict[str, Any] = _shown(found)
    if baseline:
        details["baseline"] = _shown(loads_of(history, *baseline))
    if not found.count:
        return unknown(NAME, "no load of the origin was recorded", details=details)
    parts = [
        (expectation.same_key, found.same_key, "loads at once", f"of {found.key}"),
        (expectation.loads, found.peak, "loads/s", ""),
        (expectation.refused, found.refused, "loads", "refused"),
    ]
    verdicts = []
    for threshold, figure, unit, what in parts:
        if threshold is not None:
            it = against(NAME, figure, figure, unit, threshold, details=details)
            reason = f"{figure} {unit} {what}".rstrip() + f", {it.reason}"
            verdicts.append(
                Verdict(NAME, it.result, it.low, it.high, unit, threshold, reason, details)
            )
    shape: dict[str, Any] = {"low": found.same_key, "high": found.same_key}
    shape |= {"unit": "loads at once", "details": details}
    if not verdicts:
        return Verdict(NAME, Result.PASS, reason="nothing is expected", **shape)
    order = (Result.FAIL, Result.UNKNOWN, Result.PASS)
    worst = min(verdicts, key=lambda verdict: order.index(verdict.result))
    why = _why_unknown(history, expectation, found)
    if worst.result is not Result.FAIL:
        why = why or why_ttls_were_cut(history)
    if why:
        shape = {"low": worst.low, "high": worst.high, "unit": worst.unit}
        return unknown(NAME, why, threshold=worst.threshold, details=details, **shape)
    return worst


def _shown(loads: Loads) -> dict[str, Any]:
    return {
        "loads": loads.count,
        "same_key": loads.same_key,
        "key": loads.key,
        "peak": loads.peak,
        "refused": loads.refused,
    }


def _why_unknown(history: History, expectation: Expectation, found: Loads) -> str | None:
    if history.compute(compressed):
        return "windows were compressed; --speed 1 settles it"
    fit = history.compute(generator.check)
    if fit.result is not Result.PASS:
        return f"the generator: {fit.reason}"
    is_served = found.count > found.refused
    if expectation.same_key is not None and is_served and found.longest < LEAST:
        return "loads take no time, so none can be under way at once"
    return None
