"""A Redis node: a process that can be started, killed, frozen, and started again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

from cachesim.clock import Clock, SystemClock
from cachesim.embedded.redis.aof import truncate
from cachesim.embedded.redis.bus import Inbound
from cachesim.embedded.redis.config import RedisNodeConfig
from cachesim.embedded.redis.gate import Gate
from cachesim.embedded.redis.log import Log
from cachesim.embedded.redis.server import AOF_NAME, Server
from cachesim.embedded.redis.session import Session
from cachesim.embedded.tls import TlsProtocol

DialPeer = Callable[[Callable[[], asyncio.Protocol], str, str], Awaitable[Any]]
"""Connects a protocol to a peer, by its name, over its `redis` or `bus` link. Raises OSError."""


class RedisNode:
    """One node. All methods are for the loop's thread.

    Args:
        dial_peer: connects raw bytes; TLS is added here.
        clock: for everything that is measured in durations.
        wall: seconds since the epoch, for what expires.
    """

    def __init__(
        self,
        config: RedisNodeConfig,
        *,
        dial_peer: DialPeer,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Clock | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.name = config.name
        self._dial_peer = dial_peer
        self._loop = loop or asyncio.get_running_loop()
        self._clock = (clock or SystemClock()).monotonic
        self._wall = wall
        self._log = Log(wall)
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
        return self._log.tail(lines)

    # --- connections --------------------------------------------------------------------------

    def accept(self) -> asyncio.Protocol:
        """The server's side of a new connection of a client or a replica.

        Raises:
            ConnectionRefusedError: it is not running.
        """
        return self._accept(Session(self.server))

    def accept_bus(self) -> asyncio.Protocol:
        """The server's side of a new connection of the cluster bus.

        Raises:
            ConnectionRefusedError: it is not running.
        """
        return self._accept(Inbound(self.server))

    def accept_from_listener(self) -> asyncio.Protocol:
        """As `accept`, for a listener that outlives the process: without one, it closes at once.

        An exception would let asyncio leak the socket.
        """
        return self.accept() if self._server is not None else _Refusal()

    def accept_bus_from_listener(self) -> asyncio.Protocol:
        """As `accept_bus`, likewise."""
        return self.accept_bus() if self._server is not None else _Refusal()

    def _accept(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        if self.config.server_tls is not None:
            protocol = TlsProtocol(self.config.server_tls, protocol)
        return self._gate.wrap(protocol)

    async def _connect(
        self, factory: Callable[[], asyncio.Protocol], peer: str, service: str
    ) -> None:
        """Connect to a peer; done when the protocol has its transport."""
        opened: asyncio.Future[None] = self._loop.create_future()

        def fail(error: Exception) -> None:
            if not opened.done():
                opened.set_exception(error if isinstance(error, OSError) else OSError(str(error)))

        def make() -> asyncio.Protocol:
            protocol = factory()
            if self.config.peer_tls is None:
                return self._gate.wrap(protocol)
            told = _Told(protocol, opened)
            tls = TlsProtocol(
                self.config.peer_tls,
                told,
                server_hostname=self.config.peer_hostname,
                failed=fail,
            )
            return self._gate.wrap(tls)

        try:
            await self._dial_peer(make, peer, service)
        except BaseException:
            if not opened.cancel() and not opened.cancelled():
                opened.exception()  # this error says enough
            raise
        if self.config.peer_tls is not None:
            await opened

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process from what is on its disk. Harmless if it runs."""
        if self._server is not None:
            return
        self._gate = Gate()
        self._server = Server(
            self.config,
            loop=self._loop,
            connect=self._connect,
            clock=self._clock,
            wall=self._wall,
            log=self._log,
        )
        self._server.start()

    def kill(self) -> None:
        """SIGKILL: connections are reset, what was written stays. Harmless if it is dead."""
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

    # --- its disk -----------------------------------------------------------------------------

    @property
    def aof_synced(self) -> int:
        """Bytes of the append-only file that would survive a loss of power now."""
        return self._server.aof.synced if self._server is not None else 0

    def truncate_aof(self, size: int) -> None:
        """Cut the append-only file of the stopped node back, as a loss of power does."""
        truncate(self.config.directory / AOF_NAME, size)


class _Refusal(asyncio.Protocol):
    """Nobody is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).abort()


class _Told(asyncio.Protocol):
    """Tells when its protocol is connected, and is otherwise not there."""

    def __init__(self, protocol: asyncio.Protocol, opened: asyncio.Future[None]) -> None:
        self._protocol = protocol
        self._opened = opened
        self.data_received = protocol.data_received  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._protocol.connection_made(transport)
        if not self._opened.done():
            self._opened.set_result(None)
