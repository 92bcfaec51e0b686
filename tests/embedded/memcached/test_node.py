"""A node and its connections, without a network."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cachesim.aio.pipe import PipeTransport, pipe
from cachesim.clock import Deadline, ManualClock
from cachesim.embedded.memcached.config import MEGABYTE, MemcachedNodeConfig
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
        client.send(b"version\r\n" * 5000)
        await until(lambda: client.received)
        rig.node.pause()
        await rounds()
        so_far = len(client.received)
        assert so_far < 5000 * len(b"VERSION 1.6.18\r\n")
        await rounds()
        assert len(client.received) == so_far
        rig.node.resume()
        await until(lambda: client.received == b"VERSION 1.6.18\r\n" * 5000)

    run(test)


def test_too_many_connections() -> None:
    """A connection too many gets an error and is closed."""

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

    run(test, max_connections=27)


@pytest.mark.parametrize(
    "data", [b"\x80" + bytes(23), b"x" * 5000, b"quit\r\n", b"GET / HTTP/1.1\r\n"]
)
def test_connection_is_closed(data: bytes) -> None:
    """The binary protocol, endless lines, web browsers and `quit` close the connection."""

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


def test_expiry() -> None:
    """Expiry times are in seconds, absolute, or negative for at once."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        for key, expires in (("a", 10), ("b", BORN + 20), ("c", -1), ("d", 0), ("e", 10)):
            await client.ask(put(key, b"1", f"0 {expires}"))
        keys = b"get a b c d e\r\n"

        async def left() -> str:
            lines = (await client.ask(keys)).split(b"\r\n")
            return "".join(line.split()[1].decode() for line in lines if line.startswith(b"VALUE"))

        assert await left() == "abde"
        rig.clock.advance(9)
        assert await client.ask(b"touch e 100\r\n") == b"TOUCHED\r\n"
        assert await left() == "abde"
        rig.clock.advance(1)
        assert await left() == "bde"
        rig.clock.advance(10)
        assert await left() == "de"
        assert await client.ask(b"mg e t\r\nmg d t\r\n") == b"HD t89\r\nHD t-1\r\n"
        assert stat(await client.ask(b"stats\r\n"), "get_expired") == 3
        assert stat(await client.ask(b"stats\r\n"), "uptime") == 22

    run(test)


def test_delayed_flush() -> None:
    """A delayed flush removes the items that were stored before its time."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", b"1") + b"flush_all 10\r\n")
        rig.clock.advance(8)
        assert await client.ask(b"get a\r\n") != b"END\r\n"
        rig.clock.advance(1)
        assert await client.ask(b"get a\r\n") == b"END\r\n"
        rig.clock.advance(1)
        assert await client.ask(put("a", b"2") + b"get a\r\n") != b"END\r\n"
        assert stat(await client.ask(b"stats\r\n"), "get_flushed") == 1

    run(test)


def test_least_recently_used_goes() -> None:
    """With 1 MB of memory full, the least recently used item is evicted, not one that is read."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("k000", bytes(10_000)))
        count = stat(await client.ask(b"stats slabs\r\n"), "22:chunks_per_page")
        await client.ask(b"".join(put(f"k{number:03}", bytes(10_000)) for number in range(count)))
        assert stat(await client.ask(b"stats\r\n"), "evictions") == 0
        await client.ask(b"get k000 k000\r\n")
        await client.ask(put("new", bytes(10_000)))
        reply = await client.ask(b"stats\r\n")
        assert stat(reply, "evictions") == stat(reply, "evicted_unfetched") == 1
        assert stat(reply, "curr_items") == count
        assert await client.ask(b"get k001\r\n") == b"END\r\n"
        assert await client.ask(b"get k000\r\n") != b"END\r\n"

    run(test, max_memory=MEGABYTE)


def test_free_pages_go_where_they_are_needed() -> None:
    """A slab class gives up pages that it does not use."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(b"".join(put(f"k{n}", bytes(100)) for n in range(40_000)))
        assert stat(await client.ask(b"stats\r\n"), "evictions") > 0
        await client.ask(b"flush_all\r\n")
        await client.ask(b"".join(put(f"k{n}", bytes(10_000)) for n in range(300)))
        reply = await client.ask(b"stats\r\n")
        assert stat(reply, "slabs_moved") > 0
        assert stat(reply, "curr_items") > 88 * 2

    run(test, max_memory=6 * MEGABYTE)


@pytest.mark.parametrize("size", [600_000, MEGABYTE - 100])
def test_large_items(size: int) -> None:
    """Large items take several chunks, all of which are freed again."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        for number in range(20):
            assert await client.ask(put(f"k{number}", bytes(size)) + b"touch k 1\r\n")
        reply = await client.ask(b"stats\r\n")
        assert 8 * MEGABYTE / size - 2 <= stat(reply, "curr_items") < 8 * MEGABYTE / size
        assert stat(reply, "store_no_memory") == 0
        assert len(await client.ask(b"get k19\r\n")) > size
        await client.ask(b"".join(b"delete k%d\r\n" % number for number in range(20)))
        slabs = (await client.ask(b"stats slabs\r\n")).decode().split()
        used = [slabs[at + 1] for at, word in enumerate(slabs) if word.endswith(":used_chunks")]
        assert set(used) == {"0"}

    run(test, max_memory=8 * MEGABYTE)


def test_too_large() -> None:
    """A too large value is an error at once. The old value is removed, the new one dropped."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", b"1"))
        client.received.clear()
        client.send(b"set a 0 0 3000000\r\n")
        await until(lambda: client.received)
        assert client.received == b"SERVER_ERROR object too large for cache\r\n"
        assert await client.ask(bytes(3_000_000) + b"\r\nget a\r\n") == b"END\r\n"
        fits = MEGABYTE - 48 - 8 - len("a\0\r\n")
        reply = await client.ask(b"set a 0 0 %d\r\n%b\r\n" % (fits, bytes(fits)))
        assert reply == b"STORED\r\n"
        fits += 1
        reply = await client.ask(b"set a 0 0 %d\r\n%b\r\n" % (fits, bytes(fits)))
        assert reply == b"SERVER_ERROR object too large for cache\r\n"

    run(test)


def test_stale_items() -> None:
    """One client alone is told to renew an item that another has made stale."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", b"old"))
        assert await client.ask(b"md a I T30\r\n") == b"HD\r\n"
        assert await client.ask(b"mg a c v t\r\n") == b"VA 3 c2 t30 X W\r\nold\r\n"
        assert await client.ask(b"mg a v\r\n") == b"VA 3 Z X\r\nold\r\n"
        assert await client.ask(b"ms a 3 C2\r\nnew\r\n") == b"HD\r\n"
        assert await client.ask(b"mg a v\r\n") == b"VA 3\r\nnew\r\n"
        assert await client.ask(b"mg miss N30 v\r\nmg miss v\r\n") == (
            b"VA 0 W\r\n\r\nVA 0 Z\r\n\r\n"
        )
        await client.ask(put("b", b"1", "0 20"))
        assert await client.ask(b"mg b R30\r\nmg b R30\r\n") == b"HD W\r\nHD Z\r\n"

    run(test)


def test_quiet_and_opaque() -> None:
    """Quiet commands omit replies, and opaque words are repeated."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        assert (
            await client.ask(
                b"mg a v q O1\r\nms a 1 q O2\r\nx\r\nmg a v q k O3\r\nmd a q\r\nmd a q O4\r\n"
            )
            == b"VA 1 ka O3\r\nx\r\nNF O4\r\n"
        )
        assert await client.ask(b"ms AP8= 1 b k\r\nx\r\nmg AP8= b k\r\n") == (
            b"HD kAP8= b\r\nHD kAP8= b\r\n"
        )

    run(test)


def test_cachedump() -> None:
    """A cachedump lists the keys of a class, the latest first."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", b"12") + put("b", b"", "0 10") + put("c", bytes(500)))
        b = b"ITEM b [0 b; %d s]\r\n" % (BORN + 10)
        assert await client.ask(b"stats cachedump 1 0\r\n") == b + b"ITEM a [2 b; 0 s]\r\nEND\r\n"
        assert await client.ask(b"stats cachedump 1 1\r\n") == b + b"END\r\n"
        assert await client.ask(b"stats cachedump 2 0\r\n") == b"END\r\n"

    run(test)


def test_counters() -> None:
    """Counters are unsigned, have 64 bits, and keep their length."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", b"18446744073709551615", "5 0"))
        assert await client.ask(b"incr a 2\r\nget a\r\n") == (
            b"1\r\nVALUE a 5 20\r\n1                   \r\nEND\r\n"
        )
        assert await client.ask(b"decr a 2\r\nincr a 18446744073709551615\r\n") == (
            b"0\r\n18446744073709551615\r\n"
        )
        assert await client.ask(put("b", b"9") + b"incr b 1\r\nget b\r\n") == (
            b"10\r\nVALUE b 0 2\r\n10\r\nEND\r\n"
        )
        assert await client.ask(b"ma c N30 J7 v t\r\nma c MD D9 v c\r\n") == (
            b"VA 1 t30\r\n7\r\nVA 1 c8\r\n0\r\n"
        )

    run(test)


def test_reset_of_stats() -> None:
    """`stats reset` sets counters to 0, but not the current state."""

    async def test(rig: Rig) -> None:
        client = rig.client()
        await client.ask(put("a", b"1") + b"get a b\r\nincr a 1\r\ntouch x 1\r\nflush_all 1000\r\n")
        assert await client.ask(b"stats reset\r\n") == b"RESET\r\n"
        reply = await client.ask(b"stats\r\n")
        names = ("cmd_get", "cmd_set", "get_hits", "incr_hits", "touch_misses", "cmd_flush")
        assert [stat(reply, name) for name in names] == [0] * 6
        assert stat(reply, "curr_items") == stat(reply, "curr_connections") == 1

    run(test)
