"""Samples: what the servers say of themselves, 10 times a second, and the log of the topology."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

from cachesim.errors import CachesimError, NotRunning
from cachesim.events import Event
from cachesim.history.rows import EventRow, Row, Sample, SampleName
from cachesim.runs.calls import Readings
from cachesim.scenarios.targets import Roles

if TYPE_CHECKING:
    from cachesim.scenarios.running.beats import Beats
    from cachesim.simulator.simulator import Simulator

INTERVAL = 0.1
"""Seconds between two readings of a server."""
_EVENTS = 0.5  # seconds that one call waits for an event
_CONSTANT = ("noeviction", "max_memory", "max_connections", "injected_answers")
_NAMES = frozenset(get_args(SampleName))

Record = Callable[..., None]
"""Gets rows."""


class Received:
    """The connections that a server has accepted, without cachesim's own.

    The counter begins anew with the server's process, and never falls else.
    """

    def __init__(self) -> None:
        self._raw = self._opened = self._own = 0.0
        self._unseen = 0.0
        self._others = 0.0

    def others(self, raw: float, opened: float, own: float = 0.0) -> float:
        """Return how many were not cachesim's own.

        Args:
            raw: the server's counter.
            opened: how many cachesim has opened in all; to earlier processes of the server too.
            own: how many more of cachesim are open now.
        """
        if raw < self._raw:
            self._raw = self._unseen = self._others = self._own = 0.0
        accepted = raw - self._raw
        new = opened - self._opened + max(0.0, own - self._own)
        ours = new + self._unseen
        self._others += max(0.0, accepted - ours)
        # The server may count one of ours with the next reading. It never counts those that Docker
        # accepts for a link that refuses: they must not hide as many others later.
        self._unseen = min(max(0.0, ours - accepted), new)
        self._raw, self._opened, self._own = raw, opened, own
        return self._others


class Sampler:
    """Samples all servers from a thread of its own, from `start` to `close`.

    Args:
        read: returns what the servers say now.
        record: gets the rows.

    Attributes:
        latest: the last readings; None before the first.
        fastest: the quickest answer so far, in seconds.
    """

    def __init__(self, read: Callable[[], Readings], record: Record, beats: "Beats") -> None:
        self._read = read
        self._record = record
        self._beats = beats
        self._received: dict[str, Received] = {}
        self._constant: dict[tuple[str, str], float] = {}
        self.latest: Readings | None = None
        self.fastest = float("inf")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cachesim-samples", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._is_over.is_set():
            begun = time.monotonic()
            try:
                self.take(self._read())
            except CachesimError:  # it ends; what needs the topology says so
                self._is_over.wait(INTERVAL)
            self._is_over.wait(max(0.0, begun + INTERVAL - time.monotonic()))

    def take(self, readings: Readings) -> None:
        """Record readings."""
        rows: list[Row] = []
        for node, it in readings["nodes"].items():
            self.fastest = min(self.fastest, it["took"])
            values = dict(it["values"])
            own, opened = it["own_connections"], self._beats.opened[node]
            received = self._received.setdefault(node, Received())
            values["connections_received"] = received.others(
                values["connections_received"], opened, own
            )
            values["connections"] = max(0.0, values["connections"] - own - self._beats.open(node))
            for name, value in values.items():
                if name in _CONSTANT and self._constant.get((node, name)) == value:
                    continue
                self._constant[node, name] = value
                if name in _NAMES:
                    rows.append(Sample(it["at"], node, name, value))  # type: ignore[arg-type]
        self._record(*rows)
        self.latest = readings


def roles_in(readings: Readings, primary: str) -> Roles:
    """Return what the Redis nodes are, as they say themselves.

    Args:
        primary: the primary for the control plane. It is one only if it says so itself.
    """
    values = {node: it["values"] for node, it in readings["nodes"].items()}
    redis = {node: it for node, it in values.items() if "role" in it}
    is_there = bool(redis.get(primary, {}).get("role"))
    replicas = {node: int(it["offset"]) for node, it in redis.items() if not it["role"]}
    return Roles(primary if is_there else None, replicas)


class EventFollower:
    """Records the event log of a topology, from a thread of its own, from `start` to `close`.

    Args:
        record: gets the rows.
        seen: called after each event.

    Attributes:
        events: what has happened since the begin, in order.
        failure: why there is no log any more: the topology has ended. None: there is.
    """

    def __init__(self, sim: "Simulator", record: Record, seen: Callable[[Event], None]) -> None:
        self._log = sim.events
        self._mark = sim.events.mark()
        self._record = record
        self._seen = seen
        self.events: list[Event] = []
        self.failure: str | None = None
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="cachesim-events", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, with all that has happened by now."""
        self._is_over = True
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._is_over:
            try:
                self._take(self._log.next(self._mark + len(self.events), _EVENTS))
            except NotRunning as error:
                self.failure = str(error)
                break
            except CachesimError:  # it was too busy to answer, or is ending
                time.sleep(INTERVAL)
        self._take(self._log.since(self._mark + len(self.events)))

    def _take(self, events: list[Event]) -> None:
        for it in events:
            number = len(self.events) + 1
            self._record(EventRow(number, it.at, it.kind, it.source, it.message, it.data))
            if (at := it.data.get("fsynced_at")) is not None:
                self._record(Sample(it.at, it.source, "fsynced_at", at))
            self.events.append(it)
            self._seen(it)
