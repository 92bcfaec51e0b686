"""What the servers say of themselves, as figures for people. Pure."""

from collections.abc import Mapping
from typing import TypedDict

from cachesim.monitoring.datapoints import Datapoint, Points
from cachesim.runs.calls import Reading, Readings


class Figures(TypedDict):
    """The figures of one node."""

    memory: float | None
    """In percent of what it may use."""
    connections: float
    """Those of cachesim are left out."""
    keys: float
    cpu: float | None
    """In percent: of the engine's thread of Redis, of the machine of Memcached."""
    hit_rate: float | None
    """In percent; None: nobody has read."""
    evictions: float | None
    """A second, since the last reading."""
    lag: float | None
    """Bytes that a replica is behind the primary; None for all others."""


def figures(
    now: Readings,
    before: Readings | None = None,
    primary: str | None = None,
    minute: Points | None = None,
) -> dict[str, Figures]:
    """Return the figures of each node that answered, by its name.

    Args:
        before: the readings before, for what is counted by the second.
        primary: the present primary's name.
        minute: the datapoints of the minute that has not ended.
    """
    nodes = now["nodes"]
    head = nodes.get(primary or "")
    old = {} if before is None else before["nodes"]
    points = minute or {}
    return {
        name: _of(name, it, old.get(name), head, primary, points.get(name, {}))
        for name, it in nodes.items()
    }


def _of(
    name: str,
    it: Reading,
    before: Reading | None,
    head: Reading | None,
    primary: str | None,
    points: Mapping[str, Datapoint],
) -> Figures:
    values = it["values"]
    lag = None
    if head is not None and name != primary and "offset" in values:
        lag = max(0.0, head["values"]["offset"] - values["offset"])
    return {
        "memory": _share(values),
        "connections": max(0.0, values["connections"] - it["own_connections"]),
        "keys": values["keys"],
        "cpu": _first(points, "EngineCPUUtilization", "CPUUtilization"),
        "hit_rate": _hit_rate(points),
        "evictions": None if before is None else _rate(it, before, "evicted_keys"),
        "lag": lag,
    }


def _first(points: Mapping[str, Datapoint], *names: str) -> float | None:
    return next((points[name].value for name in names if name in points), None)


def _hit_rate(points: Mapping[str, Datapoint]) -> float | None:
    if "GetHits" not in points or "GetMisses" not in points:
        return _first(points, "CacheHitRate")
    hits, misses = points["GetHits"].value, points["GetMisses"].value
    return 100 * hits / (hits + misses) if hits + misses else None


def _share(values: Mapping[str, float]) -> float | None:
    most = values["max_memory"]
    return 100 * values["used_memory"] / most if most else None


def _rate(it: Reading, before: Reading, name: str) -> float | None:
    seconds, grown = it["at"] - before["at"], it["values"][name] - before["values"][name]
    return grown / seconds if seconds > 0 and grown >= 0 else None  # else it began anew
