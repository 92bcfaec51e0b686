"""What a report says: the parts of an outage, its cost, its causes, and what was not tested."""

from typing import Any

import pytest

from cachesim.history.reader import History
from cachesim.history.rows import Beat, EventRow, Operation
from cachesim.scenarios.report.causes import causes
from cachesim.scenarios.report.charts import charts
from cachesim.scenarios.report.costs import costs
from cachesim.scenarios.report.lanes import lanes
from cachesim.scenarios.report.record import Split
from cachesim.scenarios.report.slices import Slicing, sliced
from cachesim.scenarios.report.splits import splits
from cachesim.scenarios.report.untested import untested
from tests.scenarios.histories import beats, failover, history_of, kill, load, samples, step, times

CLIENT = {"patience": 1, "comeback": 4}


def crash(end: float, **more: Any) -> list[Any]:
    """A crash at 20 s, promoted at 40 s, unserved until an end."""
    rows = [*load(0, 20), *load(20, end, outcome="info", error="TimeoutError")]
    return [*rows, *load(end, 100), *failover(20, 40, **more), kill(20, 60)]


def parts(split: Split) -> dict[str, tuple[float, float | None]]:
    """The lengths of an outage's parts."""
    return {it.name: (it.length.low, it.length.high) for it in split.parts}


def test_failover_is_split() -> None:
    """An outage of a failover is detection, promotion, and the client's tail up to its end."""
    with history_of(crash(43)) as history:
        [split] = splits(history, origin=10)
    found = parts(split)
    assert found["detection"] == pytest.approx((15, 15))
    assert found["promotion"] == pytest.approx((5, 5))
    assert found["client"] == pytest.approx((2.95, 3))
    assert (split.total.low, split.total.high) == pytest.approx((22.95, 23.05))
    assert (split.begin, split.end) == pytest.approx((10, 33))
    assert split.shorten.startswith("Detection is the longest part. The client's own is its tail")


def test_longest_outage_is_split() -> None:
    """Of several outages the longest is split, and the class with the longest comes first."""
    short = [it for it in crash(43) if not isinstance(it, Operation) or it.due < 70]
    rows = [*short, *load(70, 71, outcome="fail"), *load(71, 100)]
    other = [*load(0, 50, service="mine"), *load(50, 90, outcome="fail", service="mine")]
    with history_of([*rows, *other, *load(90, 100, service="mine")]) as history:
        found = splits(history, origin=0)
    assert [(it.name, round(it.begin)) for it in found] == [
        ("mine.write", 50),
        ("sessions.write", 20),
    ]


def test_longest_tail_is_to_be_shortened() -> None:
    """Where the client's tail is the longest part, it is the one to shorten."""
    with history_of(crash(70)) as history:
        [split] = splits(history, origin=10)
    assert split.shorten.startswith("Shorten the client's tail, 30 s")


def test_no_tail() -> None:
    """Where the client follows at once, it can only bridge what is the control plane's."""
    with history_of(crash(40.1)) as history:
        [split] = splits(history, origin=10)
    assert "ElastiCache's" in split.shorten


def test_split_at_a_speed() -> None:
    """At a speed, detection and promotion are production's, and the tail is not measured."""
    rows = [*crash(41, seconds=600, speed=30), *beats(0, 100, nodes=["redis-b"], kind="write")]
    with history_of(rows, speed=30, client=CLIENT) as history:
        [split] = splits(history, origin=10)
    found = parts(split)
    assert found["detection"] == pytest.approx((450, 450))
    assert found["promotion"] == pytest.approx((150, 150))
    assert found["client"] == pytest.approx((0, 4 + 0.05 * 30), abs=0.11)
    assert split.total.low == pytest.approx(600 - 1)  # a call may have waited
    with history_of(rows, speed=30) as history:
        [split] = splits(history, origin=10)
    assert parts(split)["client"] == (0, None)  # its comeback is not declared
    assert "`--speed 1`" in split.shorten


def test_outage_without_a_failover() -> None:
    """An outage that no failover explains is split at the heal of its fault."""
    fault = step({"fault": "isolate", "zone": "a"}, 20, 30, target="az-a")
    rows: list[Any] = [*load(0, 20), *load(20, 34, outcome="info"), *load(34, 100), fault]
    rows += failover(20, 29)  # of Redis, which these do not ask
    rows = [it._replace(node="memcached-a") if isinstance(it, Operation) else it for it in rows]
    with history_of(rows) as history:
        [split] = splits(history, origin=10)
    assert split.what == "isolate on az-a"
    assert parts(split)["fault"] == pytest.approx((10, 10))
    assert parts(split)["client"] == pytest.approx((3.95, 4))


def test_costs() -> None:
    """21 s without sessions are 105,000 requests at production's rate."""
    with history_of(crash(41)) as history:
        [cost] = costs(history)
    assert cost.is_production
    assert cost.rate == 5000
    assert cost.requests.high == pytest.approx(21.05 * 5000, rel=0.003)
    assert cost.budget_share.low == pytest.approx(20.95 / 2592, rel=0.01)


def test_costs_of_a_share() -> None:
    """A class has its share of its service's rate; another service has the run's own rate."""
    reads = load(0, 100, kind="read", every=0.05 / 3)
    other = [*load(0, 20, service="mine"), *load(20, 30, outcome="fail", service="mine")]
    rows = [*crash(41), *other, *load(30, 100, service="mine")]
    with history_of([*rows, *reads]) as history:
        found = {it.name: it for it in costs(history)}
    assert found.keys() == {"sessions.write", "mine.write"}
    assert found["sessions.write"].rate == pytest.approx(5000 / 4)
    assert found["mine.write"].rate == pytest.approx(20)
    assert not found["mine.write"].is_production
    down = [*load(20, 41, kind="read", outcome="fail"), *load(0, 20, kind="read")]
    with history_of([*rows, *down, *load(41, 100, kind="read")]) as history:
        both = {it.name: it for it in costs(history)}
    assert both["sessions"].rate == pytest.approx(5000)  # its reads and writes, told as one
    assert both["sessions"].requests.high == pytest.approx(21.05 * 5000, rel=0.003)
    brief = [*load(20, 25, kind="read", outcome="fail"), *load(0, 20, kind="read")]
    with history_of([*rows, *brief, *load(25, 100, kind="read")]) as history:
        assert {it.name for it in costs(history)} >= {"sessions.read", "sessions.write"}


def test_tries_of_redis() -> None:
    """A call that waited for all of its tries names the constants, and how often it tried."""
    slow = load(20, 24, outcome="info", error="TimeoutError", took=5.6, attempts=11)
    quick = load(24, 28, outcome="info", error="ConnectionError", took=0.04, attempts=11)
    rows = [*load(0, 20), *slow, *quick, *load(28, 100)]
    with history_of([*rows, *failover(20, 28)]) as history:
        found = [it.constant for it in causes(history)]
    assert found == ["socket_timeout 0.5 s x 11 waits", "11 requests in 40 ms"]
    with history_of([*rows, *failover(20, 20.03)]) as history:  # they outlived it
        assert [it.constant for it in causes(history)] == found[:1]
    with history_of(rows) as history:  # without a failover there was nothing to outlive
        assert [it.constant for it in causes(history)] == found[:1]


def test_busy_workers() -> None:
    """Operations that were never begun are told with the size of the pool."""
    shed = load(20, 24, outcome="shed", took=None)
    with history_of([*load(0, 20), *shed, *load(24, 100)], pool=10) as history:
        [cause] = causes(history)
    assert cause.constant == "10 workers a pod"
    assert "100 % of sessions were never begun" in cause.observed
    few = [*shed[:5], *load(20.25, 24, outcome="fail")]
    with history_of([*load(0, 20), *few, *load(24, 100)]) as history:
        assert causes(history) == []
    held = load(20, 24, outcome="info", took=5, every=0.5)
    cache = load(20, 24, outcome="shed", took=None, service="api_cache")
    cache += load(20, 24, outcome="fail", took=0.6, every=0.5, service="api_cache")
    rows = [*load(0, 20), *load(0, 20, service="api_cache"), *held, *cache]
    with history_of([*rows, *load(24, 100)]) as history:
        cause = causes(history)[0]
    assert cause.service == "api_cache"
    assert cause.observed.endswith("89.3 % of that waiting was in calls of sessions.")
    assert cause.remedy.endswith("would have kept api_cache served.")


@pytest.mark.parametrize(("back", "told"), [(90.0, True), (41.0, False)])
def test_dead_timeout(back: float, told: bool) -> None:
    """A Memcached node that is asked again long after it was able names dead_timeout."""
    rows = [*load(0, 20, service="api_cache", node="memcached-a")]
    rows += load(20, back, service="api_cache", node="memcached-b")
    rows += load(back, 100, service="api_cache", node="memcached-a")
    rows += load(20, 21, outcome="fail", service="api_cache", error="OSError")
    every: list[Any] = [*rows, *beats(0, 20, nodes=["memcached-a"])]
    every += beats(20, 40, nodes=["memcached-a"], ok=False)
    every += beats(40, 100, nodes=["memcached-a"])
    with history_of(every, heal_at=40) as history:
        found = [it.constant for it in causes(history)]
    assert ("dead_timeout 60 s" in found) is told
    others = [it for it in every if getattr(it, "service", "") != "api_cache"]
    with history_of(others, heal_at=40) as history:
        assert causes(history) == []  # no client of it


def test_untested() -> None:
    """What a run left out is told: checkers, nodes, production's length and load, other draws."""
    rows = [*crash(41), *beats(0, 100, nodes=["redis-a", "redis-b"], every=10)]
    settings = {"detection_seconds": [10, 20]}
    with history_of(rows, speed=30, settings=settings, backend="embedded") as history:
        text = "\n".join(untested(history, {"recovery": {"within": 1}}))
    assert "`--speed 1` or `--quiet-cut`" in text
    assert "Nothing was expected of lost writes" in text
    assert "recovery" not in text
    assert "Faults of redis-b: no step touched it." in text
    assert "sessions had 20 operations a second instead of 5,000" in text
    assert "The traffic of api_cache: there was none." in text
    assert "detection takes 10 to 20 s" in text
    assert "emulated" in text


def test_lanes() -> None:
    """A node is what it says it is; in gaps nobody knows, and without an answer it is away."""
    rows: list[Any] = samples("role", "redis-a", [(at, at < 20) for at in times(0, 30, 0.5)])
    rows += samples("role", "redis-a", [(at, 0) for at in times(50, 60, 0.5)])
    rows += samples("fenced", "redis-a", [(at, at < 25) for at in times(20, 30, 0.5)])
    rows += [Beat("redis-a", "read", at, at, at, at < 30 or at >= 49) for at in range(60)]
    rows += beats(0, 60, nodes=["memcached-b"])
    with history_of(rows, end_at=60.0) as history:
        first, second = lanes(history)
    found = [(it.state, round(it.begin), round(it.end)) for it in first.stretches]
    assert found == [
        ("primary", 0, 20),
        ("fenced", 20, 25),
        ("replica", 25, 30),
        ("replica", 50, 60),
        ("away", 30, 49),
    ]
    assert [it.state for it in second.stretches] == ["up"]


def test_lanes_of_nodes_that_were_added() -> None:
    """They are in the zone of their names, and there only as long as they were."""
    rows: list[Any] = beats(0, 100, nodes=["memcached-a", "memcached-b"])
    rows += beats(30, 50, nodes=["memcached-a2", "memcached-b2"])
    added = {"added": dict.fromkeys(("memcached-a2", "memcached-b2"), "127.0.0.1:1")}
    rows += [
        EventRow(1, 30.0, "scaled", "t", "", added),
        EventRow(2, 50.0, "scaled", "t", "", {"removed": ["memcached-b2"]}),
    ]
    with history_of(rows) as history:
        found = [
            (lane.zone, lane.node, [(it.begin, it.end) for it in lane.stretches])
            for lane in lanes(history)
        ]
    assert found == [
        ("a", "memcached-a", [(0, 100)]),
        ("a", "memcached-a2", [(30, 100)]),
        ("b", "memcached-b", [(0, 100)]),
        ("b", "memcached-b2", [(30, 50)]),
    ]


def chart(history: History, title: str, line: str) -> dict[float, float | None]:
    """The values of a line, by the begin of their slices."""
    slicing = Slicing(history)
    every = charts(history, slicing, sliced(history, slicing))
    [found] = [it for it in every if it.title == title]
    [values] = [it.values for it in found.lines if it.label == line]
    begins = [round(at - slicing.width / 2, 3) for at in slicing.middles]
    return dict(zip(begins, values, strict=True))


def test_series() -> None:
    """Slices count operations by when they were due, and errors are shares of them."""
    slow = load(70, 80, took=0.5)
    rows = [*load(0, 40), *load(40, 50, outcome="fail"), *load(50, 70), *slow, *load(80, 100)]
    with history_of(rows) as history:
        good = chart(history, "Throughput", "sessions, good")
        bad = chart(history, "Throughput", "all, bad")
        errors = chart(history, "Errors", "sessions.write")
        latency = chart(history, "Latency", "sessions, p99")
    assert len(good) == 200
    assert all((value or 0) == (0 if 40 <= at < 50 else 20) for at, value in good.items())
    with history_of(load(0, 99.7), end_at=99.7) as history:
        part = chart(history, "Throughput", "sessions, good")
    assert part[99.5] == pytest.approx(20)  # of a slice that is cut short
    assert all((value or 0) == (20 if 40 <= at < 50 else 0) for at, value in bad.items())
    assert all((value or 0) == (100 if 40 <= at < 50 else 0) for at, value in errors.items())
    assert latency[45] is None
    assert latency[10] == pytest.approx(2)
    assert latency[75] == pytest.approx(500)


def test_origin() -> None:
    """What misses load has a chart of its own, and is no service of users."""
    loads = load(50, 60, service="origin", kind="read", every=0.1, node=None)
    refused = load(60, 70, service="origin", kind="read", every=0.1, outcome="fail")
    with history_of([*load(0, 100), *loads, *refused]) as history:
        every = chart(history, "Origin", "loads")
        bad = chart(history, "Origin", "refused")
        good = chart(history, "Throughput", "all, bad")
        assert [it.name for it in splits(history, origin=0)] == []
        assert costs(history) == []
    assert {at for at, value in every.items() if value} == {at for at in every if 50 <= at < 70}
    assert {at for at, value in bad.items() if value} == {at for at in bad if 60 <= at < 70}
    assert not any(good.values())


def test_outage_that_ends_before_the_failover_was_seen() -> None:
    """What was due before the new primary took writes may have waited: the parts still add up."""
    with history_of(crash(39)) as history:
        [split] = splits(history, origin=10)
    assert parts(split)["promotion"] == pytest.approx((4, 4))
    assert parts(split)["client"] == (0, 0)


def test_series_of_pods() -> None:
    """What came too late is bad, and a pod that stands out has a line of its own."""
    rows = [*load(0, 100, pod="p1"), *load(0, 40, pod="p2"), *load(50, 100, pod="p2")]
    with history_of([*rows, *load(40, 50, pod="p2", took=1.5)]) as history:
        every = chart(history, "Errors", "sessions.write")
        worst = chart(history, "Errors", "sessions.write, p2")
    assert {at: value for at, value in every.items() if value} == {
        at: 50 for at in every if 40 <= at < 50
    }
    assert {at: value for at, value in worst.items() if value} == {
        at: 100 for at in every if 40 <= at < 50
    }


def test_patience_that_a_speed_hides() -> None:
    """At a speed, calls that would wait for production's failover are told by their profile."""
    rows = [*crash(20.7, seconds=20, speed=30), *beats(0, 100, nodes=["redis-b"], kind="write")]
    declared = {"sessions": {"patience": 24.75, "comeback": 2}}
    with history_of(rows, speed=30, clients=declared) as history:
        found = [it.constant for it in causes(history)]
    assert found == ["patience 24.8 s"]
    with history_of(rows, speed=1, clients=declared) as history:
        assert causes(history) == []


def test_new_connections() -> None:
    """A storm of connections is shown, also across a restart, and a few are not."""
    totals: list[tuple[float, float]] = [
        (-1, 0),
        (-0.5, 500),
        (-0.1, 10),
    ]  # of pools that are opened before the run
    totals += [(at, 10 + 40 * (at - 20) if 20 <= at < 30 else 10) for at in times(0, 100, 0.5)]
    with history_of(
        [*load(0, 100), *samples("connections_received", "redis-a", totals)]
    ) as history:
        found = chart(history, "New connections", "redis-a")
    assert {at for at, value in found.items() if (value or 0) > 1} == {
        *(at for at in found if 20 < at < 30 and at % 0.5 == 0), 30.0,
    }  # fmt: skip
    assert found[0] == 0
    assert found[25] == pytest.approx(20 / 0.5)
    assert found[30] == pytest.approx(10 / 0.5)  # its counter began anew
    few = samples("connections_received", "redis-a", [(at, at) for at in times(0, 100, 0.5)])
    with history_of([*load(0, 100), *few]) as history:
        slicing = Slicing(history)
        titles = [it.title for it in charts(history, slicing, sliced(history, slicing))]
    assert "New connections" not in titles
