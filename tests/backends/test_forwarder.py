"""The forwarder before Memcached nodes, over pipes and without TLS."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from cachesim.aio.pipe import pipe
from cachesim.backends.forwarder import Forwarder

REPLY = b"CONFIG cluster 0 3\r\n1\n\n\r\nEND\r\n"


class Side(asyncio.Protocol):
    """One end of a connection, which keeps what it gets."""

    def __init__(self) -> None:
        self.got = b""
        self.is_lost = False
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep them."""
        self.got += data

    def connection_lost(self, _error: Exception | None) -> None:
        """Note it."""
        self.is_lost = True


def in_a_loop(test: Callable[..., Any]) -> Callable[..., None]:
    """Run a test in a loop of its own."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(test(**arguments))

    return run


class Rig:
    """A client, a forwarder and a node.

    Attributes:
        refuses: whether the node refuses connections.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.client, self.node = Side(), Side()
        self.connections = 0
        self.refuses = False
        self.forwarder = Forwarder(self.loop, lambda: REPLY, self.connect)
        pipe(self.loop, self.client, self.forwarder)

    async def connect(self, make: Callable[[], asyncio.Protocol]) -> None:
        """Connect the forwarder to the node."""
        if self.refuses:
            raise ConnectionRefusedError
        self.connections += 1
        pipe(self.loop, make(), self.node)

    async def send(self, *pieces: bytes) -> None:
        """Let the client send some pieces, one after the other."""
        for piece in pieces:
            self.client.transport.write(piece)
            for _ in range(10):
                await asyncio.sleep(0)


@in_a_loop
async def test_answers_and_passes() -> None:
    """It answers the one command, without asking the node, and passes the others."""
    rig = Rig()
    await rig.send(b"config get cluster\r\n")
    assert (rig.client.got, rig.connections) == (REPLY, 0)
    await rig.send(b"get a\r\n", b"config get cluster\r\n", b"version\r\nget b\r\n")
    assert (rig.node.got, rig.connections) == (b"get a\r\nversion\r\nget b\r\n", 1)
    rig.node.transport.write(b"END\r\n")
    await rig.send()
    for _ in range(5):
        await asyncio.sleep(0)
    assert rig.client.got == REPLY * 2 + b"END\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
@in_a_loop
async def test_leaves_values_alone(size: int) -> None:
    """What looks like the command within a value is passed, however it is cut into pieces."""
    value = b"config get cluster\r\n" * 3
    requests = b"set a 0 0 %d\r\n%b\r\nms b %d\r\n%b\r\nget a\r\n" % (
        len(value), value, len(value), value,
    )  # fmt: skip
    rig = Rig()
    pieces = [requests[at : at + size] for at in range(0, len(requests), size)]
    await rig.send(*pieces)
    assert rig.node.got == requests
    assert rig.client.got == b""
    await rig.send(b"config get cluster\r\n")
    assert rig.client.got == REPLY


@in_a_loop
async def test_binary_protocol_is_passed() -> None:
    """The binary protocol is passed as it is."""
    rig = Rig()
    await rig.send(b"\x80\x0a" + bytes(22))
    await rig.send(b"config get cluster\n")
    assert rig.node.got == b"\x80\x0a" + bytes(22) + b"config get cluster\n"


@in_a_loop
async def test_ends_with_either_side() -> None:
    """The end of one side ends the other; so does a node that refuses."""
    rig = Rig()
    await rig.send(b"get a\r\n")
    rig.node.transport.close()
    await rig.send()
    for _ in range(10):
        await asyncio.sleep(0)
    assert rig.client.is_lost
    rig = Rig()
    await rig.send(b"get a\r\n")
    rig.client.transport.close()
    for _ in range(10):
        await asyncio.sleep(0)
    assert rig.node.is_lost
    rig = Rig()
    rig.refuses = True
    await rig.send(b"get a\r\n")
    assert rig.client.is_lost
