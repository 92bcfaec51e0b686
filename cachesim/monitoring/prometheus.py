"""The last minute's metrics for Prometheus, under the names that CloudWatch exporters give them.

`aws_elasticache_<metric>_<statistic>`, with the dimensions as labels. A metric without data has no
sample. And `cachesim_alarm_state`: 1 for the state that an alarm is in; and
`cachesim_cross_zone_bytes` of each link between zones.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from cachesim.errors import CachesimError
from cachesim.monitoring.notifications import node_ids
from cachesim.monitoring.states import State
from cachesim.runs.calls import AlarmStatus, MetricsData
from cachesim.topology import Topology

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

HOST = "127.0.0.1"
_LABELS = ("cache_cluster_id", "cache_node_id", "node", "zone")
_STATISTICS = ("average", "minimum", "maximum")


class Exposition:
    """Collects the metrics of a topology, as Prometheus's client wants it.

    Args:
        name: the topology's.
        read: returns the metrics, and the alarms.
    """

    def __init__(
        self,
        name: str,
        topology: Topology,
        read: Callable[[], tuple[MetricsData, list[AlarmStatus]]],
    ) -> None:
        self._name = name
        self._topology = topology
        self._read = read

    def collect(self) -> "Iterator[Family]":
        """Return the families. Without a topology that answers there are none."""
        from prometheus_client.core import GaugeMetricFamily

        try:
            data, alarms = self._read()
        except CachesimError:
            return
        families: dict[str, Any] = {}
        for node, points in data["minutes"][-1]["nodes"].items() if data["minutes"] else ():
            for metric, (value, least, most, _) in points.items():
                unit = data["metrics"][node][metric]
                some = dict(zip(_STATISTICS, (value, least, most), strict=True))
                if unit in ("Count", "Bytes"):
                    some["sum"] = value
                for statistic, number in some.items():
                    key = metric_name(metric, statistic)
                    if key not in families:
                        text = (
                            f"{metric} of AWS/ElastiCache, {statistic} of the last minute, {unit}"
                        )
                        families[key] = GaugeMetricFamily(key, text, labels=_LABELS)
                    families[key].add_metric(self._labels(node), number)
        yield from families.values()
        crossed = GaugeMetricFamily(
            "cachesim_cross_zone_bytes",
            "the bytes that a link between zones handed on in the last minute, in both directions",
            labels=("link", "zone", "target", "target_zone"),
        )
        links = data["minutes"][-1]["links"] if data["minutes"] else {}
        for link in self._topology.links:
            if link.name in links:
                labels = (link.name, link.source, link.target, link.target_zone)
                crossed.add_metric(labels, links[link.name][0])
        yield crossed
        states = GaugeMetricFamily(
            "cachesim_alarm_state", "1: the alarm is in this state", labels=("alarm", "state")
        )
        for alarm in alarms:
            for state in State:
                states.add_metric((alarm["name"], str(state)), float(alarm["state"] == state))
        yield states

    def _labels(self, name: str) -> tuple[str, ...]:
        node = self._topology.node(name)
        return (*node_ids(name, node.service, self._name), name, node.zone)


def metric_name(metric: str, statistic: str) -> str:
    """Return a metric's name: `CacheHitRate` is `aws_elasticache_cache_hit_rate_average`."""
    snake = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", metric).lower()
    return f"aws_elasticache_{snake}_{statistic}"


@contextlib.contextmanager
def serving(exposition: Exposition, port: int) -> Iterator[int]:
    """Serve `/metrics` on loopback inside the context, from a thread, and yield the port.

    Args:
        port: 0: a free one.

    Raises:
        CachesimError: the port is taken, or prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError as error:
        missing = "--prometheus needs prometheus-client: pip install 'cachesim[prometheus]'"
        raise CachesimError(missing) from error
    registry = CollectorRegistry(auto_describe=False)
    registry.register(exposition)
    try:
        server, thread = start_http_server(port, HOST, registry)
    except OSError as error:
        raise CachesimError(f"port {port} of {HOST}: {error.strerror}. Choose another.") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
