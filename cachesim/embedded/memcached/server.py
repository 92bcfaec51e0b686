"""An emulated Memcached process, with all state that a kill loses."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from cachesim.aio.scheduler import Scheduler, discard
from cachesim.embedded.answers import Answers
from cachesim.embedded.backlog import Backlog
from cachesim.embedded.memcached.config import MemcachedNodeConfig
from cachesim.embedded.memcached.counters import Counters, Details
from cachesim.embedded.memcached.items import Item, Items
from cachesim.embedded.memcached.slabs import Slabs

if TYPE_CHECKING:
    from cachesim.embedded.memcached.session import Session

_OWN_FILES = 24
"""The number of configured connections that the process needs for its own files."""

Execute = Callable[[list[bytes], bytes | None], bytes | None]
"""Executes a request, given its words and value. Returns the reply, or None to close."""


class Server:
    """The process of a node.

    Args:
        executors: returns `execute` and `execute_binary` for the server.
        scheduler: runs long work in time slices.
        clock: returns monotonic seconds.
        wall: returns seconds since the epoch.

    Attributes:
        execute, execute_binary: executes a request, of either protocol.
        answers: the rules of faults.
        backlog: the connections of clients, of which some may wait.
        last_reply: the last reply to a request, while there are rules.
        cluster: the answer to `config get cluster`; empty: it does not know the command.
        is_paused: whether the process is paused.
        sessions: the connections, by number.
        tuned: the settings that commands have changed, by their names in `stats settings`.
        sizes_from: the `cas` of the first item that `stats sizes` counts; None if it is off.
    """

    def __init__(
        self,
        config: MemcachedNodeConfig,
        executors: Callable[["Server"], tuple[Execute, Execute]],
        *,
        loop: asyncio.AbstractEventLoop,
        scheduler: Scheduler,
        clock: Callable[[], float],
        wall: Callable[[], float],
        log: Callable[[str], None],
    ) -> None:
        self.config = config
        self.loop = loop
        self.scheduler = scheduler
        self.log = log
        self._clock = clock
        self._born = clock()
        self.is_paused = self.is_stopped = False
        self.verbosity = 0
        self.sizes_from: int | None = None
        self.tuned: dict[str, str] = {}
        self.sessions: dict[int, Session] = {}
        self._last_number = 25
        self.counters = Counters()
        self.counters.connections = 1  # the listener
        self.details = Details()
        self.items = Items(
            Slabs[Item](config.max_memory),
            self.counters,
            config.max_item_size,
            wall(),
            partial(discard, loop),
        )
        self.execute, self.execute_binary = executors(self)
        self.answers = Answers()
        self.backlog = Backlog()
        self.last_reply = b""
        self.cluster = b""

    def tick(self) -> int:
        """Update the time of the items, and return it."""
        self.items.now = now = self.items.at_age(self._clock() - self._born)
        return now

    def reset_stats(self) -> None:
        """Set all counters to 0."""
        self.counters.reset()
        self.details.clear()
        for slab in self.items.slabs.classes:
            slab.reset()

    # --- the process ------------------------------------------------------------------------

    def stop(self, *, orderly: bool) -> None:
        """End the process. Connections are reset, or if orderly closed when all is sent."""
        self.is_stopped = True
        if orderly:
            self.log("Signal handled: Terminated.")
        for session in list(self.sessions.values()):
            (session.transport.close if orderly else session.transport.abort)()
        self.items.close()

    def pause(self) -> None:
        """Note that the process is paused."""
        self.is_paused = True

    def resume(self) -> None:
        """Note that the process is resumed."""
        self.is_paused = False

    # --- clients ----------------------------------------------------------------------------

    def join(self, session: "Session") -> bool:
        """Add a client. Return False if there are too many."""
        if len(self.sessions) >= max(1, self.config.max_connections - _OWN_FILES):
            self.counters.rejected_connections += 1
            return False
        self._last_number += 1
        session.number = self._last_number
        self.sessions[session.number] = session
        self.counters.connections += 1
        return True

    def leave(self, session: "Session") -> None:
        """Remove a client."""
        self.sessions.pop(session.number, None)
