"""Makes the datapoints of a minute from readings. Pure: no clock, no I/O.

A node with fewer than `FEWEST` readings in a minute has no data in it. So a dead node has none, and
a counter never grows by what an earlier process of the server has counted.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cachesim.monitoring.datapoints import Datapoint
from cachesim.monitoring.metrics import Count, Gauge, Metric, Share, Values

FEWEST = 3
"""The readings that a datapoint needs at least."""
MINUTE = 60.0
"""Seconds of production."""


_ADOPTED = "master_repl_offset"
"""The counter that does not begin at 0: a replica takes it over from its primary."""


class _Sample(NamedTuple):
    at: float
    values: Values


class Collector:
    """Collects the readings of all nodes.

    Args:
        metrics: those of each node, by its name.
    """

    def __init__(self, metrics: Mapping[str, Iterable[Metric]]) -> None:
        self._metrics = {node: tuple(some) for node, some in metrics.items()}
        self._samples: dict[str, list[_Sample]] = {node: [] for node in metrics}
        self._before: dict[str, _Sample] = {}

    def add(self, node: str, at: float, values: Values) -> None:
        """Note a reading.

        Args:
            at: in monotonic seconds.
        """
        self._samples[node].append(_Sample(at, values))

    def latest(self, node: str) -> Values | None:
        """Return the last reading of this minute; None if there is none."""
        samples = self._samples[node]
        return samples[-1].values if samples else None

    def points(self, seconds: float) -> dict[str, dict[str, Datapoint]]:
        """Return the datapoints of the readings since the last `close`.

        Args:
            seconds: how long that was, real.
        """
        return {
            node: found
            for node, samples in self._samples.items()
            if (found := self._of_node(node, samples, seconds))
        }

    def close(self, seconds: float) -> dict[str, dict[str, Datapoint]]:
        """Return the datapoints of a minute that has ended, and begin the next one."""
        found = self.points(seconds)
        # Counters go on from the minute before, not from one before a gap.
        self._before = {node: it[-1] for node, it in self._samples.items() if it}
        self._samples = {node: [] for node in self._metrics}
        return found

    def _of_node(self, node: str, samples: list[_Sample], seconds: float) -> dict[str, Datapoint]:
        if len(samples) < FEWEST or seconds <= 0:
            return {}
        before = self._before.get(node)
        chain = samples if before is None else [before, *samples]
        found = {}
        for metric in self._metrics[node]:
            point = _point(metric, samples, chain, seconds)
            if point is not None:
                found[metric.name] = point
        return found


def _point(
    metric: Metric, samples: list[_Sample], chain: list[_Sample], seconds: float
) -> Datapoint | None:
    match metric.source:
        case Gauge() as source:
            values = [it for s in samples if (it := source.value(s.values)) is not None]
            if len(values) < FEWEST:
                return None
            mean = sum(values) / len(values)
            return Datapoint(mean, min(values), max(values), len(values))
        case Count() as source:
            grown = _growth(chain, source.names(chain[-1].values))
            value = None if grown is None else grown * MINUTE / seconds
        case Share(of, per, factor):
            grown = _growth(chain, of)
            whole = _growth(chain, per) if per else chain[-1].at - chain[0].at
            value = factor * grown / whole if grown is not None and whole else None
    return None if value is None else Datapoint(value, value, value, len(samples))


def _growth(chain: list[_Sample], names: tuple[str, ...]) -> float | None:
    """Return by how much counters grew; None if one is not told."""
    grown = 0.0
    for name in names:
        # Redis tells of a kind of error only once there was one.
        least = 0.0 if name.startswith("errorstat_") else None
        last: float | None = None
        values: Values = {}
        for sample in chain:
            now = sample.values.get(name, least)
            if now is None:
                continue
            if last is not None:
                begun_anew = _is_new(values, sample.values) or now < last
                if name != _ADOPTED:
                    grown += now if begun_anew else now - last
                elif last and not begun_anew:
                    grown += now - last
            last, values = now, sample.values
        if last is None:
            return None
    return grown


def _is_new(before: Values, now: Values) -> bool:
    """Return whether the server's process is another one."""
    return now.get("uptime", 0) < before.get("uptime", 0)
