"""A node and its connections, without a network."""

import asyncio
from pathlib import Path

import pytest

from cachesim.aio.pipe import pipe
from cachesim.aio.scheduler import Scheduler
from cachesim.aio.tls import TlsProtocol
from cachesim.embedded.answers import Rule
from cachesim.servers.certificates import CertificateAuthority, client_context, server_context
from tests.embedded.memcached.rig import Client, Rig, put, rounds, run, stat, until


class Noting(asyncio.Protocol):
    """Notes that it is connected, and data."""

    is_open = False
    received = b""

    def connection_made(self, _transport: asyncio.BaseTransport) -> None:
        """Note it."""
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Note it."""
        self.received += data


def test_kill_resets() -> None:
    """A killed node resets connections, refuses new ones, and restarts empty."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", b"1"))
        rig.node.kill()
        rig.node.kill()
        assert not rig.node.is_running
        await until(lambda: client.lost)
        assert isinstance(client.lost[0], ConnectionResetError)
        with pytest.raises(ConnectionRefusedError):
            rig.node.accept()
        rig.node.start()
        assert await rig.client().ask(b"get a\r\n") == b"END\r\n"

    run(test)


def test_orderly_end() -> None:
    """A node that is shut down closes its connections, and logs why."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(b"version\r\n")
        rig.node.shut_down()
        await until(lambda: client.lost)
        assert client.lost == [None]
        assert "Signal handled: Terminated." in rig.node.logs()

    run(test)


def test_listener_outlives_the_process() -> None:
    """Without a process a new connection ends at once."""

    async def test(rig: Rig) -> None:
        rig.node.kill()
        client = Client(rig.node.accept_from_listener())
        await until(lambda: client.lost)
        assert isinstance(client.lost[0], ConnectionResetError)

    run(test)


def test_pause_holds_everything() -> None:
    """Old and new connections hang during a pause, and are served afterwards."""

    async def test(rig: Rig) -> None:
        old = rig.client()
        await old.ask(put("a", b"1"))
        rig.node.pause()
        assert rig.node.is_paused
        new = rig.client()
        old.received.clear()
        for client in (old, new):
            client.send(b"get a\r\n")
        await rounds()
        assert not old.received
        assert not new.received
        rig.node.resume()
        assert not rig.node.is_paused
        await until(lambda: old.received == new.received == b"VALUE a 0 1\r\n1\r\nEND\r\n")

    run(test)


def test_pause_amid_much_work() -> None:
    """A pause also stops work that has begun."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        client.send(b"version\r\n" * 50_000)
        await until(lambda: client.received)
        rig.node.pause()
        await rounds()
        so_far = len(client.received)
        assert so_far < 50_000 * len(b"VERSION 1.6.18\r\n")
        await rounds()
        assert len(client.received) == so_far
        rig.node.resume()
        await until(lambda: client.received == b"VERSION 1.6.18\r\n" * 50_000)

    run(test)


def test_too_many_connections() -> None:
    """A connection too many gets an error and is closed. `-c 26` lets two in, as with 1.6.18."""

    async def test(rig: Rig) -> None:
        first, second = rig.client(), rig.client()
        third = rig.client()
        await until(lambda: third.lost)
        assert third.received == b"ERROR Too many open connections\r\n"
        assert stat(await first.ask(b"stats\r\n"), "rejected_connections") == 1
        second.transport.close()
        await until(lambda: second.lost)
        await rounds()
        assert await rig.client().ask(b"get a\r\n") == b"END\r\n"

    run(test, max_connections=26)


def test_too_many_connections_over_tls(tmp_path: Path) -> None:
    """One too many is told so in plain text; those whose handshake has not begun count too."""

    async def test(rig: Rig) -> None:
        first, _second = rig.client(), rig.client()
        third = rig.client()
        await until(lambda: third.lost)
        assert third.received == b"ERROR Too many open connections\r\n"
        assert rig.node.server.counters.rejected_connections == 1
        first.transport.close()
        await until(lambda: len(rig.node.server.sessions) == 1)
        await rounds()
        fourth = rig.client()
        await rounds()
        assert not fourth.lost
        rig.node.shut_down()
        await until(lambda: fourth.lost)

    tls = server_context(CertificateAuthority().issue("memcached-a"), tmp_path)
    run(test, max_connections=26, server_tls=tls)


@pytest.mark.parametrize("data", [b"x" * 5000, b"quit\r\n", b"GET / HTTP/1.1\r\n"])
def test_connection_is_closed(data: bytes) -> None:
    """Endless lines, web browsers and `quit` close the connection."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        client.send(data)
        await until(lambda: client.lost)
        assert not client.received

    run(test)


def test_much_at_once_and_the_end() -> None:
    """All requests are answered in order, also after the client's end."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        client.send(b"".join(b"incr n 1\r\nset k%d 0 0 1\r\nx\r\n" % n for n in range(3000)))
        client.transport.write_eof()
        await until(lambda: client.lost)
        assert client.received == b"NOT_FOUND\r\nSTORED\r\n" * 3000

    run(test)


def test_requests_before_the_end_over_tls(tmp_path: Path) -> None:
    """What a client has sent before it closes is run, also by a node without processor time."""
    authority = CertificateAuthority()

    async def test(rig: Rig) -> None:
        rig.node.limit_cpu(0.01)
        client, loop = Noting(), asyncio.get_running_loop()
        context = client_context(authority.pem)
        tls = TlsProtocol(context, client, Scheduler(loop), server_hostname="localhost")
        pipe(loop, tls, rig.node.accept())
        await until(lambda: client.is_open)
        tls.write(b"mn\r\n")
        await until(lambda: client.received)
        tls.write(b"".join(put(f"k{n}", b"x") for n in range(20)))
        tls.close()
        await until(lambda: not rig.node.server.sessions)
        assert rig.node.server.counters.total_items == 20

    run(test, server_tls=server_context(authority.issue("memcached-a"), tmp_path))


def test_client_that_does_not_read() -> None:
    """Waiting replies are bounded, and sent when the client reads."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", bytes(100_000)))
        client.received.clear()
        client.transport.pause_reading()
        client.send(b"get a\r\n" * 500 + b"get" + b" a" * 5000 + b"\r\n")
        for _ in range(200):
            await asyncio.sleep(0)
            assert client.other.get_write_buffer_size() < 24 * 100_100
        client.transport.resume_reading()
        whole = 5500 * (100_000 + len(b"VALUE a 0 100000\r\n\r\n")) + 501 * len(b"END\r\n")
        sizes = []

        def drained() -> bool:
            sizes.append(len(client.received))
            client.received.clear()
            return sum(sizes) == whole

        await until(drained)

    run(test)


def test_a_delay_that_ends_while_a_request_waits() -> None:
    """The next delay works on the connection's next request, too."""

    async def test(rig: Rig) -> None:
        client, node = rig.client(), rig.node
        delay = Rule(frozenset(), draw=lambda: 0.0, seconds=0.02)
        node.answer_with([delay])
        client.send(b"get a\r\n")
        await until(lambda: node.answers.injected)
        node.answer_with([])
        await until(lambda: client.received)
        node.answer_with([delay])
        assert await client.ask(b"get a\r\n") == b"END\r\n"
        assert node.answers.injected == 2

    run(test)


def test_the_end_of_a_delay() -> None:
    """What has waited is answered at once."""

    async def test(rig: Rig) -> None:
        client, node = rig.client(), rig.node
        node.answer_with([Rule(frozenset(), draw=lambda: 0.0, seconds=1000)])
        client.send(b"get a\r\n")
        await until(lambda: node.answers.injected)
        node.answer_with([Rule(frozenset(), draw=lambda: 0.0, answer="SERVER_ERROR no")])
        await until(lambda: client.received == b"SERVER_ERROR no\r\n")

    run(test)
