"""The hit rate of a cache where it was lowest."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesim.history.rows import Operation, Outcome
from cachesim.scenarios.checkers import hit_rate
from cachesim.scenarios.checkers.hit_rate import Expectation, lowest
from cachesim.scenarios.verdict import Verdict
from tests.scenarios.histories import failover, history_of, operation, readings, times


def reads(
    begin: float, end: float, hits: float, outcome: Outcome = "ok", every: float = 0.05
) -> list[Operation]:
    """Return reads of which a share are hits, evenly."""
    return [
        operation(
            at,
            outcome,
            kind="read",
            service="api_cache",
            read=1 if int((n + 1) * hits) > int(n * hits) else None,
        )
        for n, at in enumerate(times(begin, end, every))
    ]


def verdict_on(rows: list[Any], least: float, **facts: Any) -> Verdict:
    """Return the verdict on a run."""
    with history_of([*rows, *readings(0, 100)], **facts) as history:
        return hit_rate.check(history, Expectation("api_cache", least))


DIP = [*reads(0, 40, 1), *reads(40, 60, 0.5), *reads(60, 100, 1)]


@pytest.mark.parametrize(
    ("least", "result"), [(0.4, "pass"), (0.45, "unknown"), (0.55, "unknown"), (0.6, "fail")]
)
def test_lowest(least: float, result: str) -> None:
    """The 10 s with the fewest hits count, with the interval of a sample of so many reads."""
    verdict = verdict_on(DIP, least)
    assert verdict.result == result
    assert verdict.details["hit_rate"] == pytest.approx([0.43, 0.57], abs=0.01)
    assert 39.9 <= verdict.details["begin"] <= 50
    assert (verdict.threshold, verdict.details["hit_rate_in_baseline"]) == (1 - least, 1)


@pytest.mark.parametrize("outcome", ["info", "fail", "shed"])
def test_errors_are_no_hits(outcome: Outcome) -> None:
    """A read without an answer is no hit."""
    rows = [*reads(0, 40, 1), *reads(40, 60, 1, outcome), *reads(60, 100, 1)]
    verdict = verdict_on(rows, 0.5)
    assert (verdict.result, verdict.low, verdict.high) == ("fail", 1, 1)


def test_the_baseline_does_not_count() -> None:
    """A cache that is cold in the baseline is that gate's matter."""
    rows = [*reads(0, 5, 0), *reads(5, 100, 1)]
    assert verdict_on(rows, 0.9).result == "pass"


def test_no_versions() -> None:
    """Without a version in the baseline, the reads do not tell."""
    verdict = verdict_on(reads(0, 100, 0), 0.1)
    assert (verdict.result, verdict.reason) == ("unknown", "no version was read in the baseline")


def test_few_reads() -> None:
    """Fewer than 100 reads in 10 s are too few."""
    verdict = verdict_on(reads(0, 100, 1, every=0.2), 0.5)
    assert (verdict.result, "sampled too thinly" in verdict.reason) == ("unknown", True)


@pytest.mark.parametrize(("until", "result"), [(100, "pass"), (40, "unknown")])
def test_reads_that_end_before_the_run(until: float, result: str) -> None:
    """A span without reads up to the end of the run decides nothing, as one within it."""
    assert verdict_on(reads(0, until, 1), 0.9).result == result


@pytest.mark.parametrize("least", [0.1, 0.9])
def test_at_a_speed_and_across_cuts(least: float) -> None:
    """Where windows were compressed or holds were cut, nothing is said."""
    verdict = verdict_on([*DIP, *failover(20, 21, speed=20)], least, speed=20)
    assert (verdict.result, "--speed 1 settles it" in verdict.reason) == ("unknown", True)
    verdict = verdict_on(DIP, least, cuts=[{"at": 50, "seconds": 100}])
    assert (verdict.result, "cut" in verdict.reason) == ("unknown", True)


def test_a_short_run() -> None:
    """A run of less than 10 s after the baseline is too short."""
    assert verdict_on(reads(0, 15, 1), 0.5, end_at=15.0).result == "unknown"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=60, unique=True))
def test_against_an_oracle(drawn: list[tuple[int, bool]]) -> None:
    """The lowest rate is that of counting in every span that ends with a read."""
    rows = [
        operation(at, kind="read", service="api_cache", read=1 if hit else None, key=f"{n}")
        for n, (at, hit) in enumerate(sorted(drawn))
    ]
    with history_of(rows, end_at=40.0) as history:
        found = lowest(history, "api_cache", 0.0)
    spans = []
    for n, (end, _) in enumerate(sorted(drawn)):
        inside = [hit for at, hit in sorted(drawn)[: n + 1] if at > end - 10]
        if end >= 10:
            spans.append(inside.count(False) / len(inside))
    assert (None if found is None else found.misses / found.reads) == max(spans, default=None)
