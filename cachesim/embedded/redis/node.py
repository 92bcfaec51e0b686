"""A Redis node: a process that can be started, killed, frozen, and started again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from cachesim.aio.tls import TlsProtocol
from cachesim.clock import Clock, SystemClock
from cachesim.embedded.node import EmulatedNode, Refusal
from cachesim.embedded.redis.admin.log import Log
from cachesim.embedded.redis.cluster.bus import Inbound
from cachesim.embedded.redis.config import RedisNodeConfig
from cachesim.embedded.redis.connections.session import Session
from cachesim.embedded.redis.replication.aof import truncate
from cachesim.embedded.redis.server import AOF_NAME, NODES_NAME, Server

DialPeer = Callable[[Callable[[], asyncio.Protocol], str, str], Awaitable[Any]]
"""Connects a protocol to a peer, by its name, over its `redis` or `bus` link. Raises OSError."""


class RedisNode(EmulatedNode[Server]):
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
        super().__init__(config.name, config.server_tls, loop)
        self.config = config
        self._dial_peer = dial_peer
        self._clock = (clock or SystemClock()).monotonic
        self._wall = wall
        self._log = Log(wall)

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

    def accept_bus_from_listener(self) -> asyncio.Protocol:
        """As `accept_bus`, for a listener that outlives the process."""
        return self.accept_bus() if self.is_running else Refusal()

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
                self._turns,
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

    def _new_server(self) -> Server:
        return Server(
            self.config,
            loop=self._loop,
            turns=self._turns,
            connect=self._connect,
            clock=self._clock,
            wall=self._wall,
            log=self._log,
        )

    def _begin(self, server: Server) -> None:
        """Load what is on its disk. A kill leaves what was written there."""
        server.start()

    # --- its disk -----------------------------------------------------------------------------

    def renew(self) -> None:
        """Give the stopped node the empty disk of a first start."""
        for name in (AOF_NAME, NODES_NAME):
            (self.config.directory / name).unlink(missing_ok=True)

    def truncate_aof(self, size: int) -> None:
        """Cut the append-only file of the stopped node back, as a loss of power does."""
        truncate(self.config.directory / AOF_NAME, size)


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
