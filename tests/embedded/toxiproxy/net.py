"""Proxies between a server and clients, on real sockets or inside the process."""

import asyncio
import contextlib
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from cachesim.aio.pipe import pipe
from cachesim.aio.timers import new_event_loop
from cachesim.embedded.toxiproxy.proxies import Proxies
from cachesim.embedded.toxiproxy.proxy import Connected, Dial, Factory, Proxy, ProxySpec
from cachesim.toxiproxy.toxics import BOTH, Latency, Stream, Toxic

DEADLINE = 20.0  # seconds for anything that is to happen
SHORTLY = 0.2  # seconds for what is not to happen
UP, DOWN = Stream.UPSTREAM, Stream.DOWNSTREAM
ENDLESS = 2**28  # bytes: more than the kernel's buffers take
FOR_EVER = Latency(10**9)
NOWHERE = "127.0.0.1:1"

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="new connections hang on Linux")


class Talk:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        """Send without waiting."""
        self.writer.write(data)

    async def receive(self, size: int) -> bytes:
        """Wait for so many bytes."""
        return await self.reader.readexactly(size)

    async def all(self) -> bytes:
        """Read until the end."""
        return await self.reader.read()

    async def is_silent(self) -> bool:
        """Return whether neither data nor an end comes for a while."""
        try:
            async with asyncio.timeout(SHORTLY):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False

    def end(self) -> None:
        """Send the end."""
        self.writer.write_eof()

    def close(self) -> None:
        """Close."""
        self.writer.close()

    def reset(self) -> None:
        """Close with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Rig:
    """A server, and proxies in front of it.

    Attributes:
        upstream: the server's address.
        accepted: the server's ends of its connections.
        proxy: one that leads to it, named `p`.
    """

    def __init__(self, dial: Dial | None, seed: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.proxies = Proxies(self.loop, dial, Random(seed))
        self.accepted: asyncio.Queue[Talk] = asyncio.Queue()
        self.talks: list[Talk] = []
        self.upstream = ""

    @property
    def proxy(self) -> Proxy:
        """The proxy that leads to the server."""
        return self.proxies["p"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note a new connection."""
        await self.accepted.put(self._note(reader, writer))

    async def client(self, proxy: Proxy | None = None) -> Talk:
        """Connect to a proxy."""
        host, port = (proxy or self.proxy).listen.split(":")
        return self._note(*await asyncio.open_connection(host, int(port)))

    async def connect(self) -> tuple[Talk, Talk]:
        """Connect to the proxy; return both ends."""
        return await self.client(), await self.accepted.get()

    def _note(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Talk:
        self.talks.append(Talk(reader, writer))
        return self.talks[-1]


@asynccontextmanager
async def rig(dial: Dial | None = None, seed: int = 0) -> AsyncIterator[Rig]:
    """A rig with a server and a proxy `p` in front of it. Checks that nothing remains of it."""
    rig = Rig(dial, seed)
    server = await asyncio.start_server(rig.serve, "127.0.0.1", 0)
    try:
        rig.upstream = "{}:{}".format(*server.sockets[0].getsockname())
        rig.proxies.create(ProxySpec("p", rig.upstream))
        yield rig
    finally:
        rig.proxies.close()
        # Some connections may reach the server only now, and must not find it closed.
        await asyncio.sleep(0.001)
        await eventually(lambda: len(asyncio.all_tasks()) == 1)
        server.close()
        for talk in rig.talks:
            talk.writer.transport.abort()
        for talk in rig.talks:
            with contextlib.suppress(OSError):
                await talk.writer.wait_closed()


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test in a loop of its own."""

    async def main() -> None:
        async with asyncio.timeout(DEADLINE):
            await test()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


def buffered() -> int:
    """Return the bytes that a connection through a proxy may hold, most of them in the kernel."""
    limits = Path("/proc/sys/net/ipv4")
    if not limits.exists():
        return 30_000_000
    kernel = sum(int((limits / f"tcp_{it}mem").read_text().split()[2]) for it in "rw")
    return 2 * kernel + 10_000_000


async def fill(transport: asyncio.WriteTransport) -> int:
    """Send until nothing more is taken for a while; return the bytes sent."""
    chunk, sent, last = b"x" * 65536, 0, time.monotonic()
    while time.monotonic() - last < SHORTLY and sent < ENDLESS:
        if not transport.get_write_buffer_size():
            transport.write(chunk)
            sent, last = sent + len(chunk), time.monotonic()
        await asyncio.sleep(0)
    return sent


def stall(proxies: Proxies, *names: str, toxic: Toxic = FOR_EVER) -> None:
    """Stall proxies both ways."""
    for name in names or ("p",):
        for stream in BOTH:
            if proxies[name].toxic(f"stall_{stream}") is None:
                proxies.add_toxic(name, f"stall_{stream}", toxic, stream)


def heal(proxies: Proxies, *names: str) -> None:
    """End the stall."""
    for name in names or ("p",):
        for stream in BOTH:
            proxies.remove_toxic(name, f"stall_{stream}")


async def dial_for_ever(_: Factory, __: str) -> Connected:
    """Dial an upstream that does not answer."""
    await asyncio.Event().wait()
    raise AssertionError


class Node:
    """A node inside the process, which echoes.

    Attributes:
        refuses: whether it refuses connections.
        ends: the node's side of each connection.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.refuses = False
        self.ends: list[NodeEnd] = []

    async def dial(self, factory: Factory, address: str) -> Connected:
        """Connect to the node, whatever the address."""
        if self.refuses:
            raise ConnectionRefusedError(address)
        protocol = factory()
        self.ends.append(NodeEnd(self))
        return pipe(self.loop, protocol, self.ends[-1])[0], protocol

    def heard(self, end: "NodeEnd", data: bytes, /) -> None:
        """Echo data."""
        end.transport.write(data)


class NodeEnd(asyncio.Protocol):
    """A node's side of a connection, or that of its client."""

    transport: asyncio.Transport

    def __init__(self, node: Node | None = None) -> None:
        self.node = node
        self.data = b""
        self.lost: list[Exception | None] = []
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Note the data; no call may come within another."""
        assert not self.busy
        self.busy = True
        self.data += data
        if self.node:
            self.node.heard(self, data)
        self.busy = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self.lost.append(exc)
