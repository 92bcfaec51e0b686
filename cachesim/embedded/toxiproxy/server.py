"""An embedded Toxiproxy: its proxies, and its HTTP API on a port."""

import asyncio
import socket

from cachesim.aio.http import HttpConnection
from cachesim.embedded.toxiproxy.api import ProxyApi
from cachesim.embedded.toxiproxy.listener import Listener
from cachesim.embedded.toxiproxy.proxies import Proxies

BODY_MAX = 24 * 1024
"""The most bytes of a request's body: some hundred proxies, handled in hundredths of a second."""


class ProxyServer:
    """One Toxiproxy: its proxies, and its API on a port of 127.0.0.1.

    Attributes:
        proxies: the proxies. Use them in the loop's thread.
        handle: handles an API request without a connection. Call it in the loop's thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, proxies: Proxies) -> None:
        self.proxies = proxies
        self._loop = loop
        self.handle = ProxyApi(proxies).handle
        self._connections: dict[HttpConnection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: Listener | None = None

    def start(self, port: int = 0) -> str:
        """Serve the API.

        Args:
            port: 0 for a free one.

        Returns:
            The API's URL.

        Raises:
            ToxiproxyError: the port is taken.
        """
        self._listener = Listener(self._loop, f"127.0.0.1:{port}", self._accept)
        return f"http://{self._listener.address}"

    def close(self) -> None:
        """Close the API and the proxies."""
        if self._listener is not None:
            self._listener.close()
        for task in self._tasks:
            task.cancel()
        for connection in tuple(self._connections):
            connection.close()
        self.proxies.close()

    def accept(self) -> asyncio.Protocol:
        """Return the server's side of a new connection to the API."""
        return HttpConnection(self.handle, self._connections, BODY_MAX)

    def _accept(self, sock: socket.socket) -> None:
        async def serve() -> None:
            await self._loop.connect_accepted_socket(self.accept, sock)

        def end(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled() or task.exception():
                sock.close()

        task = self._loop.create_task(serve())
        self._tasks.add(task)
        task.add_done_callback(end)
