"""Connection storms and leaks, from the servers' counters."""

from typing import Any

import pytest

from cachesim.history.rows import EventRow, Operation, Row, Sample
from cachesim.scenarios.checkers import connection_storm
from cachesim.scenarios.checkers.connection_storm import Expectation, peak_of
from cachesim.scenarios.verdict import Verdict
from tests.scenarios.histories import (
    beats,
    failover,
    history_of,
    load,
    operation,
    readings,
    samples,
    times,
)

FACTS: dict[str, Any] = {"heal_at": 40.0, "pods": 2, "pool": 10}


def storm(new: int = 50, left: int = 20, **more: Any) -> list[Row]:
    """Return a run in which clients open connections anew, at 40.05.

    Args:
        new: how many.
        left: how many are open in the end; 20 are in the baseline.
        more: of the generator's readings.
    """
    rows: list[Row] = [*load(0, 30), *load(30, 40, outcome="fail"), *load(40.2, 100)]
    rows += [*beats(0, 30), *beats(40, 100)]
    rows += [*readings(0, 100, **more), *readings(0, 100, "p1", **more)]
    for node, share in (("redis-a", 1.0), ("redis-b", 0.0)):
        steps = [(at, 100 + (new * share if at > 40.05 else 0)) for at in times(0, 100, 0.1)]
        rows += samples("connections_received", node, steps)
        opened = [(at, (20 if at < 40 else left) * share) for at in times(0, 100, 0.1)]
        rows += samples("connections", node, opened)
    return rows


def verdict_on(rows: list[Row], most: float | None = None, **facts: Any) -> Verdict:
    """Return the verdict on a history."""
    with history_of(rows, **(FACTS | facts)) as history:
        return connection_storm.check(history, Expectation(most))


@pytest.mark.parametrize(("most", "result"), [(1249, "fail"), (1250, "pass"), (None, "pass")])
def test_peak(most: float | None, result: str) -> None:
    """The peak of one node is scaled to production's pods and pools."""
    verdict = verdict_on(storm(), most)
    assert verdict.result == result
    assert verdict.low == verdict.high == 50 * 500 / 20
    assert verdict.details["node"] == "redis-a"
    assert verdict.details["peak"] == [50, 50]
    assert verdict.details["share_of_limit"] == 20 * (500 / 20) / 65_000


def test_not_scaled_without_pods() -> None:
    """Without pods and pool, the peak is as it was."""
    assert verdict_on(storm(), pods=None).high == 50


@pytest.mark.parametrize(("left", "result"), [(24, "pass"), (25, "fail")])
def test_leak(left: int, result: str) -> None:
    """More than 1.1 times the baseline's, and one a pod, is a leak."""
    # When the run is over, the workload closes all.
    closed = samples("connections", "redis-a", [(100.05, 2), (100.1, 0)])
    verdict = verdict_on([*storm(left=left), *closed])
    assert verdict.result == result
    assert (verdict.details["open_in_baseline"], verdict.details["left_open"]) == (20, left)


def test_a_connection_that_is_being_closed_is_no_leak() -> None:
    """The fewest of the last two seconds count."""
    rows = [
        it
        for it in storm()
        if not (isinstance(it, Sample) and it.name == "connections" and it.at > 97)
        or it.node == "redis-b"
    ]
    for value, at in ((40, 99.0), (20, 99.5), (40, 99.9)):
        rows += samples("connections", "redis-a", [(at, value)])
    assert verdict_on(rows).result == "pass"


@pytest.mark.parametrize(("since", "result"), [(50, "pass"), (5, "fail")])
def test_connections_to_a_node_that_is_added_are_no_leak(since: float, result: str) -> None:
    """A node that was not there in the baseline has none to compare with."""
    added = [(at, 20.0 if at > 50 else 0.0) for at in times(since, 100, 0.5)]
    assert verdict_on([*storm(), *samples("connections", "memcached-d", added)]).result == result


@pytest.mark.parametrize("is_removed", [True, False])
def test_connections_to_a_node_that_is_removed_are_no_leak(is_removed: bool) -> None:
    """What was open when it was last read is closed with it; of one that is there nothing tells."""
    opened = [(at, 5.0 if at < 40 else 50.0) for at in times(0, 60, 0.5)]
    rows = [*storm(), *samples("connections", "memcached-d", opened)]
    data = {"removed": ["memcached-d"]}
    event = EventRow(1, 60.0, "scaled", "t", "", data if is_removed else {})
    verdict = verdict_on([*rows, event])
    assert verdict.result == ("pass" if is_removed else "unknown")
    assert is_removed or "memcached-d did not answer in the end" in verdict.reason


def test_without_recovery_a_leak_can_not_be_told() -> None:
    """Before the clients are back, they may need more."""
    rows = [it for it in storm(left=99) if not (isinstance(it, Operation) and it.due > 41)]
    verdict = verdict_on([*rows, *load(41, 100, outcome="fail")], 9999)
    assert verdict.result == "unknown"
    assert "recovered" in verdict.reason


def test_a_busy_generator_opens_no_more() -> None:
    """If the generator was busy, the peak is a lower bound."""
    for most, result in ((9999, "unknown"), (1000, "fail"), (None, "pass")):
        verdict = verdict_on(storm(cpu=0.81), most)
        assert verdict.high == float("inf")
        assert verdict.result == result
    assert verdict_on(storm(cpu=0.8), 9999).result == "pass"


def test_an_unfit_generator() -> None:
    """A peak while the generator stood still is not the clients'."""
    late = [operation(40.0, late=0.9, took=0.001)]
    assert verdict_on([*storm(idle=3), *late], 9999).result == "unknown"
    assert verdict_on([*storm(idle=0), *late], 9999).result == "pass"
    assert verdict_on([*storm(idle=3), *late], None).result == "pass"


def test_at_a_speed() -> None:
    """A storm after a compressed window says nothing of production's; a leak does."""
    facts = {"speed": 30, "client": {"comeback": 20}}
    rows = [*storm(), *failover(39, 40, speed=30)]
    assert verdict_on(rows, 9999, **facts).result == "unknown"
    assert verdict_on(rows, None, **facts).result == "pass"
    assert verdict_on([*storm(left=25), *failover(39, 40)], None, **facts).result == "fail"


def test_a_new_process_counts_anew() -> None:
    """A node that starts again gets all connections anew, also if they are more than before."""
    served = [(at, at * 100 if at < 40 else at) for at in times(0, 100, 0.1)]
    verdict = verdict_on([*storm(new=10), *samples("commands", "redis-a", served)], 9999)
    assert verdict.details["peak"] == [100 + 10, 100 + 10]


def test_a_node_that_is_added_later() -> None:
    """What it has accepted before its first reading is new."""
    rows = [*storm(), *samples("connections", "memcached-d", [(at, 0) for at in (70, 99)])]
    rows += samples("connections_received", "memcached-d", [(at, 80) for at in times(70, 100, 0.1)])
    verdict = verdict_on(rows, 9999)
    assert (verdict.details["node"], verdict.details["peak"]) == ("memcached-d", [0, 80])


def test_not_sampled() -> None:
    """Without counters there is nothing to say."""
    for name in ("connections", "connections_received"):
        rows = [it for it in storm() if getattr(it, "name", "") != name]
        assert verdict_on(rows).result == "unknown"
    rows = [
        it
        for it in storm()
        if not (isinstance(it, Sample) and it.name == "connections" and it.at <= 10)
    ]
    assert verdict_on(rows).result == "unknown"


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([(0, 5), (0.5, 6), (1, 8), (1.5, 18), (2, 18)], 12, 13),
        ([(0, 0), (1, 10), (2, 30)], 20, 30),
        ([(0, 0), (0.9, 10), (1.2, 20), (2.0, 30), (5, 40)], 10, 30),  # 0.9 to 1.9, by 2.0
        ([(0, 0), (1.5, 10)], 0, 10),  # readings further apart than a second
        ([(0, 100), (0.5, 3), (1, 5)], 5, 5),  # began anew
        ([(0, 100)], 0, 0),
        ([], 0, 0),
    ],
)
def test_peak_of(values: list[tuple[float, float]], low: float, high: float) -> None:
    """The most in any second: surely within readings, perhaps between those around them."""
    peak = peak_of(values)
    assert (peak.low, peak.high) == (low, high)
