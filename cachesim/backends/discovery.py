"""Answers `config get cluster` in place of real Memcached servers, which do not know it."""

import asyncio
import ssl
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from cachesim.servers.certificates import name_and_problem
from cachesim.topology import Endpoint

if TYPE_CHECKING:
    from cachesim.embedded.toxiproxy.proxy import Connected, Factory

_PATIENCE = 86_400.0
"""Seconds for a TLS handshake with a node: its link may hang for long."""


class Discovery:
    """What answers `config get cluster` for real servers.

    Args:
        server_tls: returns the TLS of a node's server, given the node's name and what is wrong with
            its certificate, so that clients see what they would see without a forwarder.
        node_tls: that of connections to nodes. It minds no problem of their certificates.

    Attributes:
        reply: the answer.
    """

    def __init__(
        self, server_tls: Callable[[str, str | None], ssl.SSLContext], node_tls: ssl.SSLContext
    ) -> None:
        self._server_tls = cache(server_tls)
        self._node_tls = node_tls
        self.reply = b""

    def accept(
        self, loop: asyncio.AbstractEventLoop, factory: "Factory", node: Endpoint
    ) -> "Connected":
        """Connect the client's side of a new connection, made by the factory, to a forwarder."""
        from cachesim.aio.pipe import pipe
        from cachesim.aio.scheduler import Scheduler
        from cachesim.aio.tls import TlsProtocol
        from cachesim.backends.forwarder import Forwarder, Gate

        forwarder = Forwarder(lambda: self.reply)

        async def connect() -> asyncio.Protocol:
            to_node, _ = await loop.create_connection(
                lambda: forwarder.node, node.host, node.port,
                ssl=self._node_tls, ssl_handshake_timeout=_PATIENCE,
            )  # fmt: skip
            try:
                tls = self._server_tls(*name_and_problem(to_node.get_extra_info("peercert")))
            except BaseException:
                to_node.abort()
                raise
            # Without a handshake the forwarder never begins, and would not let go of the node.
            return TlsProtocol(tls, forwarder, Scheduler(loop), failed=lambda _: to_node.abort())

        protocol = factory()
        transport, forwarder.transport = pipe(loop, protocol, Gate(loop, connect))
        return transport, protocol
