"""Monitoring in memory: minutes made by hand, and a monitor on a clock of its own."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from cachesim.clock import ManualClock
from cachesim.events import EventLog
from cachesim.monitoring.alarms import Alarm, Change, Watch
from cachesim.monitoring.datapoints import Datapoint, Minute
from cachesim.monitoring.messages import Message
from cachesim.monitoring.monitor import LOOK, Monitor
from cachesim.runs.calls import Reading
from cachesim.topology import production

DATE = datetime(2026, 1, 1, tzinfo=UTC)
TOPOLOGY = production()


def minute(number: int, **values: Mapping[str, float]) -> Minute:
    """A minute with values by node, whose dashes are underscores, and by metric."""
    nodes = {
        node.replace("_", "-"): {name: Datapoint(it, it, it, 60) for name, it in some.items()}
        for node, some in values.items()
    }
    return Minute(number, 60.0 * number, 60.0 * (number + 1), nodes)


def looks(alarm: Alarm, metric: str, values: Iterable[float | None]) -> list[Change | None]:
    """What an alarm makes of a metric of redis-a, minute after minute; None: missing."""
    watch, minutes = Watch(alarm), []
    found = []
    for number, value in enumerate(values):
        minutes.append(minute(number, redis_a={} if value is None else {metric: value}))
        found.append(watch.look(minutes[-alarm.minutes :], DATE))
    return found


class Play:
    """A monitor whose clock moves when it is told to, over servers that say what they are told.

    Attributes:
        values: what each node says; one that is not there does not answer.
        offsets: when each Redis node told its offset, and the offset.
        passed: the bytes that links have handed on.
        forwarded: the messages that were passed on.
        reads: how often the servers were read.
    """

    def __init__(
        self, alarms: Iterable[Alarm] = (), speed: float = 1.0, events_to: tuple[str, ...] = ()
    ) -> None:
        self.clock = ManualClock(1000.0)
        self.events = EventLog(self.clock)
        self.speed = speed
        self.values: dict[str, dict[str, float]] = {}
        self.offsets: dict[str, tuple[float, int]] = {}
        self.passed: dict[str, int] = {}
        self.primary = "redis-a"
        self.forwarded: list[Message] = []
        self.reads = 0
        self.monitor = Monitor(
            "t",
            TOPOLOGY,
            alarms,
            self.events,
            read=self._read,
            offsets=lambda: self.offsets,
            primaries=lambda: {"0001": self.primary},
            speed=lambda: self.speed,
            link_bytes=lambda: dict(self.passed),
            forward=self.forwarded.append,
            events_to=events_to,
            clock=self.clock,
        )

    def run(self, seconds: float) -> None:
        """Let real time pass."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.advance(min(LOOK, 1 / self.speed))
            self.monitor.tick()

    def _read(self) -> dict[str, Reading]:
        self.reads += 1
        return {
            node: {"at": self.clock.now, "took": 0.0, "own_connections": 1, "values": dict(values)}
            for node, values in self.values.items()
        }
