"""A Redis node: an emulated process that can be started, killed, paused and restarted."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from cachesim.aio.tls import TlsProtocol
from cachesim.clock import Clock, SystemClock
from cachesim.embedded.node import EmulatedNode
from cachesim.embedded.redis.admin.log import Log
from cachesim.embedded.redis.admin.versions import version_of
from cachesim.embedded.redis.cluster.bus import Inbound
from cachesim.embedded.redis.commands import handlers
from cachesim.embedded.redis.config import (
    ANNOUNCED_PORTS,
    AOF_NAME,
    NODES_NAME,
    NodeAddress,
    RedisNodeConfig,
)
from cachesim.embedded.redis.connections.session import Session
from cachesim.embedded.redis.dispatch.command_table import commands
from cachesim.embedded.redis.replication.aof import truncate
from cachesim.embedded.redis.server import Server

_SHUTDOWN = 5.0
"""The most seconds that replicas get to catch up; a container would be killed then."""
DialPeer = Callable[[Callable[[], asyncio.Protocol], str, str], Awaitable[Any]]
"""Connects a protocol, made by the factory, to a peer's service: its name, and `redis` or `bus`.

Raises OSError."""


class RedisNode(EmulatedNode[Server]):
    """A Redis node. Call its methods in the loop's thread.

    Args:
        dial_peer: connects to a peer without TLS; the node adds TLS.
        clock: the clock for durations.
        wall: returns seconds since the epoch; decides when keys expire.
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
        """Return the last lines of the node's log, across restarts."""
        return self._log.tail(lines)

    # --- connections --------------------------------------------------------------------------

    def accept(self) -> asyncio.Protocol:
        """Return the server's side of a new connection of a client or a replica.

        Raises:
            ConnectionRefusedError: the node is not running.
        """
        return self._accept(Session(self.server))

    def accept_bus(self) -> asyncio.Protocol:
        """Return the server's side of a new connection of the cluster bus.

        Raises:
            ConnectionRefusedError: the node is not running.
        """
        return self._accept(Inbound(self.server))

    async def _connect(
        self, factory: Callable[[], asyncio.Protocol], peer: str, service: str
    ) -> None:
        """Connect a protocol to a peer; return after its `connection_made`."""
        opened: asyncio.Future[None] = self._loop.create_future()

        def fail(error: Exception) -> None:
            if not opened.done():
                opened.set_exception(error if isinstance(error, OSError) else OSError(str(error)))

        def make() -> asyncio.Protocol:
            protocol = factory()
            if self.config.peer_tls is None:
                return self._gate.wrap(protocol)
            opening = _Opening(protocol, opened)
            tls = TlsProtocol(
                self.config.peer_tls,
                opening,
                self._scheduler,
                server_hostname=self.config.peer_hostname,
                failed=fail,
            )
            return self._gate.wrap(tls)

        try:
            await self._dial_peer(make, peer, service)
        except BaseException:
            if not opened.cancel() and not opened.cancelled():
                opened.exception()  # else asyncio warns; the other error is raised
            raise
        if self.config.peer_tls is not None:
            await opened

    # --- start ------------------------------------------------------------------------------

    def _new_server(self) -> Server:
        server = Server(
            self.config,
            handlers(),
            loop=self._loop,
            scheduler=self._scheduler,
            connect=self._connect,
            clock=self._clock,
            wall=self._wall,
            log=self._log,
        )
        server.executor.answers = self.answers
        server.aof.on_change = server.update_guards
        server.aof.on_panic = self.kill
        server.update_guards()
        return server

    def announce(self, addresses: Mapping[str, NodeAddress]) -> None:
        """Use these addresses of nodes, its own or others', from its next process on.

        Other processes that run learn its own address from that process.
        """
        nodes = {**self.config.nodes, **addresses}
        settings = dict(self.config.settings)
        if (own := addresses.get(self.name)) is not None:
            settings |= dict.fromkeys(ANNOUNCED_PORTS, str(own.port))
        self.config = replace(self.config, nodes=nodes, settings=settings)

    def has_command(self, name: str) -> bool:
        """See `EmulatedNode.has_command`."""
        version = version_of(self.config.engine, self.config.redis_version)
        first, _, second = name.partition("|")
        command = commands(version.releases).get(first)
        return command is not None and (
            not second or name in {it.name for it in command.subcommands.values()}
        )

    def _answers_changed(self) -> None:
        if self._server is not None:
            self._server.update_guards()
            if not self.answers.are_late:
                for session in self._server.clients.sessions.values():
                    session.end_delay()

    def _begin(self, server: Server) -> None:
        """Start the process, which loads the data on its disk."""
        server.start()

    def use_users(self, users: Mapping[str, str]) -> None:
        """Use other users, as `RedisNodeConfig.users`, from the next start on."""
        self.config = replace(self.config, users=users)

    async def shut_down_in_sync(self) -> None:
        """See `EmulatedNode.shut_down_in_sync`. Until then writes wait, as with Redis."""
        server = self._server
        if server is not None and not server.is_paused:
            seconds = min(server.settings.number("shutdown-timeout"), _SHUTDOWN)
            server.clients.pause(seconds, everything=False)
            await server.replicas.catch_up(seconds)
        if self._server is server:  # nobody has ended it meanwhile
            self.shut_down()

    # --- disk -------------------------------------------------------------------------------

    def fill_disk(self, *, is_full: bool) -> None:
        """Let the disk of its process take no more of its append-only file, or all again."""
        if self._server is not None:
            self._server.aof.fill_disk(is_full=is_full)

    def renew(self) -> None:
        """Empty the disk of a stopped node, as before its first start."""
        for name in (AOF_NAME, NODES_NAME):
            (self.config.directory / name).unlink(missing_ok=True)

    def truncate_aof(self, size: int) -> None:
        """Truncate a stopped node's append-only file to a size in bytes, as a power loss does."""
        truncate(self.config.directory / AOF_NAME, size)


class _Opening(asyncio.Protocol):
    """Sets a future when its protocol is connected, and passes all other calls to the protocol."""

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
