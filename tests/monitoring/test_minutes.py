"""The datapoints of a minute, from readings of servers that are not there."""

import pytest

from cachesim.monitoring.datapoints import Datapoint, Minute
from cachesim.monitoring.metrics import METRICS, Count, Gauge, Metric, Share, Values, fields
from cachesim.monitoring.minutes import FEWEST, Collector
from cachesim.topology import Service

NODE = "redis-a"
GAUGE = Metric(
    "Share of memory", "Percent", Gauge(("used",), minus=("own",), per=("max",), factor=100)
)
COUNT = Metric("Evictions", "Count", Count(("evicted",)))
RATE = Metric("Hit rate", "Percent", Share(("hits",), per=("hits", "misses")))
CPU = Metric("CPU", "Percent", Share(("user", "sys"), factor=50))


def collected(*samples: Values, seconds: float = 60.0, begin: float = 0.0) -> dict[str, Datapoint]:
    """The datapoints of a minute with these readings, a second apart."""
    return minutes([list(samples)], seconds, begin)[0]


def minutes(
    some: list[list[Values]], seconds: float = 60.0, begin: float = 0.0
) -> list[dict[str, Datapoint]]:
    """The datapoints of minutes with these readings, a second apart."""
    collector = Collector({NODE: (GAUGE, COUNT, RATE, CPU)})
    found, at = [], begin
    for samples in some:
        for values in samples:
            collector.add(NODE, at, values)
            at += 1
        found.append(collector.close(seconds).get(NODE, {}))
    return found


def test_gauge() -> None:
    """A gauge is the mean of the readings, with the lowest and the highest."""
    found = collected(*({"used": it, "own": 10, "max": 1000} for it in (110, 210, 610)))
    assert found["Share of memory"] == Datapoint(30, 10, 60, 3)


def test_less_than_nothing() -> None:
    """What is subtracted was counted later, and may be more: then nothing is left."""
    found = collected(*({"used": it, "own": 10, "max": 1000} for it in (9, 10, 40)))
    assert found["Share of memory"] == Datapoint(1, 0, 3, 3)


def test_without_a_limit() -> None:
    """What is divided by zero is missing."""
    assert "Share of memory" not in collected(*[{"used": 1, "own": 0, "max": 0}] * 3)


def test_count() -> None:
    """A counter is what it grew by since the last reading of the minute before."""
    one: list[Values] = [{"evicted": it} for it in (5, 6, 8)]
    other: list[Values] = [{"evicted": it} for it in (9, 9, 20)]
    first, second = minutes([one, other])
    assert (first["Evictions"].value, second["Evictions"].value) == (3, 12)


def test_count_at_a_speed() -> None:
    """What is counted in 2 s is that of a minute of production: thirty times as much."""
    assert collected(*({"evicted": it} for it in (0, 1, 2)), seconds=2.0)["Evictions"].value == 60


@pytest.mark.parametrize("uptime", [{}, {"uptime": 1}])
def test_count_of_a_new_process(uptime: Values) -> None:
    """A process that began anew counts from 0, also if it is soon beyond the one before."""
    before = {"evicted": 50, "uptime": 90} if uptime else {"evicted": 50}
    after = {"evicted": 60, **uptime} if uptime else {"evicted": 7}
    found = collected(before, before, after)
    assert found["Evictions"].value == after["evicted"]


@pytest.mark.parametrize("after", [(7000, 7010, 7020), (0, 7010, 7020)])
def test_offset_of_a_new_process(after: tuple[int, ...]) -> None:
    """A replica takes the offset over from its primary: it was not sent all of that now."""
    collector = Collector({NODE: METRICS[Service.REDIS]})
    for at, (offset, uptime) in enumerate([(6000, 90), *zip(after, range(3), strict=True)]):
        collector.add(NODE, at, {"master_repl_offset": offset, "uptime": uptime})
    grown = {7000: 20, 0: 10}[after[0]]
    assert collector.close(60.0)[NODE]["ReplicationBytes"].value == grown


def test_count_after_a_gap() -> None:
    """What a counter grew by while nobody read it is not a minute's."""
    first: list[Values] = [{"evicted": 0}] * 3
    last: list[Values] = [{"evicted": it} for it in (900, 901, 902)]
    found = minutes([first, [], last])
    assert found[1] == {}
    assert found[2]["Evictions"].value == 2


def test_too_few_readings() -> None:
    """With fewer readings than are needed, there is no data, and no old value."""
    whole: list[Values] = [
        {"used": 5, "own": 0, "max": 10, "evicted": 1, "user": 1, "sys": 1}
    ] * FEWEST
    first, second = minutes([whole, whole[1:]])
    assert {"Share of memory", "Evictions", "CPU"} <= first.keys()
    assert second == {}


def test_share() -> None:
    """A hit rate is of the minute, and missing without any reads."""
    before: Values = {"hits": 90, "misses": 10}
    after: Values = {"hits": 93, "misses": 11}
    found = minutes([[before] * 3, [after] * 3])
    assert "Hit rate" not in found[0]
    assert found[1]["Hit rate"].value == 75


def test_share_of_time() -> None:
    """Processor time is a share of the real time between the readings, at any speed."""
    found = collected(*({"user": it * 0.5, "sys": it * 0.1} for it in range(4)), seconds=2)
    assert found["CPU"].value == pytest.approx(30)


def test_error_counter_begins_late() -> None:
    """Redis has no counter of an error before the first one; that one counts."""
    collector = Collector({NODE: METRICS_OF_ERRORS})
    for at, values in enumerate([{"x": 1}, {"x": 1}, {"errorstat_WRONGPASS": 4}]):
        collector.add(NODE, at, values)
    assert collector.close(60)[NODE]["AuthenticationFailures"].value == 4


METRICS_OF_ERRORS = tuple(
    it for some in METRICS.values() for it in some if it.name == "AuthenticationFailures"
)


def test_fields() -> None:
    """The reader is told all that the metrics are made of."""
    for service, some in METRICS.items():
        for metric in some:
            if isinstance(metric.source, Gauge):
                assert {*metric.source.of, *metric.source.per} <= fields(service)


def test_as_json() -> None:
    """A minute is the same after a way through JSON."""
    point = Datapoint(1, 1, 1, 60)
    it = Minute(3, 1.0, 61.0, {NODE: {"Evictions": point}}, {"b-to-redis-a": point})
    assert Minute.from_dict(it.as_dict()) == it
