"""Toxiproxy's toxics: their names, their attributes and what is valid.

Attributes and units as in Toxiproxy 2.12 (https://github.com/Shopify/toxiproxy#toxics).
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import ClassVar


class Stream(StrEnum):
    """The direction that a toxic works on: to the server, or back from it."""

    UPSTREAM = "upstream"
    DOWNSTREAM = "downstream"


BOTH = (Stream.UPSTREAM, Stream.DOWNSTREAM)


@dataclass(frozen=True)
class Toxic:
    """Base of all toxics. Every attribute is a whole number, at least 0.

    Raises:
        ValueError: an attribute is out of range.
    """

    type: ClassVar[str]

    def __post_init__(self) -> None:
        for name, value in self.attributes.items():
            if value < 0:
                raise ValueError(f"{self.type}: {name} must not be negative, got {value}")

    @property
    def neutral(self) -> "Toxic | None":
        """A toxic of this type that lets everything through and can be set while data flows.

        None if there is none. Bandwidth has none: a real Toxiproxy 2.12 can crash when the rate of
        a connection that is held back is raised.
        """
        return None

    @property
    def attributes(self) -> dict[str, int]:
        """The attributes as Toxiproxy's API takes them."""
        return asdict(self)


@dataclass(frozen=True)
class Latency(Toxic):
    """Delay all data by `latency` ± `jitter` milliseconds."""

    type: ClassVar[str] = "latency"
    latency: int
    jitter: int = 0

    @property
    def neutral(self) -> "Latency":
        """No delay."""
        return Latency(0, 0)


@dataclass(frozen=True)
class Bandwidth(Toxic):
    """Limit to `rate` kilobytes a second. A rate of 0 holds all data back until it is removed."""

    type: ClassVar[str] = "bandwidth"
    rate: int


@dataclass(frozen=True)
class SlowClose(Toxic):
    """Pass a close on only after `delay` milliseconds."""

    type: ClassVar[str] = "slow_close"
    delay: int

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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.average_size == 0:
            # A real Toxiproxy 2.12 recurses for ever.
            raise ValueError("slicer: average_size must be above 0")
        if self.size_variation >= self.average_size:
            raise ValueError("slicer: size_variation must be below average_size")


@dataclass(frozen=True)
class LimitData(Toxic):
    """Close a connection after `bytes` bytes."""

    type: ClassVar[str] = "limit_data"
    bytes: int
