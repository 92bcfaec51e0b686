"""Toxiproxy's toxics: their names, their attributes and the valid values.

Attributes and units as in Toxiproxy 2.12 (https://github.com/Shopify/toxiproxy#toxics).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Stream(StrEnum):
    """The direction that a toxic works on: to the server, or back from it."""

    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"


MS_MAX = (2**63 - 1) // 10**6
"""The most milliseconds that Toxiproxy can count, with nanoseconds in 64 bits.

A longer latency becomes negative there and has no effect. A longer jitter crashes Toxiproxy.
"""
TOXICITY_MIN = 1e-6
"""The smallest share of connections, one in a million."""
_CHUNK = 32 * 1024
"""Bytes that a real Toxiproxy takes at a time, and the slicer cuts."""

BOTH = (Stream.UPSTREAM, Stream.DOWNSTREAM)


@dataclass(frozen=True)
class Toxic:
    """Base of all toxics. Every attribute is a whole number, at least 0 but for those in `signed`.

    Raises:
        ValueError: an attribute is not such a number.
    """

    type: ClassVar[str]
    largest: ClassVar[int] = MS_MAX
    signed: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name, value in self.attributes.items():
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{self.type}: {name} must be a whole number, got {value!r}")
            if value < 0 and name not in self.signed:
                raise ValueError(f"{self.type}: {name} must not be negative, got {value}")

    def check_effect(self) -> None:
        """Check that a toxic has an effect and does not crash a real Toxiproxy.

        Toxiproxy's own API does not check it.

        Raises:
            ValueError: an attribute is out of bounds; the message has the bounds.
        """
        for name, value in self.attributes.items():
            if value > self.largest:
                raise ValueError(f"{self.type}: {name} must be at most {self.largest}, got {value}")

    @property
    def neutral(self) -> "Toxic | None":
        """A toxic of this type that lets everything through, or None if there is none.

        It can be set while data flows. Bandwidth has none: a real Toxiproxy 2.12 can crash when the
        rate of a connection that is held back is raised.
        """
        return None

    @property
    def backdates(self) -> bool:
        """Whether it makes data look older than it is to the latencies behind it in a chain.

        A latency counts from the time at which data left the stage before, and sets that time back
        if its own delay was below 0. So such a toxic has to come after all other latencies.
        """
        return False

    @property
    def attributes(self) -> dict[str, int]:
        """The attributes as Toxiproxy's API takes them."""
        return dict(vars(self))


@dataclass(frozen=True)
class Latency(Toxic):
    """Delay all data by `latency` ± `jitter` milliseconds. A delay below 0 is none: see `loss`."""

    type: ClassVar[str] = "latency"
    signed: ClassVar[tuple[str, ...]] = ("latency",)
    latency: int
    jitter: int = 0

    def check_effect(self) -> None:
        """See `Toxic.check_effect`."""
        super().check_effect()
        if self.latency < 0:
            raise ValueError(f"latency: latency must not be negative, got {self.latency}")
        if self.latency + self.jitter > MS_MAX:
            raise ValueError(
                f"latency: latency and jitter must be at most {MS_MAX} together, "
                f"got {self.latency} and {self.jitter}"
            )
        if self.latency == self.jitter == 0:
            raise ValueError("latency: latency or jitter must be at least 1 ms, both are 0")

    @property
    def neutral(self) -> "Latency":
        """No delay."""
        return Latency(0, 0)

    @property
    def backdates(self) -> bool:
        """See `Toxic.backdates`."""
        return self.latency < self.jitter


def loss(share: float, ms: int) -> Latency:
    """Return the latency that delays a share of the data, and lets the rest through at once.

    Toxiproxy has no toxic for that, but its latency draws a delay for each piece of data, evenly
    from `latency - jitter` to `latency + jitter`, and a delay below 0 is none.

    Args:
        share: of the pieces of data, above 0 and up to 1.
        ms: the mean delay of those that are late. The longest is twice that.
    """
    jitter = max(ms, round(ms / share))
    return Latency(2 * ms - jitter, jitter)


@dataclass(frozen=True)
class Bandwidth(Toxic):
    """Limit to `rate` kilobytes a second. A rate of 0 holds all data back until it is removed."""

    type: ClassVar[str] = "bandwidth"
    # A link without a toxic is slower than that. Far above it, a real Toxiproxy 2.12 crashes.
    largest: ClassVar[int] = 10**7
    rate: int


@dataclass(frozen=True)
class SlowClose(Toxic):
    """Delay the close of a connection by `delay` milliseconds."""

    type: ClassVar[str] = "slow_close"
    delay: int

    def check_effect(self) -> None:
        """See `Toxic.check_effect`."""
        super().check_effect()
        if self.delay == 0:
            raise ValueError("slow_close: delay must be at least 1 ms, got 0")

    @property
    def neutral(self) -> "SlowClose":
        """No delay."""
        return SlowClose(0)


@dataclass(frozen=True)
class Timeout(Toxic):
    """Drop all data and close after `timeout` milliseconds without any; with 0, never close."""

    type: ClassVar[str] = "timeout"
    timeout: int


@dataclass(frozen=True)
class ResetPeer(Toxic):
    """Reset the connection `timeout` milliseconds after its first data."""

    type: ClassVar[str] = "reset_peer"
    timeout: int = 0


@dataclass(frozen=True)
class Slicer(Toxic):
    """Cut data into pieces of about `average_size` bytes, `delay` microseconds apart."""

    type: ClassVar[str] = "slicer"
    average_size: int
    size_variation: int = 0
    delay: int = 0

    def check_effect(self) -> None:
        """See `Toxic.check_effect`."""
        super().check_effect()
        if self.delay == 0 and self.average_size + self.size_variation >= _CHUNK:
            raise ValueError(
                f"slicer: without delay, average_size and size_variation must be below {_CHUNK} "
                f"together (data comes in chunks of that size), got {self.average_size} and "
                f"{self.size_variation}"
            )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.average_size == 0:
            # A real Toxiproxy 2.12 recurses for ever.
            raise ValueError("slicer: average_size must be above 0")
        if self.size_variation >= self.average_size:
            raise ValueError(
                f"slicer: size_variation must be below average_size, got {self.size_variation} "
                f"and {self.average_size}"
            )


@dataclass(frozen=True)
class LimitData(Toxic):
    """Close a connection after `bytes` bytes."""

    type: ClassVar[str] = "limit_data"
    largest: ClassVar[int] = 2**63 - 1
    bytes: int


TOXICS: tuple[type[Toxic], ...] = (
    Latency,
    Bandwidth,
    SlowClose,
    Timeout,
    ResetPeer,
    Slicer,
    LimitData,
)
"""All types of toxics."""
