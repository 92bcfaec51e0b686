"""Datapoints: what is kept of each metric of each minute. Data, no I/O.

A minute is one of production: at speed 30 it lasts 2 s.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

CROSS_ZONE_BYTES = "CrossZoneBytes"
"""The name of the metric of a link between zones. CloudWatch does not have it."""


class Datapoint(NamedTuple):
    """A metric in one minute.

    Attributes:
        value: as CloudWatch has it: the mean of a gauge, the count of a minute of production.
        minimum: the lowest reading of a gauge; of all else, `value`.
        maximum: the highest reading of a gauge; of all else, `value`.
        samples: how many readings it is made of.
    """

    value: float
    minimum: float
    maximum: float
    samples: int


Points = Mapping[str, Mapping[str, Datapoint]]
"""Datapoints by node, then by metric."""


@dataclass(frozen=True)
class Minute:
    """All datapoints of a minute. What is not there is missing data.

    Attributes:
        number: from 1, without gaps.
        begin: in monotonic seconds, as the events' times.
        end: in monotonic seconds.
        nodes: datapoints by node, then by metric.
        links: the bytes that crossed zones, by link. Other links are not there.
    """

    number: int
    begin: float
    end: float
    nodes: Points
    links: Mapping[str, Datapoint] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "number": self.number,
            "begin": self.begin,
            "end": self.end,
            "nodes": {node: dict(points) for node, points in self.nodes.items()},
            "links": dict(self.links),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the minute that `as_dict` described."""
        nodes = {
            node: {metric: Datapoint(*values) for metric, values in points.items()}
            for node, points in data["nodes"].items()
        }
        links = {link: Datapoint(*values) for link, values in data["links"].items()}
        return cls(data["number"], data["begin"], data["end"], nodes, links)
