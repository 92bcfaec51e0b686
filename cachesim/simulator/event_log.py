"""The event log of a topology, as its clients read it."""

import threading
from collections.abc import Callable, Iterator

from cachesim.clock import Deadline
from cachesim.errors import CachesimError, NotRunning
from cachesim.events import Event, check_timeout
from cachesim.runs.calls import Call
from cachesim.runs.registry import not_running
from cachesim.simulator.connection import Connection

_LONGEST = 60.0  # seconds that one call waits for an event


class Events:
    """The event log. Thread-safe.

    Whenever it is read, all is in it that has happened until now. After the topology's end it can
    still be read. A mark is a position in the log: `mark = log.mark()`, later `log.since(mark)`.

    Args:
        name: the topology's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._connection: Connection | None = None
        self._number = 0  # of the last event that was read from this connection

    def follow(self, connection: Connection, after: int = 0) -> None:
        """Go on with the events of a topology.

        Args:
            after: the number of its last event that is left out.
        """
        with self._lock:
            self._connection, self._number = connection, after

    def catch_up(self) -> None:
        """Read what has happened since the last time, if the topology still tells."""
        try:
            self._read(self._number, 0)
        except CachesimError:
            return  # what was read before is there

    def mark(self) -> int:
        """Return the present end of the log."""
        return len(self)

    def since(self, mark: int) -> list[Event]:
        """Return the events after a mark."""
        self.catch_up()
        with self._lock:
            return self._events[mark:]

    def of(self, kind: str, since: int = 0) -> list[Event]:
        """Return the events of a kind, optionally only those after a mark."""
        return [event for event in self.since(since) if event.kind == kind]

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a condition holds. It is checked whenever an event is recorded.

        Args:
            condition: called in this thread.
            timeout: seconds.

        Returns:
            Whether the condition held in time.

        Raises:
            NotRunning: the condition does not hold, and the topology has ended.
            ValueError: the timeout is negative or too large.
        """
        check_timeout(timeout)
        deadline = Deadline(timeout)
        while True:
            seen = self._number  # an event during the check counts
            if condition():
                return True
            if deadline.expired:
                return False
            self._read(seen, min(deadline.remaining, _LONGEST))

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

    def _read(self, after: int, wait: float) -> None:
        """Read events after a number; wait that many seconds for the first one."""
        connection = self._connection
        if connection is None:
            raise NotRunning(not_running(self._name))
        if wait:
            found = connection.wait(Call.EVENTS, after=after, wait=wait)
        else:
            found = connection.call(Call.EVENTS, after=after)
        with self._lock:
            if connection is self._connection:
                new = [Event.from_dict(data) for data in found if data["number"] > self._number]
                self._events += new
                self._number += len(new)
