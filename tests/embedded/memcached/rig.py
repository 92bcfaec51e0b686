"""A node with its own clients and clock, without a network."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from cachesim.aio.pipe import PipeTransport, pipe
from cachesim.clock import Deadline, ManualClock
from cachesim.embedded.memcached.config import MemcachedNodeConfig
from cachesim.embedded.memcached.node import MemcachedNode

BORN = 1_700_000_000  # seconds since the epoch


class Client(asyncio.Protocol):
    """A client that collects replies.

    Attributes:
        received: all replies.
        lost: how the connection ended, if it has.
    """

    transport: PipeTransport

    def __init__(self, server: asyncio.Protocol) -> None:
        self.received = bytearray()
        self.lost: list[Exception | None] = []
        self.transport, self.other = pipe(asyncio.get_running_loop(), self, server)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.lost.append(error)

    def send(self, data: bytes) -> None:
        """Send without waiting."""
        self.transport.write(data)

    async def ask(self, data: bytes) -> bytes:
        """Send requests, and return all their replies."""
        self.received.clear()
        self.send(data + b"mn\r\n")
        await until(lambda: self.received.endswith(b"MN\r\n") or self.lost)
        return bytes(self.received).removesuffix(b"MN\r\n")


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop go round until a condition holds."""
    deadline = Deadline(10)
    while not condition():
        assert not deadline.expired, condition
        await asyncio.sleep(0)


async def rounds() -> None:
    """Let the loop go round often enough for anything pending."""
    for _ in range(20):
        await asyncio.sleep(0)


class Rig:
    """A node with a clock of its own."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.node = MemcachedNode(
            MemcachedNodeConfig("memcached-a", **settings),
            clock=self.clock,
            wall=lambda: BORN + self.clock.now,
        )
        self.node.start()

    def client(self) -> Client:
        """Return a new connection."""
        return Client(self.node.accept())


def run(test: Callable[[Rig], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a test in a loop."""

    async def whole() -> None:
        rig = Rig(**settings)
        await test(rig)
        rig.node.close()
        await rounds()

    asyncio.run(whole())


def stat(reply: bytes, name: str) -> int:
    """Return a number of a `stats` reply."""
    lines = dict(line.split()[1:3] for line in reply.decode().splitlines() if line != "END")
    return int(lines[name])


def put(key: str, value: bytes, options: str = "0 0") -> bytes:
    """Return a `set` without a reply."""
    return b"set %b %b %d noreply\r\n%b\r\n" % (key.encode(), options.encode(), len(value), value)
