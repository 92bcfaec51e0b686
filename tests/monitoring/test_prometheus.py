"""The endpoint for Prometheus, as a client of HTTP sees it."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any, cast

import pytest

from cachesim.errors import CachesimError, NotRunning
from cachesim.monitoring.metrics import METRICS
from cachesim.monitoring.prometheus import Exposition, metric_name, serving
from tests.monitoring.play import TOPOLOGY, minute

pytest.importorskip("prometheus_client")
DASHBOARD = Path(__file__).parents[2] / "examples/monitoring/grafana/cachesim.json"
DATA = {
    "since": 0.0,
    "metrics": {
        "redis-a": {"CacheHitRate": "Percent", "Evictions": "Count"},
        "memcached-b": {"Evictions": "Count"},
    },
    "minutes": [
        minute(1, redis_a={"CacheHitRate": 1}).as_dict(),
        {
            **minute(2, redis_a={"CacheHitRate": 90}, memcached_b={"Evictions": 7}).as_dict(),
            "links": {"b-to-redis-a": [5000.0, 5000.0, 5000.0, 60]},
        },
    ],
}
ALARMS = [{"name": "an-alarm", "state": "ALARM"}]


def scraped(read: Any) -> str:
    """What Prometheus gets."""
    with (
        serving(Exposition("t", TOPOLOGY, read), 0) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer,
    ):
        return cast(bytes, answer.read()).decode()


def test_scraped() -> None:
    """The last minute is there with the dimensions, and what has no data is not."""
    text = scraped(lambda: (DATA, ALARMS))
    labels = 'cache_cluster_id="t-0001-001",cache_node_id="0001",node="redis-a",zone="a"'
    assert f"aws_elasticache_cache_hit_rate_average{{{labels}}} 90.0" in text
    labels = 'cache_cluster_id="t",cache_node_id="0002",node="memcached-b",zone="b"'
    assert f"aws_elasticache_evictions_sum{{{labels}}} 7.0" in text
    labels = 'link="b-to-redis-a",target="redis-a",target_zone="a",zone="b"'
    assert f"cachesim_cross_zone_bytes{{{labels}}} 5000.0" in text
    assert text.count("cachesim_cross_zone_bytes{") == 1
    assert "cache_hit_rate_sum" not in text
    assert 'evictions_sum{cache_cluster_id="t-0001' not in text
    assert 'cachesim_alarm_state{alarm="an-alarm",state="ALARM"} 1.0' in text
    assert 'cachesim_alarm_state{alarm="an-alarm",state="OK"} 0.0' in text


def test_topology_is_gone() -> None:
    """Without a topology there are no samples: no old values."""

    def fail() -> Any:
        raise NotRunning("it is down")

    assert "aws_elasticache" not in scraped(fail)


def test_taken_port() -> None:
    """A port that is taken is told."""
    it = Exposition("t", TOPOLOGY, lambda: (cast(Any, DATA), cast(Any, ALARMS)))
    with serving(it, 0) as port, pytest.raises(CachesimError, match=str(port)), serving(it, port):
        pass


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("CPUUtilization", "aws_elasticache_cpuutilization_average"),
        ("EngineCPUUtilization", "aws_elasticache_engine_cpuutilization_average"),
        (
            "DatabaseMemoryUsagePercentage",
            "aws_elasticache_database_memory_usage_percentage_average",
        ),
        ("CurrConnections", "aws_elasticache_curr_connections_average"),
    ],
)
def test_names(metric: str, name: str) -> None:
    """Names are as CloudWatch exporters make them."""
    assert metric_name(metric, "average") == name


def test_dashboard() -> None:
    """Each metric that the dashboard asks for is one that the endpoint has."""
    known = {
        metric_name(metric.name, statistic)
        for some in METRICS.values()
        for metric in some
        for statistic in ("average", "minimum", "maximum", "sum")
    }
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {name for query in queries for name in re.findall(r"\b(?:aws|cachesim)_\w+", query)}
    assert used - {"cachesim_alarm_state"} <= known
    assert len(used) >= 8
