"""The gate before the first fault: long enough, enough operations, and steady."""

from typing import Any

import pytest

from cachesim.history.rows import ORIGIN, Row
from cachesim.scenarios.checkers import baseline, error_budget, herd, hit_rate, unavailability
from cachesim.scenarios.checkers.baseline import Steady
from cachesim.scenarios.verdict import Verdict
from tests.scenarios.histories import history_of, load, operation


def verdict_on(
    rows: list[Row], steady: Steady | None = None, expected: Any = (), **facts: Any
) -> Verdict:
    """Return the verdict on a baseline, from 0 to 10 s."""
    with history_of(rows, **facts) as history:
        return baseline.check(history, steady, expected)


def some_bad(bad: int, **more: Any) -> list[Row]:
    """Return 400 operations in the baseline, the last of them bad, and all after it."""
    begin = 10 - bad * 0.025
    rows: list[Row] = [*load(0, begin, 0.025, **more)]
    return [*rows, *load(begin, 100, 0.025, **(more | {"outcome": "fail"}))]


@pytest.mark.parametrize(
    ("rows", "facts", "result"),
    [
        (load(0, 10), {}, "pass"),
        (load(0, 9.95), {}, "unknown"),  # 199 operations
        ([*load(0, 10), *load(3, 5, kind="read")], {}, "unknown"),  # 40 reads
        ([*load(0, 10), *load(12, 14, kind="read")], {}, "unknown"),
        ([*load(0, 10), *load(3, 3.5, kind="read")], {}, "pass"),  # 10: less than 5 %
        ([*load(0, 10), *load(3, 3.5, kind="read"), *load(12, 90, kind="read")], {}, "pass"),
        ([], {}, "unknown"),
        (load(0, 10), {"baseline": None}, "unknown"),
        (load(0, 10, 0.02), {"baseline": {"begin": 0.0, "end": 5.0}}, "pass"),
        (load(0, 10, 0.02), {"baseline": {"begin": 0.0, "end": 4.9}}, "unknown"),
        (load(0, 10, 0.02), {"baseline": {"begin": 2.0, "end": 6.9}}, "unknown"),
        (some_bad(4), {}, "pass"),  # 1 %
        (some_bad(5), {}, "unknown"),
    ],
)
def test_steady(rows: list[Row], facts: dict[str, Any], result: str) -> None:
    """It is 5 s long, with 200 operations of each class, of which 99 % are good."""
    assert verdict_on(rows, **facts).result == result


def test_loads_of_an_origin_are_no_service() -> None:
    """Few loads from what is behind a cache, and refused ones, do not matter."""
    loads = load(3, 5, kind="read", service="origin", outcome="fail")
    assert verdict_on([*load(0, 10), *loads]).result == "pass"


@pytest.mark.parametrize(
    ("steady", "result"),
    [
        (Steady(good={"sessions": 0.95}), "pass"),
        (Steady(good={"sessions": 0.951}), "unknown"),
        (Steady(good={"other": 0.9}), "unknown"),
    ],
)
def test_share_of_good(steady: Steady, result: str) -> None:
    """The scenario may ask for another share of good ones."""
    assert verdict_on(some_bad(20), steady).result == result


@pytest.mark.parametrize("steady", [Steady(good={"basket": 0.5}), Steady(hit_rate={"basket": 0.1})])
def test_a_service_without_operations(steady: Steady) -> None:
    """What is asked of a service that nobody used does not hold."""
    verdict = verdict_on([*load(0, 10)], steady)
    assert verdict.result == "unknown"
    assert "no operation of basket was due" in verdict.reason


def test_by_service() -> None:
    """The plain values of a file are by service."""
    plain = {"sessions": {"good": 0.9}, "api_cache": {"hit_rate": 0.8, "good": 0.7}}
    wanted = Steady({"sessions": 0.9, "api_cache": 0.7}, {"api_cache": 0.8})
    assert Steady.by_service(plain) == wanted


@pytest.mark.parametrize(("hit_rate", "result"), [(0.5, "pass"), (0.51, "unknown")])
def test_hit_rate(hit_rate: float, result: str) -> None:
    """The scenario may ask for hits, of reads alone."""
    rows: list[Row] = [*load(0, 10, kind="read", read=1), *load(0, 10, kind="read"), *load(0, 10)]
    steady = Steady(hit_rate={"sessions": hit_rate})
    assert verdict_on(rows, steady).result == result


@pytest.mark.parametrize(
    ("expected", "result"),
    [
        (unavailability.Expectation("sessions", None, 0.4), "pass"),
        (unavailability.Expectation("sessions", None, 0.3), "unknown"),
        (unavailability.Expectation("sessions", None, None, 0.4), "pass"),
        (unavailability.Expectation("sessions", None, None, 0.3), "unknown"),
        (unavailability.Expectation("other", "read", 0.1), "pass"),
        (error_budget.Expectation("sessions", 0.01), "pass"),
        (error_budget.Expectation("sessions", 0.009), "unknown"),
        (error_budget.Expectation("sessions", 0.5, "read"), "unknown"),  # ten of them
    ],
)
def test_what_is_expected_holds(expected: object, result: str) -> None:
    """What is expected of the run holds in its baseline."""
    bad = load(4, 4.48, 0.12, "fail")  # 4 of 400, from the first to the last 0.36 s
    rows: list[Row] = [*load(0, 4, 0.02), *bad, *load(4.5, 8.4, 0.02), *load(8.4, 10, 1.6)]
    rows += [*load(3, 3.5, kind="read"), *load(10, 100)]
    assert verdict_on(rows, None, [expected]).result == result


@pytest.mark.parametrize(
    ("expected", "result"),
    [
        (hit_rate.Expectation("sessions", 0.7), "pass"),
        (hit_rate.Expectation("sessions", 0.78), "pass"),  # within the sample's spread
        (hit_rate.Expectation("sessions", 0.9), "unknown"),
        (herd.Expectation(same_key=2, loads=2, refused=0), "pass"),
        (herd.Expectation(same_key=1), "unknown"),
        (herd.Expectation(loads=1.5), "unknown"),
    ],
)
def test_what_is_expected_of_a_cache_holds(expected: object, result: str) -> None:
    """What misses, or loads too often, does so without a fault."""
    hits: dict[str, Any] = {"kind": "read", "read": 1}
    misses: dict[str, Any] = {"kind": "read"}
    rows: list[Row] = [*load(0, 7.5, 0.02, **hits), *load(7.5, 10, 0.02, **misses)]
    rows += [operation(at, took=0.5, kind="read", service=ORIGIN, key="k") for at in (3.0, 3.1)]
    assert verdict_on(rows, None, [expected]).result == result


def test_an_outage_after_it_does_not_count() -> None:
    """What a fault does later is no matter of the baseline."""
    rows: list[Row] = [*load(0, 20), *load(20, 30, outcome="fail"), *load(30, 100)]
    expected = [unavailability.Expectation("sessions", None, 5)]
    assert verdict_on(rows, None, expected).result == "pass"
