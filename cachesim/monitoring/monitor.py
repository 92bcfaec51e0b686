"""The monitoring of a running topology: samples, minutes, alarms and the inbox.

It begins when somebody asks for it, or at the start if the settings say so. Before that it costs
nothing. Production time goes on by the speed; a minute of it has fewer readings the faster it is.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from cachesim.clock import Clock, SystemClock
from cachesim.events import EventLog
from cachesim.monitoring.alarms import Alarm, Change, Watch
from cachesim.monitoring.datapoints import Datapoint, Minute, Points
from cachesim.monitoring.lag import ReplicationLag
from cachesim.monitoring.messages import Message
from cachesim.monitoring.metrics import METRICS, OF_LINK, Metric
from cachesim.monitoring.minutes import MINUTE, Collector
from cachesim.monitoring.notifications import event_name, of_alarm, of_event
from cachesim.monitoring.states import State
from cachesim.runs.calls import Reading
from cachesim.topology import Topology

HISTORY = 720
"""The minutes that are kept."""
INBOX = 1000
"""The messages that are kept."""
SHORTEST = 0.1
"""Seconds between two readings at least, however high the speed is."""
LOOK = 0.2
"""Seconds between two looks at the replicas' offsets at most."""

Offsets = Mapping[str, tuple[float, int]]
"""When each Redis node last told its offset, in monotonic seconds, and the offset, in bytes."""


class Monitor:
    """Monitors a topology from `start` to `close`. Thread-safe.

    Args:
        name: the topology's.
        read: returns what all servers say now, in full.
        offsets: returns the Redis nodes' latest offsets.
        primaries: returns each shard's present primary, by the shard's id.
        speed: returns how much faster than in production time goes by.
        link_bytes: returns how many bytes the links have handed on, by name.
        is_emulated: whether the nodes have no processes of their own.
        forward: called with each message, from a thread of the monitor.
        events_to: the services that ElastiCache's events go to.
    """

    def __init__(
        self,
        name: str,
        topology: Topology,
        alarms: Iterable[Alarm],
        events: EventLog,
        *,
        read: Callable[[], Mapping[str, Reading]],
        offsets: Callable[[], Offsets],
        primaries: Callable[[], Mapping[str, str]],
        speed: Callable[[], float],
        link_bytes: Callable[[], Mapping[str, int]] = dict,
        is_emulated: bool = False,
        forward: Callable[[Message], None] = lambda _message: None,
        events_to: Sequence[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self._name = name
        self._topology = topology
        self._alarms = tuple(alarms)
        self._events = events
        self._read, self._offsets, self._primaries = read, offsets, primaries
        self._speed = speed
        self._link_bytes = link_bytes
        self._links = [link.name for link in topology.links if link.crosses_zones]
        self._forward = forward
        self._events_to = tuple(events_to)
        self._clock = clock or SystemClock()
        self._made = datetime.now(UTC)
        self._metrics: dict[str, tuple[Metric, ...]] = {
            node.name: tuple(
                it for it in METRICS[node.service] if not (is_emulated and it.is_of_process)
            )
            for node in topology.nodes
        }
        self._changed = threading.Condition()
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None
        # The last minute's and the last message's. Who follows them goes on after a reset.
        self._number = self._sent = 0
        self._begin()

    def _begin(self) -> None:
        """Begin with nothing. The lock is held, or nobody knows this object yet."""
        now = self._clock.monotonic()
        self._collector = Collector(self._metrics)
        self._crossing = Collector(dict.fromkeys(self._links, (OF_LINK,)))
        self._lags = {shard.id: ReplicationLag() for shard in self._topology.shards}
        self._minutes: deque[Minute] = deque(maxlen=HISTORY)
        self._messages: deque[Message] = deque(maxlen=INBOX)
        self._unsent: list[Message] = []
        self._watches = {alarm.name: Watch(alarm) for alarm in self._alarms}
        self._seen = len(self._events)
        self._since = self._ticked = self._minute_begin = now
        self._production = 0.0  # seconds of this minute
        self._read_at = float("-inf")

    # --- life ---------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether it was started."""
        return self._thread is not None

    @property
    def is_over(self) -> bool:
        """Whether it was closed."""
        return self._is_over.is_set()

    def start(self) -> None:
        """Begin. Repeating it is harmless."""
        with self._changed:
            if self._thread is None and not self._is_over.is_set():
                self._begin()
                self._thread = threading.Thread(
                    target=self._run, name="cachesim-monitor", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """End. Repeating it is harmless."""
        self._is_over.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def reset(self) -> None:
        """Forget all minutes, messages and states, as after a start."""
        with self._changed:
            self._begin()
            self._changed.notify_all()

    def _run(self) -> None:
        told = ""
        while not self._is_over.is_set():
            try:
                self.tick()
            except Exception as error:  # the next look may do better, but the log is read
                if (message := f"metrics were not taken: {error!r}") != told:
                    self._events.record("error", self._name, message)
                told = message
            self._is_over.wait(min(LOOK, self._interval))

    @property
    def _interval(self) -> float:
        """Seconds between two readings: one of production, if that is not too short."""
        return max(1 / self._speed(), SHORTEST)

    # --- the work -----------------------------------------------------------------------------

    def tick(self) -> None:
        """Note the offsets; read the servers, close a minute and look at the alarms if it is time.

        The thread calls it several times a second; tests with a clock of their own do.
        """
        lags = self._note_offsets()
        if self._clock.monotonic() >= self._read_at + self._interval:
            self._read_at = self._clock.monotonic()
            readings, passed = self._read(), self._link_bytes()
        else:
            readings, passed = {}, {}
        with self._changed:
            for node, it in readings.items():
                if it["at"] >= self._minute_begin:
                    values = {**it["values"], **lags.get(node, {})}
                    self._collector.add(node, it["at"], values)
            now = self._clock.monotonic()
            for link in self._links:
                if link in passed:
                    self._crossing.add(link, now, {"passed": passed[link]})
            self._production += (now - self._ticked) * self._speed()
            self._ticked = now
            self._post_events()
            if self._production >= MINUTE:
                self._production %= MINUTE
                self._close(now)
            unsent, self._unsent = self._unsent, []
        for message in unsent:
            self._forward(message)

    def _note_offsets(self) -> dict[str, dict[str, float]]:
        """Return the lag of each replica."""
        offsets, primaries = self._offsets(), self._primaries()
        found: dict[str, dict[str, float]] = {}
        for shard in self._topology.shards:
            lag, primary = self._lags[shard.id], primaries[shard.id]
            if primary not in offsets:
                continue
            lag.note(primary, *offsets[primary])
            for node in shard.nodes:
                if node.name != primary and node.name in offsets:
                    seconds = lag.of(node.name, *offsets[node.name])
                    if seconds is not None:
                        found[node.name] = {"lag": seconds}
        return found

    def _close(self, now: float) -> None:
        self._number += 1
        seconds = now - self._minute_begin
        points, links = self._collector.close(seconds), _only(self._crossing.close(seconds))
        self._minutes.append(Minute(self._number, self._minute_begin, now, points, links))
        self._minute_begin = now
        date, last = datetime.now(UTC), list(self._minutes)
        for watch in self._watches.values():
            change = watch.look(last[-watch.alarm.minutes :], date)
            if change is not None:
                self._record(watch.alarm, change)
                for to in watch.alarm.actions.get(change.new, ()):
                    self._post(
                        of_alarm(self._sent + 1, watch.alarm, change, to, self._name, self._made)
                    )
        self._changed.notify_all()

    def _record(self, alarm: Alarm, change: Change) -> None:
        """Tell the event log of alarms that begin and end, not of those with their first data."""
        if State.ALARM in (change.old, change.new):
            self._events.record(
                "alarm",
                alarm.name,
                f"{change.old} -> {change.new}: {change.reason}",
                old=str(change.old),
                new=str(change.new),
                value=change.value,
                node=change.node,
            )

    def _post_events(self) -> None:
        if not self._events_to:
            return
        events = self._events.since(self._seen)
        self._seen += len(events)
        for event in events:
            if event_name(event) is not None:
                for to in self._events_to:
                    self._post(of_event(self._sent + 1, event, to, self._name))

    def _post(self, message: Message) -> None:
        self._sent = message.number
        self._messages.append(message)
        self._unsent.append(message)
        self._changed.notify_all()

    # --- reading ------------------------------------------------------------------------------

    @property
    def since(self) -> float:
        """When it began, or began anew at a reset, in monotonic seconds."""
        return self._since

    @property
    def metrics(self) -> Mapping[str, tuple[Metric, ...]]:
        """The metrics of each node, by its name."""
        return self._metrics

    def minutes(self, after: int = 0) -> list[Minute]:
        """Return the minutes after a number, the oldest first."""
        with self._changed:
            return [it for it in self._minutes if it.number > after]

    def running(self) -> Minute:
        """Return the minute that has not ended, as far as it has come."""
        with self._changed:
            now = self._clock.monotonic()
            seconds = now - self._minute_begin
            points, links = self._collector.points(seconds), _only(self._crossing.points(seconds))
            return Minute(self._number + 1, self._minute_begin, now, points, links)

    def watches(self) -> dict[str, Watch]:
        """Return the alarms by name. Their states change."""
        with self._changed:
            return dict(self._watches)

    def messages(self, after: int = 0) -> list[Message]:
        """Return the messages in the inbox after a number, the oldest first."""
        with self._changed:
            return [it for it in self._messages if it.number > after]

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a condition holds, which minutes and messages change.

        Args:
            condition: called with this object locked.
            timeout: seconds.

        Returns:
            Whether it held in time.
        """
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._is_over.is_set(), timeout)
            return condition()


def _only(points: Points) -> dict[str, Datapoint]:
    """Return the datapoint of each link, which has one metric."""
    return {link: point for link, some in points.items() for point in some.values()}
