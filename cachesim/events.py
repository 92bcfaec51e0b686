"""The event log: what was done to the topology and what happened to it, in order."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from cachesim.clock import Clock, SystemClock
from cachesim.errors import InvalidArgument, NotRunning

EventKind = Literal[
    "started",
    "leased",
    "returned",
    "reset",
    "scaled",
    "fault",
    "heal",
    "power-cut",
    "restart",
    "moved",
    "postponed",
    "replaced",
    "detecting",
    "promoting",
    "available",
    "failover",
    "lost",
    "role",
    "handing-over",
    "failover-call",
    "waiting",
    "recovering",
    "recovered",
    "alarm",
    "standstill",
    "error",
]
"""The kinds of events. `docs/explanation/failover.md` says what each tells."""


@dataclass(frozen=True)
class Event:
    """One entry of the log.

    Attributes:
        at: when it happened, in monotonic seconds.
        date: the same moment as wall-clock time, in UTC.
        kind: one of `EventKind`.
        source: the node, zone, link or topology that it is about.
        message: ElastiCache's own text, if it has one for such an event.
        data: values for programs, by name.
    """

    at: float
    date: datetime
    kind: str
    source: str
    message: str
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Event":
        """Return the event that `as_dict` described."""
        date = datetime.fromisoformat(data["date"])
        return cls(
            data["monotonic_seconds"],
            date,
            data["kind"],
            data["source"],
            data["message"],
            data["data"],
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "date": self.date.isoformat(timespec="microseconds"),
            "monotonic_seconds": self.at,
            "kind": self.kind,
            "source": self.source,
            "message": self.message,
            "data": self.data,
        }

    def __str__(self) -> str:
        return (
            f"{self.date:%H:%M:%S.%f}"[:-3] + f"  {self.kind:<11} {self.source:<14} {self.message}"
        )


class Events(ABC):
    """An event log to read from.

    A mark is a position in the log: `mark = log.mark()`, later `log.since(mark)`.
    """

    @abstractmethod
    def since(self, mark: int) -> list[Event]:
        """Return the events after a mark."""

    @abstractmethod
    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a condition holds. It is checked whenever an event is recorded.

        Args:
            timeout: seconds.

        Returns:
            Whether the condition held in time.

        Raises:
            NotRunning: the condition does not hold, and the topology has ended.
            ValueError: the timeout is negative or too large.
        """

    def mark(self) -> int:
        """Return the present end of the log."""
        return len(self)

    def of(self, kind: str, since: int = 0) -> list[Event]:
        """Return the events of a kind, optionally only those after a mark.

        Raises:
            InvalidArgument: there is no such kind, so there would never be such an event.
        """
        if kind not in get_args(EventKind):
            kinds = ", ".join(get_args(EventKind))
            raise InvalidArgument(f"there are no events of the kind {kind!r}. The kinds: {kinds}")
        return [event for event in self.since(since) if event.kind == kind]

    def next(self, mark: int, timeout: float) -> list[Event]:
        """Wait for an event after a mark, and return all events after it.

        Args:
            timeout: seconds; without an event in that time, the list is empty.
        """
        self.wait(lambda: len(self) > mark, timeout)
        return self.since(mark)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.since(0))

    def __len__(self) -> int:
        return len(self.since(0))

    def __str__(self) -> str:
        return "\n".join(map(str, self))


class EventLog(Events):
    """The event log of a topology, in its process: append-only. Thread-safe.

    A condition that is waited for is called with the log locked; it must be quick.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._end = ""

    def record(self, kind: EventKind, source: object, message: str, **data: Any) -> Event:
        """Append an event that happens now, and return it.

        Args:
            data: JSON values.
        """
        with self._changed:
            event = Event(
                self._clock.monotonic(), datetime.now(UTC), kind, str(source), message, data
            )
            self._events.append(event)
            self._changed.notify_all()
        return event

    def since(self, mark: int) -> list[Event]:
        """See `Events.since`."""
        with self._changed:
            return self._events[mark:]

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """See `Events.wait`."""
        check_timeout(timeout)
        holds = False

        def is_decided() -> bool:
            nonlocal holds
            holds = condition()
            return holds or bool(self._end)

        with self._changed:
            if self._changed.wait_for(is_decided, timeout) and not holds:
                raise NotRunning(self._end)
        return holds

    def end(self, why: str) -> None:
        """Let every wait end with an error from now on. Events can still be recorded.

        Args:
            why: the error's message.
        """
        with self._changed:
            self._end = why
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return len(self._events)


def check_timeout(timeout: float) -> None:
    """Do nothing if this is a time that can be waited for.

    Raises:
        ValueError: it is negative or too large.
    """
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not (is_number and 0 <= timeout <= threading.TIMEOUT_MAX):
        raise ValueError(
            f"timeout must be from 0 to {threading.TIMEOUT_MAX:.0f} seconds, got {timeout!r}"
        )
