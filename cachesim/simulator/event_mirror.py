"""The event log of a topology, as its clients read it."""

import threading
from collections.abc import Callable

from cachesim.clock import Deadline
from cachesim.errors import CachesimError, NotRunning
from cachesim.events import Event, Events, check_timeout
from cachesim.runs.calls import Call
from cachesim.runs.registry import not_running
from cachesim.runs.rpc import ANSWER
from cachesim.simulator.connection import Connection

_LONGEST = 60.0  # seconds that one call waits for an event


class EventMirror(Events):
    """The event log of a topology, as a client has it. Thread-safe.

    Whenever it is read, all is in it that has happened until now. After the topology's end it can
    still be read. Conditions that are waited for are called in the waiting thread.

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

    def catch_up(self, timeout: float = ANSWER) -> None:
        """Read what has happened since the last time, if the topology still tells.

        Args:
            timeout: seconds for the answer.
        """
        try:
            self._read(self._number, 0, timeout)
        except CachesimError:
            return  # what was read before is there

    def since(self, mark: int) -> list[Event]:
        """See `Events.since`."""
        self.catch_up()
        # Without the lock: a fork copies it as it is, and its holder is not in the child.
        return self._events[mark:]

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """See `Events.wait`."""
        check_timeout(timeout)
        deadline = Deadline(timeout)
        while True:
            seen = self._number  # an event during the check counts
            if condition():
                return True
            if deadline.expired:
                return False
            self._read(seen, min(deadline.remaining, _LONGEST))

    def _read(self, after: int, wait: float, timeout: float = ANSWER) -> None:
        """Read events after a number; wait that many seconds for the first one."""
        connection = self._connection
        if connection is None:
            raise NotRunning(not_running(self._name))
        if wait:
            found = connection.wait(Call.EVENTS, limit=wait, after=after, wait=wait)
        else:
            found = connection.call(Call.EVENTS, timeout=timeout, after=after)
        with self._lock:
            if connection is self._connection:
                new = [Event.from_dict(data) for data in found if data["number"] > self._number]
                self._events += new
                self._number += len(new)
