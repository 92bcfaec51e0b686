"""The architecture's thresholds and alarms, as values. Source: its section "Monitoring"."""

from collections.abc import Iterator
from typing import NamedTuple

from cachesim.elasticache import MAX_CONNECTIONS
from cachesim.monitoring.alarms import Alarm, Level, Query
from cachesim.monitoring.expressions import expression
from cachesim.monitoring.states import State
from cachesim.topology import Service, Topology

NODE_TYPE = "r6g.large"


class Threshold(NamedTuple):
    """A row of the table.

    Attributes:
        name: for names of alarms.
        metrics: what it is about, by engine: metric math, whose ids are metrics.
        is_upper: whether high values are bad.
        warning, critical: in the metric's unit.
    """

    name: str
    metrics: dict[Service, str]
    is_upper: bool
    warning: float
    critical: float


MEMORY_OF_MEMCACHED = "100 * BytesUsedForCacheItems / (BytesUsedForCacheItems + UnusedMemory)"
HIT_RATE_OF_MEMCACHED = "100 * GetHits / (GetHits + GetMisses)"
"""Metric math for what has no metric."""
_CONNECTIONS = f"CurrConnections * {MAX_CONNECTIONS} / MaxConnections"
"""Connections as they would be if this server took as many as ElastiCache's."""

THRESHOLDS = (
    # One thread runs the commands of Redis; those of Memcached have all processors.
    Threshold(
        "cpu",
        {Service.REDIS: "EngineCPUUtilization", Service.MEMCACHED: "CPUUtilization"},
        True, 60, 80,
    ),
    Threshold(
        "memory",
        {
            Service.REDIS: "DatabaseMemoryUsagePercentage",
            Service.MEMCACHED: MEMORY_OF_MEMCACHED,
        },
        True, 70, 85,
    ),
    Threshold(
        "hit-rate",
        {
            Service.REDIS: "CacheHitRate",
            Service.MEMCACHED: HIT_RATE_OF_MEMCACHED,
        },
        False, 80, 60,
    ),
    Threshold(
        "evictions", {Service.REDIS: "Evictions", Service.MEMCACHED: "Evictions"}, True, 100, 1000
    ),
    Threshold(
        "connections",
        {Service.REDIS: _CONNECTIONS, Service.MEMCACHED: _CONNECTIONS},
        True, 50_000, 60_000,
    ),
    Threshold("replication-lag", {Service.REDIS: "ReplicationLag"}, True, 1, 5),
)  # fmt: skip
"""The table of key metrics."""


def nodes_of(topology: Topology, service: Service) -> tuple[str, ...]:
    """Return the names of an engine's nodes."""
    return tuple(node.name for node in topology.nodes if node.service is service)


def thresholds(topology: Topology) -> Iterator[Alarm]:
    """Return an alarm without actions for each threshold of each engine, over one minute."""
    for row in THRESHOLDS:
        for service, math in row.metrics.items():
            levels: tuple[tuple[Level, float], ...] = (
                ("warning", row.warning),
                ("critical", row.critical),
            )
            for level, threshold in levels:
                yield Alarm(
                    f"{service}-{row.name}-{level}",
                    service,
                    nodes_of(topology, service),
                    _queries(math),
                    math,
                    "GreaterThanThreshold" if row.is_upper else "LessThanThreshold",
                    threshold,
                    period=60,
                    description=_scaled(threshold) if row.name == "connections" else "",
                    level=level,
                )


def _scaled(threshold: float) -> str:
    return (
        f"{threshold:g} connections of {MAX_CONNECTIONS}, scaled to the limit of each node: "
        f"{threshold / MAX_CONNECTIONS:.0%} of what it takes."
    )


def _queries(math: str) -> dict[str, Query]:
    return {name: Query(name) for name in expression(math).names}


def alarms(topology: Topology) -> Iterator[Alarm]:
    """Return the alarms of the architecture's file."""
    for name, service, metric, threshold, to in (
        ("redis-cpu-high", Service.REDIS, "CPUUtilization", 80, "PagerDuty"),
        ("memcached-evictions", Service.MEMCACHED, "Evictions", 1000, "Slack"),
        ("redis-memory-high", Service.REDIS, "DatabaseMemoryUsagePercentage", 85, "PagerDuty"),
    ):
        yield Alarm(
            name,
            service,
            nodes_of(topology, service),
            {"m1": Query(metric)},
            "m1",
            "GreaterThanThreshold",
            threshold,
            actions={State.ALARM: (to,), State.OK: (to,)},
        )
