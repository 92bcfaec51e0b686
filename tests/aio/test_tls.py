"""TLS in the process: large data in slices in both directions, and the end after it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from cachesim.aio.pipe import pipe
from cachesim.aio.scheduler import Scheduler
from cachesim.aio.tls import TlsProtocol
from cachesim.servers.certificates import CertificateAuthority, client_context, server_context

_MUCH = 8 << 20  # bytes


class End(asyncio.Protocol):
    """One end of a connection, which notes data and calls."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.received = bytearray()
        self.is_lost = self.is_held = False
        self.largest = 0
        self.pauses_at = 1 << 40

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Note data, and pause reading if it is enough."""
        self.received += data
        if len(self.received) >= self.pauses_at and self.transport is not None:
            self.transport.pause_reading()

    def pause_writing(self) -> None:
        """Note the call."""
        self.is_held = True

    def resume_writing(self) -> None:
        """Note the call."""
        self.is_held = False

    def connection_lost(self, _error: Exception | None) -> None:
        """Note the call."""
        self.is_lost = True


Test = Callable[[End, End], Awaitable[None]]


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    """A CA."""
    return CertificateAuthority()


def run(authority: CertificateAuthority, folder: Path, test: Test) -> None:
    """Run a test with two connected ends."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        client, server = End(), End()
        theirs = server_context(authority.issue("redis-a"), folder)
        pipe(
            loop,
            TlsProtocol(
                client_context(authority.pem), client, Scheduler(loop), server_hostname="localhost"
            ),
            TlsProtocol(theirs, server, Scheduler(loop)),
        )
        await until(lambda: client.transport is not None and server.transport is not None)
        await test(client, server)

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> int:
    """Let the loop go round until a condition holds; return the number of rounds."""
    deadline = asyncio.get_running_loop().time() + 10
    rounds = 0
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0)
        rounds += 1
    return rounds


def test_much_is_sent_in_slices(authority: CertificateAuthority, tmp_path: Path) -> None:
    """Large data is sent in slices and arrives in order; the writer is paused meanwhile."""

    async def test(client: End, server: End) -> None:
        assert client.transport is not None
        data = bytes(range(256)) * (_MUCH // 256)
        client.transport.write(data)
        client.transport.write(b"the end")
        assert client.is_held
        assert client.transport.get_write_buffer_size() > _MUCH / 2
        assert await until(lambda: len(server.received) >= len(data) + 7) > 20
        assert server.received == data + b"the end"
        await until(lambda: not client.is_held)
        assert client.transport.get_write_buffer_size() == 0

    run(authority, tmp_path, test)


def test_close_comes_after_written_data(authority: CertificateAuthority, tmp_path: Path) -> None:
    """Written data is not lost by a close, and nothing can be written after it."""

    async def test(client: End, server: End) -> None:
        assert client.transport is not None
        client.transport.write(bytes(_MUCH))
        client.transport.close()
        assert client.transport.is_closing()
        client.transport.write(b"too late")
        await until(lambda: server.is_lost)
        assert server.received == bytes(_MUCH)

    run(authority, tmp_path, test)


def test_paused_reader_gets_nothing(authority: CertificateAuthority, tmp_path: Path) -> None:
    """Reading can be paused within large data, and resumes where it stopped."""

    async def test(client: End, server: End) -> None:
        assert client.transport is not None
        assert server.transport is not None
        server.pauses_at = 1 << 20
        client.transport.write(bytes(_MUCH))
        await until(lambda: len(server.received) >= 1 << 20)
        got = len(server.received)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(server.received) == got < (1 << 20) + 64 * 1024
        server.pauses_at = 1 << 40
        server.transport.resume_reading()
        await until(lambda: len(server.received) == _MUCH)

    run(authority, tmp_path, test)
