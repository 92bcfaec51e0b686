"""A Memcached node: a process that can be started, killed, frozen, and started again, empty."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import cast

from cachesim.clock import Clock, SystemClock
from cachesim.embedded.memcached.config import MemcachedNodeConfig
from cachesim.embedded.memcached.server import Server
from cachesim.embedded.memcached.session import Session
from cachesim.embedded.redis.gate import Gate
from cachesim.embedded.tls import TlsProtocol

_LOG_LINES = 1000


class MemcachedNode:
    """One node. All methods are for the loop's thread.

    Args:
        clock: for everything that is measured in durations.
        wall: seconds since the epoch, for what expires at a moment.
    """

    def __init__(
        self,
        config: MemcachedNodeConfig,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Clock | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.name = config.name
        self._loop = loop or asyncio.get_running_loop()
        self._clock = (clock or SystemClock()).monotonic
        self._wall = wall
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._gate = Gate()
        self._server: Server | None = None

    # --- what it does -------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether there is a process, frozen or not."""
        return self._server is not None

    @property
    def is_paused(self) -> bool:
        """Whether its process stands still."""
        return self._server is not None and self._server.is_paused

    @property
    def server(self) -> Server:
        """The process.

        Raises:
            ConnectionRefusedError: there is none.
        """
        if self._server is None:
            raise ConnectionRefusedError(f"{self.name} is not running")
        return self._server

    def logs(self, lines: int = 50) -> str:
        """The tail of its log, across processes."""
        return "\n".join(list(self._log)[-lines:])

    # --- connections --------------------------------------------------------------------------

    def accept(self) -> asyncio.Protocol:
        """The server's side of a new connection.

        Raises:
            ConnectionRefusedError: it is not running.
        """
        protocol: asyncio.Protocol = Session(self.server)
        if self.config.server_tls is not None:
            protocol = TlsProtocol(self.config.server_tls, protocol)
        return self._gate.wrap(protocol)

    def accept_from_listener(self) -> asyncio.Protocol:
        """As `accept`, for a listener that outlives the process: without one, it closes at once.

        An exception would let asyncio leak the socket.
        """
        return self.accept() if self._server is not None else _Refusal()

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process, with nothing in it. Harmless if it runs."""
        if self._server is not None:
            return
        self._gate = Gate()
        self._server = Server(
            self.config,
            loop=self._loop,
            clock=self._clock,
            wall=self._wall,
            log=self._log.append,
        )
        self._log.append("<25 server listening (auto-negotiate)")

    def kill(self) -> None:
        """SIGKILL: connections are reset. Harmless if it is dead."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(orderly=False)
            self._gate.abort()

    def shut_down(self) -> None:
        """An orderly end. Harmless if it is dead."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(orderly=True)
            self._gate.open()

    def pause(self) -> None:
        """SIGSTOP: connections stay, new ones hang, nothing is answered."""
        if self._server is not None and not self._server.is_paused:
            self._server.pause()
            self._gate.shut()

    def resume(self) -> None:
        """SIGCONT."""
        if self._server is not None and self._server.is_paused:
            self._server.resume()
            self._gate.open()

    def close(self) -> None:
        """End for good."""
        self.kill()


class _Refusal(asyncio.Protocol):
    """Nobody is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()
