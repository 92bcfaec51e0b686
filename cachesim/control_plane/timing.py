"""The durations of a failover's phases."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cachesim.settings import Settings

PROBE_TIMEOUT = 0.25
"""Seconds, at most, after which a probe counts as unanswered, if all nodes answer quickly."""
INTERVAL = 0.05
"""Seconds between two probes of a node by default."""


@dataclass(frozen=True)
class Timing:
    """The durations of the phases, in seconds at speed 1, and the speed."""

    detection: tuple[float, float]
    promotion: tuple[float, float]
    replacement: tuple[float, float]
    node_timeout: float
    speed: float = 1.0
    dns_ttl: tuple[float, float] = (5.0, 60.0)

    @classmethod
    def of(cls, settings: "Settings") -> "Timing":
        """Return the timing that the settings describe."""
        return cls(
            settings.detection_seconds,
            settings.promotion_seconds,
            settings.replacement_seconds,
            settings.node_timeout_seconds,
            settings.speed,
            settings.dns_ttl_seconds,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Timing":
        """Return the timing that `as_dict` described."""
        values: dict[str, Any] = dict(data)
        for span in ("detection", "promotion", "replacement", "dns_ttl"):
            low, high = values[span]
            values[span] = (low, high)
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    def as_settings(self) -> dict[str, Any]:
        """Return the settings that describe it, by name."""
        return {
            "detection_seconds": self.detection,
            "promotion_seconds": self.promotion,
            "replacement_seconds": self.replacement,
            "node_timeout_seconds": self.node_timeout,
            "speed": self.speed,
        }

    @property
    def probe_interval(self) -> float:
        """Seconds between probes, a tenth of the shortest failover, from 0.05 to 0.25.

        More frequent probes than needed keep a laptop's processor busy.
        """
        shortest = (self.detection[0] + self.promotion[0]) / self.speed
        return min(max(INTERVAL, shortest / 10), 5 * INTERVAL)

    @property
    def probe_timeout(self) -> float:
        """Seconds until a silent node counts as unreachable, below the shortest detection."""
        return min(PROBE_TIMEOUT, self.detection[0] / self.speed / 2)

    @property
    def longest_failover(self) -> float:
        """The longest time from the loss of a primary to the promotion of a replica, in seconds."""
        return (self.detection[1] + self.promotion[1]) / self.speed

    def draw(self, draws: random.Random, span: tuple[float, float]) -> float:
        """Draw a duration from one of the ranges; return it in seconds at the present speed."""
        return draws.uniform(*span) / self.speed
