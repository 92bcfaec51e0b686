"""The monitoring of a running topology: `sim.metrics`, `sim.alarms` and `sim.inbox`.

The first use begins it, unless the setting `metrics` is `always`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import overload

from cachesim.errors import UnknownName
from cachesim.faults.named import unknown
from cachesim.monitoring.datapoints import CROSS_ZONE_BYTES, Datapoint, Minute
from cachesim.monitoring.messages import Message
from cachesim.runs.calls import MINUTES, AlarmStatus, Call, ChangeData, MetricsData
from cachesim.simulator.connection import Connection
from cachesim.topology import production

_NEVER = 2**53
"""The number of a minute that does not come."""


class Series:
    """One metric of one node or link, in minutes of production.

    Attributes:
        node: the name of the node, or of the link.
        name: the metric's, such as `CacheHitRate`.
        unit: such as `Percent`.
    """

    def __init__(self, metrics: "Metrics", node: str, name: str, unit: str) -> None:
        self._metrics = metrics
        self.node = node
        self.name = name
        self.unit = unit

    @property
    def latest(self) -> Datapoint | None:
        """The datapoint of the last minute; None: it has none, or no minute has ended."""
        minute = self._metrics.last()
        return None if minute is None else self._of(minute)

    def at(self, moment: float) -> Datapoint | None:
        """Return the datapoint of the minute in which a moment was; None: missing.

        Args:
            moment: in monotonic seconds, such as an event's `at`.
        """
        found = (it for it in self._metrics.minutes() if it.begin <= moment < it.end)
        return next(map(self._of, found), None)

    def between(self, begin: float, end: float) -> list[Datapoint]:
        """Return the datapoints of the minutes that overlap a time; missing ones are left out.

        Args:
            begin, end: in monotonic seconds.
        """
        minutes = (it for it in self._metrics.minutes() if it.begin < end and it.end > begin)
        return [it for it in map(self._of, minutes) if it is not None]

    def max(self, since: float = float("-inf")) -> float | None:
        """Return the highest reading; None if there are no datapoints.

        Args:
            since: only minutes that ended after it count, in monotonic seconds.
        """
        points = self.between(since, float("inf"))
        return max((it.maximum for it in points), default=None)

    def _of(self, minute: Minute) -> Datapoint | None:
        if self.name == CROSS_ZONE_BYTES:
            return minute.links.get(self.node)
        return minute.nodes.get(self.node, {}).get(self.name)

    def __repr__(self) -> str:
        return f"<Series {self.name} of {self.node}>"


class Metrics(Mapping[str, Mapping[str, Series]]):
    """The metrics of all nodes under their CloudWatch names: `sim.metrics["redis-a"]["Evictions"]`.

    Times are monotonic seconds, as the events' times. Data is missing where a node did not answer.
    Every method raises NotRunning if the topology does not run, or belongs to another process.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def since(self) -> float:
        """When the monitoring began, or began anew at a reset, in monotonic seconds."""
        return self._read(after=_NEVER)["since"]

    def minutes(self, after: int = 0) -> list[Minute]:
        """Return the minutes that have ended, the oldest first.

        Args:
            after: the number of the last one that is left out.
        """
        found: list[Minute] = []
        while True:
            some = [Minute.from_dict(it) for it in self._read(after=after)["minutes"]]
            found += some
            if len(some) < MINUTES:
                return found
            after = some[-1].number

    def last(self) -> Minute | None:
        """Return the last minute that has ended; None: there is none."""
        minutes = self._read(last=True)["minutes"]
        return Minute.from_dict(minutes[0]) if minutes else None

    def running(self) -> Minute:
        """Return the minute that has not ended, as far as it has come."""
        found = self._read(after=_NEVER, running=True)["running"]
        return Minute.from_dict(found or {})

    def latest(self) -> Mapping[str, Mapping[str, Datapoint]]:
        """Return the datapoints of the last minute, by node, then by metric."""
        minute = self.last()
        return {} if minute is None else minute.nodes

    def cross_zone_bytes(self, link: str) -> Series:
        """Return the bytes that a link between zones has handed on, in both directions.

        Only embedded links are counted.

        Args:
            link: its name, such as `b-to-redis-a`.
        """
        links = [it.name for it in production().links if it.crosses_zones]
        if link not in links:
            raise UnknownName(unknown("link between zones", link, links))
        return Series(self, link, CROSS_ZONE_BYTES, "Bytes")

    def units(self) -> dict[str, str]:
        """Return the unit of each metric, by its name."""
        found = self._read(after=_NEVER)["metrics"].values()
        return {name: unit for some in found for name, unit in some.items()}

    def __getitem__(self, node: str) -> Mapping[str, Series]:
        found = self._read(after=_NEVER)["metrics"]
        if node not in found:
            raise UnknownName(unknown("node", node, found))
        return _Named(
            node, {name: Series(self, node, name, unit) for name, unit in found[node].items()}
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._read(after=_NEVER)["metrics"])

    def __len__(self) -> int:
        return len(self._read(after=_NEVER)["metrics"])

    def _read(self, **arguments: object) -> MetricsData:
        found: MetricsData = self._connection.call(Call.METRICS, **arguments)
        return found


class _Named(Mapping[str, Series]):
    """The metrics of one node. A wrong name is told with the right ones."""

    def __init__(self, node: str, series: Mapping[str, Series]) -> None:
        self._node = node
        self._series = series

    def __getitem__(self, name: str) -> Series:
        try:
            return self._series[name]
        except KeyError:
            known = ", ".join(self._series)
            raise KeyError(f"{self._node} has no metric {name!r}: there are {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._series)

    def __len__(self) -> int:
        return len(self._series)


class AlarmHandle:
    """One alarm."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self.name = name

    @property
    def status(self) -> AlarmStatus:
        """All about it, at this moment."""
        found: list[AlarmStatus] = self._connection.call(Call.ALARMS)
        return next(it for it in found if it["name"] == self.name)

    @property
    def state(self) -> str:
        """`OK`, `ALARM` or `INSUFFICIENT_DATA`."""
        return self.status["state"]

    @property
    def changes(self) -> list[ChangeData]:
        """Its changes of state since the begin of the monitoring, the oldest first."""
        return self.status["changes"]

    def wait_for(self, state: str, timeout: float | None = None) -> AlarmStatus:
        """Wait until it is in a state, or return at once if it is.

        Args:
            state: `OK`, `ALARM` or `INSUFFICIENT_DATA`.
            timeout: seconds; by default as long as it may take at the present speed, plus 10 s.

        Raises:
            AlarmTimeout: it was not in that state in time; the message says why.
            ValueError: there is no such state, or the timeout is wrong.
        """
        found: AlarmStatus = self._connection.wait(
            Call.WAIT_FOR_ALARM, limit=timeout, alarm=self.name, state=state, seconds=timeout
        )
        return found

    def __repr__(self) -> str:
        return f"<AlarmHandle {self.name}>"


class Alarms(Mapping[str, AlarmHandle]):
    """The alarms by name: those of the alarm file or of the architecture, and its thresholds.

    Every method raises NotRunning if the topology does not run, or belongs to another process.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def statuses(self) -> list[AlarmStatus]:
        """Return all about all alarms, at one moment."""
        found: list[AlarmStatus] = self._connection.call(Call.ALARMS)
        return found

    @property
    def firing(self) -> list[str]:
        """The names of those in ALARM."""
        return [it["name"] for it in self.statuses() if it["state"] == "ALARM"]

    def __getitem__(self, name: str) -> AlarmHandle:
        known = list(self)
        if name not in known:
            raise KeyError(f"no alarm {name!r}: there are {', '.join(known)}")
        return AlarmHandle(self._connection, name)

    def __iter__(self) -> Iterator[str]:
        return iter([it["name"] for it in self.statuses()])

    def __len__(self) -> int:
        return len(self.statuses())


class Inbox(Sequence[Message]):
    """What would have been sent: the messages of alarms, and of ElastiCache's events if asked for.

    Every method raises NotRunning if the topology does not run, or belongs to another process.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def since(self, number: int = 0) -> list[Message]:
        """Return the messages after a number, the oldest first."""
        found = self._connection.call(Call.INBOX, after=number)
        return [Message(**it) for it in found]

    def of(self, about: str) -> list[Message]:
        """Return the messages about an alarm, or an event of ElastiCache."""
        return [it for it in self.since() if it.about == about]

    @overload
    def __getitem__(self, index: int) -> Message: ...

    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...

    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        return self.since()[index]

    def __len__(self) -> int:
        return len(self.since())
