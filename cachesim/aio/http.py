"""HTTP/1.1 for emulated services: an asyncio protocol for the server's side of a connection."""

import asyncio
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

import h11

_HEAD_MAX = 16 * 1024  # bytes
_WRONG_ESCAPE = re.compile(b"%(?![0-9a-fA-F]{2})")


class Request(NamedTuple):
    """A complete HTTP request.

    Attributes:
        target: the path and the query, quoted as received.
        headers: the headers by name in lower case. Of several with the same name, the first counts.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Response(NamedTuple):
    """An HTTP response. `Content-Length` is added to the headers."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class _RequestError(Exception):
    """A request that is answered with an error, without calling the handler."""

    def __init__(self, status: int) -> None:
        self.response = Response(
            status,
            {"Content-Type": "text/plain; charset=utf-8"},
            f"{status} {HTTPStatus(status).phrase}".encode(),
        )


class HttpConnection(asyncio.Protocol):
    """One client's connection.

    Args:
        handler: called with each request, in order. It must not take long.
        connections: the open connections; this one adds and removes itself.
        body_max: the most bytes of a request's body; more get status 413.
    """

    _transport: asyncio.Transport

    def __init__(
        self,
        handler: Callable[[Request], Response],
        connections: dict["HttpConnection", None],
        body_max: int,
    ) -> None:
        self._handler = handler
        self._connections = connections
        self._body_max = body_max
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_MAX)
        self._head: h11.Request | None = None
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._connections[self] = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See `asyncio.Protocol`."""
        self._connections.pop(self, None)

    def close(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def pause_writing(self) -> None:
        """Stop reading requests while the client does not read the responses."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read requests again."""
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Handle all complete requests."""
        self._http.receive_data(data)
        self._handle_events()

    def eof_received(self) -> None:
        """Close the connection when all requests are answered."""
        self._http.receive_data(b"")
        self._handle_events()

    def _handle_events(self) -> None:
        try:
            while not self._transport.is_closing():
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    self._begin(event)
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > self._body_max:
                        raise _RequestError(413)
                elif isinstance(event, h11.EndOfMessage):
                    self._respond()
                elif isinstance(event, h11.ConnectionClosed):
                    self._transport.close()
                else:
                    return
        except h11.RemoteProtocolError as error:
            self._refuse(_RequestError(error.error_status_hint))
        except _RequestError as error:
            self._refuse(error)

    def _begin(self, head: h11.Request) -> None:
        self._head = head
        self._body.clear()
        if _WRONG_ESCAPE.search(head.target):
            raise _RequestError(400)
        if self._http.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))

    def _respond(self) -> None:
        head = self._head
        if head is None:
            return
        headers: dict[str, str] = {}
        for name, value in head.headers:
            headers.setdefault(name.decode(), value.decode("latin-1"))
        target = head.target.decode("latin-1")
        self._send(self._handler(Request(head.method.decode(), target, headers, bytes(self._body))))
        if self._http.our_state is h11.MUST_CLOSE:
            self._transport.close()
        else:
            self._http.start_next_cycle()

    def _refuse(self, error: _RequestError) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(error.response, {"Connection": "close"})
        self._transport.close()

    def _send(self, response: Response, headers: Mapping[str, str] | None = None) -> None:
        all_headers = {**response.headers, **(headers or {})}
        if response.status != HTTPStatus.NO_CONTENT:
            all_headers["Content-Length"] = str(len(response.body))
        is_head = self._head is not None and self._head.method == b"HEAD"
        self._write(
            h11.Response(
                status_code=response.status,
                headers=list(all_headers.items()),
                reason=HTTPStatus(response.status).phrase,
            ),
            h11.Data(data=b"" if is_head else response.body),
            h11.EndOfMessage(),
        )
        self._head = None

    def _write(self, *events: h11.Event) -> None:
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))
