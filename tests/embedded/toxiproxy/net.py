"""Proxies with a server behind them and clients in front, on real sockets or inside the process."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

from cachesim.aio.timers import new_event_loop
from cachesim.embedded.toxiproxy.proxies import Dial, Proxies, Proxy, ProxySpec

DEADLINE = 20.0  # seconds for anything that is to happen
SHORTLY = 0.2  # seconds for what is not to happen


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
        """Everything until the end."""
        return await self.reader.read()

    async def is_silent(self) -> bool:
        """Whether for a while neither data nor an end comes."""
        try:
            async with asyncio.timeout(SHORTLY):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False

    def end(self) -> None:
        """Send no more."""
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
    """A server, and proxies that may lead to it.

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
        """Take a connection."""
        await self.accepted.put(self._note(reader, writer))

    async def client(self, proxy: Proxy | None = None) -> Talk:
        """Connect to a proxy."""
        host, port = (proxy or self.proxy).listen.split(":")
        return self._note(*await asyncio.open_connection(host, int(port)))

    async def connect(self) -> tuple[Talk, Talk]:
        """Connect to the proxy; gives both ends."""
        return await self.client(), await self.accepted.get()

    def _note(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Talk:
        self.talks.append(Talk(reader, writer))
        return self.talks[-1]


@asynccontextmanager
async def rig(dial: Dial | None = None, seed: int = 0) -> AsyncIterator[Rig]:
    """A rig with a server, and a proxy `p` that leads to it. Checks that nothing remains of it."""
    rig = Rig(dial, seed)
    server = await asyncio.start_server(rig.serve, "127.0.0.1", 0)
    try:
        rig.upstream = "{}:{}".format(*server.sockets[0].getsockname())
        rig.proxies.create(ProxySpec("p", rig.upstream))
        yield rig
    finally:
        rig.proxies.close()
        # Some connections may only now come to the server, and must not find it closed.
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
    """Wait until something is so."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)
