"""A Memcached node: an emulated process that is started, killed, paused, and restarted empty."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from cachesim.clock import Clock, SystemClock
from cachesim.embedded.memcached.binary_commands import BinaryCommands
from cachesim.embedded.memcached.commands import COMMANDS, Commands
from cachesim.embedded.memcached.config import MemcachedNodeConfig
from cachesim.embedded.memcached.server import Server
from cachesim.embedded.memcached.session import Entrance, Session
from cachesim.embedded.node import EmulatedNode

_LOG_LINES = 1000


class MemcachedNode(EmulatedNode[Server]):
    """A Memcached node. Call its methods in the loop's thread.

    Args:
        clock: the clock for durations.
        wall: returns the time of day, in seconds since the epoch, for absolute expiry times.
    """

    def __init__(
        self,
        config: MemcachedNodeConfig,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Clock | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(config.name, config.server_tls, loop)
        self.config = config
        self._clock = (clock or SystemClock()).monotonic
        self._wall = wall
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._cluster = b""

    def logs(self, lines: int = 50) -> str:
        """Return the last lines of the node's log, across restarts."""
        return "\n".join(list(self._log)[-lines:])

    def accept(self) -> asyncio.Protocol:
        """Return the server's side of a new connection.

        Raises:
            ConnectionRefusedError: the node is not running.
        """
        server = self.server
        return self._gate.wrap(server.backlog.wrap(self._enter(server, Session(server))))

    def accept_from_listener(self) -> asyncio.Protocol:
        """Accept a connection of cachesim itself, which the rules of faults leave alone."""
        if self._server is None:
            return super().accept_from_listener()
        return self._gate.wrap(self._enter(self._server, Session(self._server, is_own=True)))

    def _enter(self, server: Server, session: Session) -> asyncio.Protocol:
        return Entrance(server, session, self._secured(session))

    def limit_connections(self, most: int | None) -> None:
        """Limit the connections of clients to its process; None: not at all."""
        if self._server is not None:
            self._server.backlog.set_limit(most)

    def has_command(self, name: str) -> bool:
        """See `EmulatedNode.has_command`."""
        return name in COMMANDS

    def _answers_changed(self) -> None:
        if self._server is not None and not self.answers.are_late:
            for session in self._server.sessions.values():
                session.end_delay()

    def _new_server(self) -> Server:
        server = Server(
            self.config,
            lambda server: (Commands(server).execute, BinaryCommands(server).execute),
            loop=self._loop,
            scheduler=self._scheduler,
            clock=self._clock,
            wall=self._wall,
            log=self._log.append,
        )
        server.answers = self.answers
        server.cluster = self._cluster
        return server

    def tell_cluster(self, reply: bytes) -> None:
        """Answer `config get cluster` so from now on."""
        self._cluster = reply
        if self._server is not None:
            self._server.cluster = reply

    def _begin(self, server: Server) -> None:  # noqa: ARG002  # it has nothing to load
        self._log.append("<25 server listening (auto-negotiate)")
