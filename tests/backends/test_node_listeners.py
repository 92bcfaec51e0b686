"""The listeners before real Memcached nodes, without what they lead to."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cachesim.aio.loop import LoopThread
from cachesim.aio.pipe import pipe
from cachesim.backends.node_listeners import NodeListeners
from cachesim.errors import ToxiproxyError
from cachesim.topology import Endpoint


class Tells(asyncio.Protocol):
    """The other side of a connection, which tells where that was led."""

    def __init__(self, text: str) -> None:
        self._text = text

    def connection_made(self, transport: Any) -> None:
        """Tell it."""
        transport.write(self._text.encode())


class FakeDiscovery:
    """Connects to nobody."""

    def accept(self, loop: asyncio.AbstractEventLoop, factory: Any, node: Endpoint) -> Any:
        """See `Discovery.accept`."""
        protocol = factory()
        transport, _ = pipe(loop, protocol, Tells(str(node)))
        return transport, protocol


@pytest.fixture
def listeners() -> Iterator[NodeListeners]:
    """Those of a topology whose other parts are not there."""
    thread = LoopThread("t")
    thread.start()
    it = NodeListeners(thread, FakeDiscovery(), "localhost")  # type: ignore[arg-type]
    yield it
    thread.call(it.stop)
    thread.stop()


def free_ports(count: int) -> list[int]:
    """Return ports that are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in sockets]
    for it in sockets:
        it.close()
    return ports


def link(number: int) -> Endpoint:
    """Return where the link of clients is published after so many moves."""
    return Endpoint("127.0.0.1", number)


@contextmanager
def connected(port: int, number: int) -> Iterator[socket.socket]:
    """Yield a connection, which is led to the link that was published after so many moves."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        assert client.recv(100) == str(link(number)).encode()
        yield client


def refuses(port: int) -> bool:
    """Whether nobody listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_moves(listeners: NodeListeners) -> None:
    """A former address refuses, or stays as it is; with the first one all others are closed."""
    first, second, third = free_ports(3)
    listeners.open("memcached-a", first, link(1))
    with connected(first, 1) as client:
        listeners.open("memcached-a", second, link(2))
        assert client.recv(1) == b""
    assert refuses(first)
    with pytest.raises(OSError), socket.socket() as taken:  # noqa: PT011
        taken.bind(("127.0.0.1", first))
    with connected(second, 2) as client:
        listeners.open("memcached-a", third, link(3), beside=True)
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
    for _ in range(2):
        with connected(second, 2), connected(third, 3):
            pass
        listeners.open("memcached-a", first, link(1))
        assert refuses(second)
        assert refuses(third)
        with connected(first, 1):
            pass
        listeners.open("memcached-a", second, link(2))
        listeners.open("memcached-a", third, link(3), beside=True)


def test_nodes_are_apart(listeners: NodeListeners) -> None:
    """Closing those of a node leaves the others, and frees its ports."""
    one, other, moved = free_ports(3)
    listeners.open("memcached-a", one, link(1))
    listeners.open("memcached-a2", other, link(2))
    listeners.open("memcached-a2", moved, link(3))
    for _ in range(2):
        listeners.close("memcached-a2")
        assert refuses(moved)
        with socket.create_server(("127.0.0.1", other)), connected(one, 1):
            pass
    listeners.open("memcached-a2", moved, link(4))
    with connected(moved, 4):
        pass


def test_port_that_is_taken(listeners: NodeListeners) -> None:
    """The node stays where it is."""
    (first,) = free_ports(1)
    listeners.open("memcached-a", first, link(1))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for _ in range(2):
            with pytest.raises(ToxiproxyError, match="address already in use"):
                listeners.open("memcached-a", port, link(2))
    with connected(first, 1):
        pass
