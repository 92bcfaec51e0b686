"""Alarms over minutes: periods, M of N, transitions, the worst node, and the thresholds."""

import dataclasses

import pytest

from cachesim.monitoring import architecture
from cachesim.monitoring.alarms import Alarm, Query, Watch, value_of
from cachesim.monitoring.findings import out_of_reach
from cachesim.monitoring.metrics import find
from cachesim.monitoring.states import State
from cachesim.topology import Service
from tests.monitoring.play import DATE, TOPOLOGY, looks, minute

ALARM = Alarm(
    "a",
    Service.REDIS,
    ("redis-a", "redis-b"),
    {"m1": Query("Evictions")},
    "m1",
    "GreaterThanThreshold",
    1000,
    period=60,
)
DEFAULTS = {it.name: it for it in architecture.alarms(TOPOLOGY)}
LEVELS = {it.name: it for it in architecture.thresholds(TOPOLOGY)}


def test_transitions_only() -> None:
    """A change is told once, and the state before it with it."""
    found = looks(ALARM, "Evictions", [0, 1000, 1001, 2000, 0])
    assert [it and (it.old, it.new) for it in found] == [
        (State.INSUFFICIENT_DATA, State.OK),
        None,
        (State.OK, State.ALARM),
        None,
        (State.ALARM, State.OK),
    ]


def test_period_is_a_sliding_mean() -> None:
    """An alarm over five minutes looks each minute at the mean of the last five."""
    alarm = dataclasses.replace(ALARM, period=300)
    found = looks(alarm, "Evictions", [0, 0, 0, 0, 0, 2000, 2000, 2000, 0, 0, 0])
    states = [it.new for it in found if it]
    assert states == [State.OK, State.ALARM, State.OK]
    # 6000 of 5 minutes are above 1000 each; 4000 are not.
    assert [bool(it) for it in found] == [i in (0, 7, 10) for i in range(11)]


def test_sum() -> None:
    """The sum of a period is of its minutes."""
    summed = dataclasses.replace(
        ALARM, queries={"m1": Query("Evictions", "Sum")}, threshold=5000, period=300
    )
    found = looks(summed, "Evictions", [1001] * 5)
    assert [bool(it) for it in found] == [True, False, False, False, True]


def test_some_of_several() -> None:
    """Two of three minutes are enough where two are needed, and a missing one waits."""
    alarm = dataclasses.replace(ALARM, periods=3, needed=2)
    found = looks(alarm, "Evictions", [0, 2000, None, 2000])
    assert [it and it.new for it in found] == [State.OK, None, None, State.ALARM]
    assert found[3] is not None
    assert "2 out of the last 3 datapoints" in found[3].reason


def test_no_data() -> None:
    """A node that is gone leaves an alarm without data, not with the last value."""
    found = looks(ALARM, "Evictions", [2000, None, None, None])
    assert [it and it.new for it in found] == [State.ALARM, None, None, State.INSUFFICIENT_DATA]


def test_worst_node() -> None:
    """An alarm on several nodes is on the worst of them, also where low values are bad."""
    both = [minute(1, redis_a={"Evictions": 5}, redis_b={"Evictions": 7}, redis_c={"Evictions": 9})]
    found = value_of(ALARM, both)
    assert found == (7, "redis-b")
    low = dataclasses.replace(ALARM, comparison="LessThanThreshold")
    assert value_of(low, both) == (5, "redis-a")


def test_reason() -> None:
    """The reason has the numbers, as CloudWatch writes it."""
    (change,) = looks(ALARM, "Evictions", [1500.5])
    assert change is not None
    assert change.reason == (
        "Threshold Crossed: 1 out of the last 1 datapoints [1500.5 (01/01/26 00:00:00)] was "
        "greater than the threshold (1000.0) (minimum 1 datapoint for INSUFFICIENT_DATA -> ALARM "
        "transition)."
    )


def test_missing_data_breaches() -> None:
    """The reason tells that nothing was there."""
    alarm = dataclasses.replace(ALARM, missing="breaching")
    *others, change = looks(alarm, "Evictions", [None] * 3)
    assert others == [None, None]
    assert change is not None
    assert "missing datapoint was treated as [Breaching]" in change.reason


def test_nothing_was_missing_before_it_began() -> None:
    """Missing data breaches from the begin of the monitoring on: a start pages nobody."""
    alarm = dataclasses.replace(ALARM, missing="breaching", periods=3, needed=2)
    assert [it and it.new for it in looks(alarm, "Evictions", [5, 5, 5])] == ["OK", None, None]
    (*_, dead) = looks(alarm, "Evictions", [None] * 5)
    assert dead is not None
    assert dead.new == "ALARM"
    (first, *others) = looks(dataclasses.replace(alarm, period=300), "Evictions", [5] * 40)
    assert first is not None
    assert (first.new, set(others)) == ("OK", {None})


def test_reason_with_missing_data() -> None:
    """The reason tells what missing datapoints were taken for, beside those that were there."""
    alarm = dataclasses.replace(ALARM, missing="breaching", periods=3, needed=2)
    *_, fine = looks(alarm, "Evictions", [5, 5, 5, None, None, None, None])
    assert fine is not None
    assert fine.reason == (
        "Threshold Crossed: 1 datapoint was received for 3 periods and 2 missing datapoints were "
        "treated as [Breaching]."
    )
    *_, beyond = looks(alarm, "Evictions", [None] * 4 + [1500])
    assert beyond is not None
    assert "greater than the threshold (1000.0) and 2 missing datapoints were treated as [Brea" in (
        beyond.reason
    )
    (quiet,) = looks(dataclasses.replace(alarm, missing="notBreaching"), "Evictions", [1500])
    assert quiet is not None
    assert quiet.reason == (
        "Threshold Crossed: 1 datapoint was received for 3 periods and 2 missing datapoints were "
        "treated as [NonBreaching]."
    )
    (plain,) = looks(dataclasses.replace(alarm, missing="missing"), "Evictions", [5])
    assert plain is not None
    assert "missing" not in plain.reason


def test_alarms_of_the_architecture() -> None:
    """They are the three of its file, over five minutes, and page whom it says."""
    told = {
        name: (*it.metrics, it.threshold, it.period, it.actions[State.ALARM][0])
        for name, it in DEFAULTS.items()
    }
    assert told == {
        "redis-cpu-high": ("CPUUtilization", 80, 300, "PagerDuty"),
        "memcached-evictions": ("Evictions", 1000, 300, "Slack"),
        "redis-memory-high": ("DatabaseMemoryUsagePercentage", 85, 300, "PagerDuty"),
    }


@pytest.mark.parametrize(
    ("row", "values", "fine", "warning", "critical"),
    [
        ("redis-cpu", "EngineCPUUtilization", 60, 61, 81),
        ("redis-memory", "DatabaseMemoryUsagePercentage", 70, 71, 86),
        ("redis-hit-rate", "CacheHitRate", 80, 79, 59),
        ("redis-evictions", "Evictions", 100, 101, 1001),
        ("redis-replication-lag", "ReplicationLag", 1, 1.1, 5.1),
        ("memcached-cpu", "CPUUtilization", 60, 61, 81),
        ("memcached-evictions", "Evictions", 100, 101, 1001),
    ],
)
def test_thresholds(row: str, values: str, fine: float, warning: float, critical: float) -> None:
    """Each row of the table has two levels, and its own value is within them."""
    node = "redis_a" if row.startswith("redis") else "memcached_a"
    for value, levels in ((fine, []), (warning, ["warning"]), (critical, ["warning", "critical"])):
        firing = []
        for level in ("warning", "critical"):
            watch = Watch(LEVELS[f"{row}-{level}"])
            watch.look([minute(1, **{node: {values: value}})], DATE)
            if watch.state is State.ALARM:
                firing.append(level)
        assert firing == levels, value


@pytest.mark.parametrize(("used", "firing"), [(69, 0), (71, 1), (86, 2)])
def test_memory_of_memcached(used: float, firing: int) -> None:
    """Memcached's memory is a share of what it may use, by metric math."""
    values = {"BytesUsedForCacheItems": used, "UnusedMemory": 100 - used}
    assert _levels("memcached-memory", values) == firing


@pytest.mark.parametrize(("hits", "firing"), [(81, 0), (79, 1), (59, 2)])
def test_hit_rate_of_memcached(hits: float, firing: int) -> None:
    """Memcached's hit rate is made of its hits and misses."""
    assert _levels("memcached-hit-rate", {"GetHits": hits, "GetMisses": 100 - hits}) == firing


@pytest.mark.parametrize("engine", ["redis", "memcached"])
@pytest.mark.parametrize(("count", "firing"), [(76, 0), (78, 1), (93, 2)])
def test_connections_are_scaled(engine: str, count: float, firing: int) -> None:
    """50,000 and 60,000 of 65,000 connections are 77 and 92.3 of 100, and the alarm says so."""
    values = {"CurrConnections": count, "MaxConnections": 100.0}
    assert _levels(f"{engine}-connections", values) == firing
    assert "scaled" in LEVELS[f"{engine}-connections-warning"].description


def _levels(row: str, values: dict[str, float]) -> int:
    node = "redis_a" if row.startswith("redis") else "memcached_a"
    watches = [Watch(LEVELS[f"{row}-{level}"]) for level in ("warning", "critical")]
    for watch in watches:
        watch.look([minute(1, **{node: values})], DATE)
    return sum(watch.state is State.ALARM for watch in watches)


@pytest.mark.parametrize(
    ("metric", "is_emulated", "words"),
    [
        ("CurrConnections", True, ""),
        ("EngineCPUUtilization", False, ""),
        ("EngineCPUUtilization", True, "emulated nodes have no EngineCPUUtilization"),
        ("FreeableMemory", False, "there is no FreeableMemory here"),
        ("CurConnections", True, "there is no CurConnections here"),
    ],
)
def test_out_of_reach(metric: str, is_emulated: bool, words: str) -> None:
    """A running topology tells which alarms have no data; if that is a breach, they do fire."""
    alarm = dataclasses.replace(ALARM, queries={"m1": Query(metric)}, threshold=50)
    found = out_of_reach(alarm, is_emulated=is_emulated)
    assert found.startswith(words)
    assert bool(found) == bool(words)
    breaching = dataclasses.replace(alarm, missing="breaching")
    assert not out_of_reach(breaching, is_emulated=is_emulated)


def test_metrics_exist() -> None:
    """Each alarm is about metrics that its engine has."""
    for alarm in (*DEFAULTS.values(), *LEVELS.values()):
        assert all(find(alarm.service, it) for it in alarm.metrics), alarm.name
