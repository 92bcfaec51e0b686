"""The figures of servers: shares, rates and lags from their readings."""

from typing import Any

from cachesim.dashboard.figures import figures
from cachesim.monitoring.datapoints import Datapoint
from cachesim.runs.calls import Reading, Readings


def reading(at: float = 0.0, **values: Any) -> Reading:
    """A reading of one node."""
    usual = {
        "used_memory": 25, "max_memory": 100, "connections": 7, "keys": 3, "evicted_keys": 10,
    }  # fmt: skip
    return {"at": at, "took": 0.0, "own_connections": 2, "values": {**usual, **values}}


def of(**nodes: Reading) -> Readings:
    """Readings of nodes, by name."""
    return {"nodes": nodes, "heard": {}}


def test_shares_and_counts() -> None:
    """Memory is in percent, and connections are those of clients."""
    found = figures(of(memcached=reading()))["memcached"]
    assert (found["memory"], found["connections"], found["keys"]) == (25, 5, 3)
    assert (found["evictions"], found["lag"], found["cpu"], found["hit_rate"]) == (None,) * 4


def test_rates() -> None:
    """What is counted is told by the second, and not across a new process."""
    before = of(x=reading(10), y=reading(10))
    now = of(x=reading(12, evicted_keys=40), y=reading(12, evicted_keys=0))
    found = figures(now, before)
    assert (found["x"]["evictions"], found["y"]["evictions"]) == (15, None)


def test_lag() -> None:
    """A replica is behind the primary by the bytes that it lacks; a dead primary tells nothing."""
    nodes = {"p": reading(offset=900), "r": reading(offset=400), "m": reading()}
    found = figures(of(**nodes), primary="p")
    assert [found[name]["lag"] for name in "prm"] == [None, 500, None]
    del nodes["p"]
    assert figures(of(**nodes), primary="p")["r"]["lag"] is None


def test_of_the_minute() -> None:
    """Hit rates and processors come from the metrics."""
    minute = {
        "redis": {"CacheHitRate": _point(80), "EngineCPUUtilization": _point(7)},
        "memcached": {"GetHits": _point(30), "GetMisses": _point(10)},
        "idle": {"GetHits": _point(0), "GetMisses": _point(0)},
    }
    found = figures(of(**{name: reading() for name in minute}), minute=minute)
    assert [it["hit_rate"] for it in found.values()] == [80, 75, None]
    assert found["redis"]["cpu"] == 7


def _point(value: float) -> Datapoint:
    return Datapoint(value, value, value, 3)
