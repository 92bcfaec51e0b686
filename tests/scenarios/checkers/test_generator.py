"""The gate on the generator: what it was late with is not the client's."""

from typing import Any

import pytest

from cachesim.history.reader import Span
from cachesim.history.rows import EventRow, GeneratorReading, Row
from cachesim.scenarios.checkers import generator
from cachesim.scenarios.checkers.generator import longest_fit, spoiled, union, why_unfit
from tests.scenarios.histories import history_of, load, operation, readings


@pytest.mark.parametrize(
    ("late", "idle", "found"),
    [(0.06, 1, True), (0.05, 1, False), (0.06, 0, False), (0.0, 5, False)],
)
def test_late_although_idle(late: float, idle: int, found: bool) -> None:
    """An operation that began late while a worker was idle is the generator's."""
    rows = [operation(5, late=late), *readings(0, 10, idle=idle)]
    with history_of(rows) as history:
        assert spoiled(history) == ([Span(5, 5 + late)] if found else [])


@pytest.mark.parametrize(
    ("idle", "found"),
    [
        ({4.9: 1, 5.1: 1, 5.2: 1}, True),
        ({4.9: 0, 5.1: 1, 5.2: 1}, True),
        ({5.1: 1, 5.2: 0}, False),  # busy at one time while it waited
        ({4.9: 1}, True),  # nobody looked while it waited: the process stood still
        ({4.9: 0}, False),
        ({5.4: 1}, False),
        ({}, False),
    ],
)
def test_idle_while_it_waited(idle: dict[float, int], found: bool) -> None:
    """The looks while an operation waited count; without one, the last before."""
    looks = [GeneratorReading(at, "p0", 0.0, 0.1, count) for at, count in idle.items()]
    others = readings(0, 10, "p1", idle=5)
    with history_of([operation(5, late=0.3), *looks, *others]) as history:
        assert bool(spoiled(history)) == found


@pytest.mark.parametrize(
    ("lags", "deadline", "result"),
    [
        ([0.9], 1, "pass"),  # 0.9 s of 100
        ([1.1], 1, "unknown"),
        ([0.24] * 10, 1, "pass"),  # not late enough to count
        ([0.26] * 3, 1, "pass"),
        ([0.26] * 4, 1, "unknown"),
        ([0.26] * 4, 2, "pass"),
    ],
)
def test_lag(lags: list[float], deadline: float, result: str) -> None:
    """A thread that was late by a quarter of the deadline for more than 1 % of the time."""
    looks = [GeneratorReading(10.05 + n, "p0", lag, 0.1, 0) for n, lag in enumerate(lags)]
    with history_of([*looks, *readings(0, 100)], deadline=deadline) as history:
        assert generator.check(history).result == result


@pytest.mark.parametrize(("cut", "result"), [(0, "unknown"), (99, "unknown"), (101, "pass")])
def test_shares_are_of_a_run_without_cuts(cut: float, result: str) -> None:
    """What was late in a run whose calm was cut was late in one that has it too: 2 s of 200."""
    looks = [GeneratorReading(10.05 + n, "p0", 1.0, 0.1, 0) for n in range(2)]
    facts = {"cuts": [{"at": 50, "seconds": cut}]}
    with history_of([*looks, *readings(0, 100)], **facts) as history:
        assert generator.check(history).result == result
    late = [operation(5 + n, late=0.5) for n in range(4)]
    with history_of([*late, *readings(0, 100, idle=1)], **facts) as history:
        assert generator.check(history).result == result


def test_lag_before_the_baseline_does_not_count() -> None:
    """Pools are opened first, and nobody is judged by it."""
    look = GeneratorReading(-5.0, "p0", 4.0, 0.9, 0)
    with history_of([look, *readings(0, 100), operation(-5, late=4)]) as history:
        assert generator.check(history).result == "pass"


def test_many_late_operations() -> None:
    """More than 1 % of the time with late operations spoils the run."""
    for count, result in ((9, "pass"), (11, "unknown")):
        late = [operation(20 + n, late=0.1) for n in range(count)]
        with history_of([*late, *readings(0, 100, idle=2)]) as history:
            assert generator.check(history).result == result


@pytest.mark.parametrize(("seconds", "result"), [(0.8, "pass"), (1.2, "unknown")])
def test_standstill(seconds: float, result: str) -> None:
    """Time in which nothing of the topology answered spoils what was due then."""
    stood = EventRow(1, 50.0, "standstill", "t", "nothing answered", {"seconds": seconds})
    early = EventRow(2, -1.0, "standstill", "t", "nothing answered", {"seconds": 5})
    with history_of([*readings(0, 100), *load(0, 100), stood, early]) as history:
        assert generator.spoiled(history) == [(50 - seconds, 50)]
        assert generator.check(history).result == result


def test_a_pod_that_died() -> None:
    """What a killed pod did not do says nothing of the clients."""
    facts = {"dead": {"p0": "killed by SIGKILL"}}
    with history_of([*readings(0, 100), *load(0, 100)], **facts) as history:
        verdict = generator.check(history)
        assert verdict.result == "unknown"
        assert "p0 was killed by SIGKILL" in verdict.reason


@pytest.mark.parametrize(("code", "result"), [(0, "pass"), (1, "unknown"), (-9, "unknown")])
def test_a_pod_that_ended_badly(code: int, result: str) -> None:
    """A pod that did not end in order may have kept the last of its operations for itself."""
    facts = {"exit_codes": {"p0": code, "p1": 0}}
    with history_of([*readings(0, 100), *load(0, 100)], **facts) as history:
        assert generator.check(history).result == result


def test_not_watched() -> None:
    """A generator that nobody looked at is unknown."""
    with history_of(load(0, 100)) as history:
        assert generator.check(history).result == "unknown"


@pytest.mark.parametrize(("pods", "result"), [(1, "pass"), (2, "unknown")])
def test_a_pod_that_was_not_watched(pods: int, result: str) -> None:
    """Nor is one of its pods known that nobody looked at."""
    with history_of([*load(0, 100), *readings(0, 100)], pods=pods) as history:
        assert generator.check(history).result == result


@pytest.mark.parametrize(
    ("span", "unfit"), [((4, 6), True), ((5.3, 9), True), ((1, 5), True), ((1, 4), False)]
)
def test_where_it_decides(span: tuple[float, float], unfit: bool) -> None:
    """Only what lies in a spoiled span is the generator's."""
    rows: list[Row] = [operation(5, late=0.3), *readings(0, 100, idle=1)]
    with history_of(rows) as history:
        assert bool(why_unfit(history, *span)) == unfit


@pytest.mark.parametrize(
    ("span", "longest"),
    [((0, 4), 4), ((2, 15), 6.7), ((2, 11), 5.7), ((5.1, 15), 6.7), ((2, 20.1), 8), ((5, 5.2), 0)],
)
def test_what_it_does_not_decide(span: tuple[float, float], longest: float) -> None:
    """The longest part of a span in which nothing is spoiled: here 5 to 5.3 and 12 to 12.1 are."""
    rows: list[Row] = [operation(5, late=0.3), operation(12, late=0.1), *readings(0, 100, idle=1)]
    with history_of(rows) as history:
        assert longest_fit(history, *span) == pytest.approx(longest)


def test_a_whole_run_that_it_decides() -> None:
    """If the generator was unfit as a whole, it decides everything."""
    with history_of(load(0, 100)) as history:
        assert "not watched" in (why_unfit(history, 0, 1) or "")
        assert longest_fit(history, 0, 1) == 0


def test_union() -> None:
    """Spans that overlap are one."""
    spans: Any = [Span(0, 2), Span(1, 1.5), Span(2, 3), Span(4, 5)]
    assert union(spans) == [Span(0, 3), Span(4, 5)]
