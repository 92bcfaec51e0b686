"""The forwarder before Memcached nodes, over pipes and without TLS."""

import asyncio
import functools
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from cachesim.aio.pipe import pipe
from cachesim.backends.forwarder import Forwarder, Gate

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

    Args:
        refuses: whether the node refuses connections.

    Attributes:
        is_reached: set when the node can be reached.
    """

    def __init__(self, *, refuses: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.client, self.node = Side(), Side()
        self.is_reached = asyncio.Event()
        self.is_reached.set()
        self._refuses = refuses
        self.forwarder = Forwarder(lambda: REPLY)
        _, self.forwarder.transport = pipe(self.loop, self.client, Gate(self.loop, self.connect))

    async def connect(self) -> asyncio.Protocol:
        """Connect the forwarder to the node."""
        await self.is_reached.wait()
        if self._refuses:
            raise ConnectionRefusedError
        pipe(self.loop, self.forwarder.node, self.node)
        return self.forwarder

    async def send(self, *pieces: bytes) -> None:
        """Let the client send some pieces, one after the other."""
        await self._send(self.client, pieces)

    async def answer(self, *pieces: bytes) -> None:
        """Let the node send some pieces, one after the other."""
        await self._send(self.node, pieces)

    async def _send(self, side: Side, pieces: Iterable[bytes]) -> None:
        for piece in (*pieces, b""):
            if piece:
                side.transport.write(piece)
            for _ in range(20):
                await asyncio.sleep(0)


@in_a_loop
async def test_answers_and_passes() -> None:
    """It answers the one command, if the node answers, and passes the others."""
    rig = Rig()
    await rig.send(b"config get cluster\r\n")
    assert (rig.client.got, rig.node.got) == (b"", b"version\r\n")
    await rig.answer(b"VERSION 1.6.40\r\n")
    assert rig.client.got == REPLY
    await rig.send(b"get a\r\n", b"version\r\nget b\r\n")
    assert rig.node.got == b"version\r\nget a\r\nversion\r\nget b\r\n"
    await rig.answer(b"END\r\nVERSION 1.6.40\r\n")
    assert rig.client.got == REPLY + b"END\r\nVERSION 1.6.40\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
@in_a_loop
async def test_answers_in_order(size: int) -> None:
    """Requests that do not wait for answers get theirs in order, whatever values look like."""
    value = b"VERSION 1.6.40\r\n" * 3
    answers = b"VALUE a 0 %d\r\n%b\r\nEND\r\nVA %d t0\r\n%b\r\n" % (
        len(value), value, len(value), value,
    )  # fmt: skip
    rig = Rig()
    await rig.send(b"get a\r\nmg a v t\r\nconfig get cluster\r\nversion\r\nconfig get cluster\r\n")
    stream = answers + b"VERSION 1.6.40\r\n" * 3
    await rig.answer(*(stream[at : at + size] for at in range(0, len(stream), size)))
    assert rig.client.got == answers + REPLY + b"VERSION 1.6.40\r\n" + REPLY


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
    await rig.send(b"config get cluster\r\n")
    assert rig.node.got == requests + b"version\r\n"


@in_a_loop
async def test_long_line() -> None:
    """A line that is too long for the command is passed as it comes, whatever is within it."""
    rig = Rig()
    keys = b"get" + b" key" * 20_000
    await rig.send(keys, b" set 0 0 99 ", b"version\r\nconfig get cluster\r\n")
    assert rig.node.got == keys + b" set 0 0 99 version\r\nversion\r\n"
    await rig.answer(b"END\r\nVERSION 1.6.40\r\n")
    assert rig.client.got == b"END\r\n" + REPLY


@in_a_loop
async def test_binary_protocol_is_passed() -> None:
    """The binary protocol is passed as it is, both ways."""
    rig = Rig()
    await rig.send(b"\x80\x0a" + bytes(22))
    await rig.send(b"config get cluster\n")
    await rig.answer(b"\x81\x0a" + bytes(22))
    assert rig.node.got == b"\x80\x0a" + bytes(22) + b"config get cluster\n"
    assert rig.client.got == b"\x81\x0a" + bytes(22)


@in_a_loop
async def test_ends_with_either_side() -> None:
    """The end of one side ends the other; so does a node that refuses."""
    rig = Rig()
    await rig.send()
    rig.node.transport.close()
    await rig.send()
    assert rig.client.is_lost
    rig = Rig()
    await rig.send()
    rig.client.transport.close()
    await rig.send()
    assert rig.node.is_lost
    rig = Rig(refuses=True)
    await rig.send()
    assert rig.client.is_lost


@in_a_loop
async def test_node_that_is_not_reached() -> None:
    """Nothing is answered, nor is anything lost. A client that leaves leaves nothing behind."""
    rig = Rig()
    rig.is_reached.clear()
    await rig.send(b"config get cluster\r\n", b"get a\r\n")
    assert rig.client.got == b""
    rig.is_reached.set()
    await rig.send()
    assert rig.node.got == b"version\r\nget a\r\n"
    rig = Rig()
    rig.is_reached.clear()
    await rig.send(b"get a\r\n")
    rig.client.transport.close()
    await rig.send()
    rig.is_reached.set()
    await rig.send()
    assert rig.node.transport is None
