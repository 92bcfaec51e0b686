"""HTTP for Toxiproxy's API: a protocol for each connection, and a server of them."""

import asyncio
import re
import socket
from collections.abc import Callable
from http import HTTPStatus

import h11

from cachesim.embedded.toxiproxy.api import Answer, ProxyApi
from cachesim.embedded.toxiproxy.listener import Listener
from cachesim.embedded.toxiproxy.proxies import Proxies

BODY_MAX = 24 * 1024
"""Bytes, some hundreds of proxies: what is answered in a few hundredths of a second."""

_HEAD_MAX = 16 * 1024  # bytes
_WRONG_ESCAPE = re.compile(b"%(?![0-9a-fA-F]{2})")


class ProxyServer:
    """One Toxiproxy: its proxies, and its API on a port of 127.0.0.1.

    Attributes:
        proxies: to be used in the loop's thread.
        answer: the API without HTTP, likewise.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, proxies: Proxies) -> None:
        self.proxies = proxies
        self._loop = loop
        self.answer = ProxyApi(proxies).answer
        self._connections: dict[_ApiConnection, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: Listener | None = None

    def start(self, port: int = 0) -> str:
        """Answer calls of the API.

        Args:
            port: 0 is a free one.

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
        """The server side of a new connection to the API."""
        return _ApiConnection(self.answer, self._connections)

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


class _Refused(Exception):
    """A request that is answered without the API."""

    def __init__(self, status: int) -> None:
        self.answer = Answer(
            status,
            {"Content-Type": "text/plain; charset=utf-8"},
            f"{status} {HTTPStatus(status).phrase}".encode(),
        )


class _ApiConnection(asyncio.Protocol):
    _transport: asyncio.Transport

    def __init__(
        self,
        answer: Callable[[str, str, str, bytes], Answer],
        connections: dict["_ApiConnection", None],
    ) -> None:
        self._answer = answer
        self._connections = connections
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_MAX)
        self._request: h11.Request | None = None
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._connections[self] = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._connections.pop(self, None)

    def close(self) -> None:
        self._transport.abort()

    def pause_writing(self) -> None:
        # Who does not read the answers gets no more of them.
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._go_on()

    def eof_received(self) -> None:
        self._http.receive_data(b"")
        self._go_on()

    def _go_on(self) -> None:
        try:
            while not self._transport.is_closing():
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    self._begin(event)
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > BODY_MAX:
                        raise _Refused(413)
                elif isinstance(event, h11.EndOfMessage):
                    self._reply()
                elif isinstance(event, h11.ConnectionClosed):
                    self._transport.close()
                else:
                    return
        except h11.RemoteProtocolError as error:
            self._refuse(_Refused(error.error_status_hint))
        except _Refused as refused:
            self._refuse(refused)

    def _begin(self, request: h11.Request) -> None:
        self._request = request
        self._body.clear()
        if _WRONG_ESCAPE.search(request.target):
            raise _Refused(400)
        if self._http.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))

    def _reply(self) -> None:
        request = self._request
        if request is None:
            return
        agent = next((value for name, value in request.headers if name == b"user-agent"), b"")
        answer = self._answer(
            request.method.decode(),
            request.target.decode("latin-1"),
            agent.decode("latin-1"),
            bytes(self._body),
        )
        self._send(answer)
        if self._http.our_state is h11.MUST_CLOSE:
            self._transport.close()
        else:
            self._http.start_next_cycle()

    def _refuse(self, refused: _Refused) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(refused.answer, {"Connection": "close"})
        self._transport.close()

    def _send(self, answer: Answer, headers: dict[str, str] | None = None) -> None:
        head = {**answer.headers, **(headers or {})}
        if answer.status != HTTPStatus.NO_CONTENT:
            head["Content-Length"] = str(len(answer.body))
        is_head = self._request is not None and self._request.method == b"HEAD"
        self._write(
            h11.Response(
                status_code=answer.status,
                headers=list(head.items()),
                reason=HTTPStatus(answer.status).phrase,
            ),
            h11.Data(data=b"" if is_head else answer.body),
            h11.EndOfMessage(),
        )
        self._request = None

    def _write(self, *events: h11.Event) -> None:
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))
