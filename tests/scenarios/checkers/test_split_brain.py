"""Split brain: writes of a former primary after another was promoted."""

from typing import Any

import pytest

from cachesim.history.rows import FinalRead, Operation, Row
from cachesim.scenarios.checkers import split_brain
from cachesim.scenarios.checkers.split_brain import Expectation
from cachesim.scenarios.verdict import Verdict
from tests.scenarios.histories import failover, history_of, kill, load, operation, samples, times

LOST, PROMOTED, FENCED = 40.0, 50.0, 60.0


def promotion(fenced: float | None = FENCED) -> list[Row]:
    """Return a failover whose old primary is fenced later."""
    rows: list[Row] = [*load(0, LOST, node="redis-a"), *load(PROMOTED, 100, node="redis-b")]
    if fenced is not None:
        signs = [(at, float(at >= fenced)) for at in times(0, 100, 0.5)]
        rows += samples("fenced", "redis-a", signs)
    return [*rows, *failover(LOST, PROMOTED)]


def verdict_on(rows: list[Any], most: int = 0, **facts: Any) -> Verdict:
    """Return the verdict on a history."""
    with history_of(rows, **facts) as history:
        return split_brain.check(history, Expectation(most))


def old(at: float, outcome: Any = "ok", **more: Any) -> list[Row]:
    """Return a write that the old primary took."""
    return [*promotion(), operation(at, outcome, node="redis-a", **more)]


@pytest.mark.parametrize(
    ("rows", "low", "high", "result"),
    [
        (load(0, 100, node="redis-a"), 0, 0, "pass"),  # no failover
        (promotion(), 0, 0, "pass"),
        (old(45.0), 0, 0, "pass"),  # isolated: not lost here
        (old(49.9985), 0, 0, "pass"),
        (old(49.9995), 0, 1, "unknown"),  # within eps
        (old(50.0005), 0, 1, "unknown"),
        (old(50.01), 1, 1, "fail"),
        (old(55.0, "info"), 0, 0, "pass"),
        (old(55.0, kind="read"), 0, 0, "pass"),
        (old(55.0, kind="delete"), 1, 1, "fail"),
        (old(55.0, service="other"), 0, 0, "pass"),
        ([*promotion(), operation(55.0)], 0, 1, "unknown"),  # its node is not known
        ([*promotion(), operation(65.0)], 0, 0, "pass"),
        ([*promotion(), operation(55.0, node="redis-c")], 1, 1, "fail"),
        ([*promotion(None), operation(95.0)], 0, 1, "unknown"),
    ],
)
def test_counted(rows: list[Row], low: float, high: float, result: str) -> None:
    """What counts is acknowledged, a write, by another node, and began after the promotion."""
    verdict = verdict_on(rows)
    assert (verdict.low, verdict.high) == (low, high)
    assert verdict.result == result


def test_after_the_fence_always_fails() -> None:
    """A write after the fence fails, however many are expected."""
    assert verdict_on(old(59.9), 5).result == "pass"
    verdict = verdict_on(old(60.1), 5)
    assert verdict.result == "fail"
    assert "after the fence" in verdict.reason
    assert verdict.low == 1


def test_the_dead_are_fenced() -> None:
    """A dead primary that takes writes when it is back was never to do so."""
    rows = [*promotion(None), kill(39.9, 70.0), operation(75.0, node="redis-a")]
    assert "after the fence" in verdict_on(rows, 5).reason


def test_a_replica_is_fenced() -> None:
    """An old primary that says that it is a replica takes no writes any more."""
    roles = samples("role", "redis-a", [(at, float(at < 60)) for at in times(0, 100, 0.5)])
    rows = [*promotion(None), *roles, operation(61.0, node="redis-a")]
    assert "after the fence" in verdict_on(rows, 5).reason


def test_grows_with_the_time() -> None:
    """At a speed, the number before the fence is up to times the speed."""
    verdict = verdict_on(old(55.0), 5, speed=30)
    assert (verdict.low, verdict.high) == (1, 30)
    assert verdict.result == "unknown"
    assert verdict_on(old(60.1), 99, speed=30).result == "fail"


def test_below_speed_1_there_may_be_fewer() -> None:
    """A slow run has more time for them, and they were as many as they were."""
    rows = [*promotion(), *load(55.0, 56.0, 0.1, node="redis-a")]
    verdict = verdict_on(rows, 5, speed=0.5)
    assert (verdict.low, verdict.high, verdict.result) == (5, 10, "unknown")


def test_the_next_primary_is_none_of_them() -> None:
    """A node that is promoted again takes writes before it is seen to."""
    back = failover(70, 80, old="redis-b", new="redis-a", number=2)
    again = [*load(0, LOST, node="redis-a"), *load(PROMOTED, 70, node="redis-b")]
    rows = [*again, *failover(LOST, PROMOTED), *back, *load(80, 100, node="redis-a")]
    called = 70 + 10 * 0.75
    for at, result in ((called + 0.5, "pass"), (called - 0.5, "fail")):
        assert verdict_on([*rows, operation(at, node="redis-a")]).result == result
    assert verdict_on([*rows, operation(79, node="redis-c")]).result == "fail"
    third = failover(90, 92, old="redis-a", new="redis-c", number=3)
    rows = [it for it in rows if not (isinstance(it, Operation) and it.due > 90)]
    assert verdict_on([*rows, *third]).result == "pass"


@pytest.mark.parametrize(("at", "result"), [(45.0, "unknown"), (55.0, "fail")])
def test_deduced_from_losses(at: float, result: str) -> None:
    """Where no node is known, a lost write that ended after the promotion tells."""
    rows: list[Row] = [*failover(LOST, PROMOTED), operation(at, key="x", written=1)]
    rows.append(FinalRead("x", "redis-b", "primary", 99.0, None, None))
    assert verdict_on(rows).result == result
