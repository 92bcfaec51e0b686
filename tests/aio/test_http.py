"""HTTP connections of emulated services."""

import asyncio
from collections.abc import Callable

import pytest

from cachesim.aio.http import HttpConnection, Request, Response
from cachesim.aio.pipe import pipe


class Client(asyncio.Protocol):
    """Notes what it receives."""

    def __init__(self) -> None:
        self.received = b""
        self.is_closed = False

    def data_received(self, data: bytes) -> None:
        """Note the data."""
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self.is_closed = exc is None


def echo(request: Request) -> Response:
    """Answer with the request's own parts."""
    host = request.headers["host"]
    return Response(200, {}, f"{request.method} {request.target} {host} ".encode() + request.body)


def exchange(
    data: bytes, handler: Callable[[Request], Response] = echo, body_max: int = 10
) -> tuple[bytes, bool]:
    """Send data over a new connection. Return what comes back, and whether it was closed."""

    async def main() -> tuple[bytes, bool]:
        connections: dict[HttpConnection, None] = {}
        client, server = Client(), HttpConnection(handler, connections, body_max)
        transport, _ = pipe(asyncio.get_running_loop(), client, server)
        assert list(connections) == [server]
        transport.write(data)
        for _ in range(10):
            await asyncio.sleep(0)
        is_closed = client.is_closed
        server.close()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not connections
        return client.received, is_closed

    return asyncio.run(main())


def get(path: bytes, *headers: bytes, method: bytes = b"GET", body: bytes = b"") -> bytes:
    """Return a request."""
    size = b"Content-Length: %d" % len(body)
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", *headers, size, b"", body))


def test_requests_in_a_row() -> None:
    """Pipelined requests are answered in order, and the connection stays open."""
    received, is_closed = exchange(
        get(b"/a%20b?c", b"Host: h") + get(b"/", b"Host: i", method=b"PUT", body=b"body")
    )
    assert received.split(b"HTTP/1.1 200 OK\r\n")[1:] == [
        b"Content-Length: 15\r\n\r\nGET /a%20b?c h ",
        b"Content-Length: 12\r\n\r\nPUT / i body",
    ]
    assert not is_closed


def test_first_of_equal_headers() -> None:
    """Of headers with the same name the handler gets the first."""
    received, _ = exchange(
        get(b"/", b"Host: h", b"X-A: 1", b"x-a: 2"),
        lambda request: Response(200, {}, request.headers["x-a"].encode()),
    )
    assert received.endswith(b"\r\n\r\n1")


@pytest.mark.parametrize(("size", "status"), [(10, b"200"), (11, b"413")])
def test_large_body(size: int, status: bytes) -> None:
    """A body that is too large is refused, and the connection closed."""
    received, is_closed = exchange(get(b"/", b"Host: h", body=b"x" * size))
    assert received.startswith(b"HTTP/1.1 " + status)
    assert is_closed == (status == b"413")


def test_head_and_no_content() -> None:
    """A response to HEAD has a length and no body; one without content has neither."""
    received, _ = exchange(get(b"/", b"Host: h", method=b"HEAD"))
    assert received == b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    received, _ = exchange(get(b"/", b"Host: h"), lambda _: Response(204, {"X": "y"}))
    assert received == b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"


@pytest.mark.parametrize("request_", [b"nonsense\r\n\r\n", get(b"/%", b"Host: h"), get(b"/")])
def test_wrong_request(request_: bytes) -> None:
    """A wrong request is refused without the handler, and the connection closed."""
    received, is_closed = exchange(request_, lambda _: pytest.fail("it was handled"))
    assert received.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Connection: close\r\n" in received
    assert is_closed


def test_close_is_asked_for() -> None:
    """The connection is closed after a request with `Connection: close`."""
    received, is_closed = exchange(get(b"/", b"Host: h", b"Connection: close"))
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert is_closed


def test_continue() -> None:
    """A client that waits for `100 Continue` gets it before it sends the body."""
    data = get(b"/", b"Host: h", b"Expect: 100-continue", body=b"x").removesuffix(b"x")
    assert exchange(data) == (b"HTTP/1.1 100 \r\n\r\n", False)
