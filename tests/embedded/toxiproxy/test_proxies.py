"""The proxies, on real sockets and inside the process."""

import asyncio
import gc
import socket
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable

import pytest

from cachesim.aio.pipe import pipe
from cachesim.embedded.toxiproxy.connection import HELD_MAX, Connection
from cachesim.embedded.toxiproxy.proxies import (
    Change,
    Connected,
    Factory,
    PopulateError,
    Proxies,
    ProxySpec,
    SetEnabled,
    SetToxic,
)
from cachesim.errors import ToxiproxyError
from cachesim.toxiproxy.toxics import (
    BOTH,
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Stream,
    Timeout,
    Toxic,
)
from tests.embedded.toxiproxy.net import SHORTLY, eventually, rig, run

UP, DOWN = Stream.UPSTREAM, Stream.DOWNSTREAM
ENDLESS = 2**28  # bytes: more than the kernel's buffers take
FOR_EVER = Latency(10**9)
NOWHERE = "127.0.0.1:1"

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="new connections hang on Linux")


def stall(proxies: Proxies, *names: str, toxic: Toxic = FOR_EVER) -> None:
    """Stall proxies both ways."""
    proxies.apply([SetToxic(p, f"stall_{s}", s, toxic) for p in names or ("p",) for s in BOTH])


def heal(proxies: Proxies, *names: str) -> None:
    """End the stall."""
    proxies.apply([SetToxic(p, f"stall_{s}", s, None) for p in names or ("p",) for s in BOTH])


# --- forwarding -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "toxics",
    [(), (Latency(1),), (Bandwidth(100_000),), (Slicer(50_000, 20_000), Latency(2, 2))],
    ids=repr,
)
def test_forwards(toxics: tuple[Toxic, ...]) -> None:
    """What is sent arrives, all of it and in order, both ways at once."""
    data = bytes(range(256)) * 20_000  # 5 MB, more than is held

    async def test() -> None:
        async with rig() as r:
            for toxic in toxics:
                for stream in BOTH:
                    r.proxies.add_toxic("p", "", toxic, stream)
            client, server = await r.connect()
            client.send(data)
            server.send(data[::-1])
            there, back = await asyncio.gather(server.receive(len(data)), client.receive(len(data)))
            assert there == data
            assert back == data[::-1]

    run(test)


def test_small_pieces_do_not_wait() -> None:
    """Neither side holds a piece back until the one before has been acknowledged."""

    async def test() -> None:
        async with rig() as r:
            await r.connect()
            await eventually(lambda: r.proxy.connections == 1)
            (connection,) = r.proxy._connections
            for side in (connection.client, connection.server):
                sock = side.transport.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(test)


def test_upstream_refuses() -> None:
    """A client is let in, as its proxy listens, and then let go."""

    async def test() -> None:
        async with rig() as r:
            proxy = r.proxies.create(ProxySpec("q", NOWHERE))
            client = await r.client(proxy)
            assert await client.all() == b""
            assert proxy.connections == 0

    run(test)


@pytest.mark.parametrize("upstream", ["", "nonsense", "127.0.0.1:x", "127.0.0.1:99999"])
def test_upstream_is_no_address(upstream: str) -> None:
    """It is as if it refused."""

    async def test() -> None:
        async with rig() as r:
            r.proxies.update("p", upstream=upstream)
            client = await r.client()
            assert await client.all() == b""

    run(test)


def test_slow_upstream_keeps_nobody_else() -> None:
    """While one connection waits for its upstream, others are made."""
    slow = asyncio.Event()

    async def test() -> None:
        loop = asyncio.get_running_loop()
        first = True

        async def dial(factory: Factory, address: str) -> Connected:
            nonlocal first
            is_first, first = first, False
            if is_first:
                await slow.wait()
            host, port = address.split(":")
            return await loop.create_connection(factory, host, int(port))

        async with rig(dial) as r:
            waiting = await r.client()
            client, server = await r.connect()
            client.send(b"a")
            assert await server.receive(1) == b"a"
            slow.set()
            waiting.send(b"b")
            assert await (await r.accepted.get()).receive(1) == b"b"

    run(test)


def test_half_close() -> None:
    """A client that sends no more still gets its answer."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            client.send(b"question")
            client.end()
            assert await server.all() == b"question"
            server.send(b"answer")
            server.close()
            assert await client.all() == b"answer"
            await eventually(lambda: r.proxy.connections == 0)

    run(test)


@pytest.mark.parametrize("toxics", [False, True])
def test_close(toxics: bool) -> None:
    """What the server sent before it closed arrives, then the end."""

    async def test() -> None:
        async with rig() as r:
            if toxics:
                r.proxies.add_toxic("p", "", Latency(20), DOWN)
            client, server = await r.connect()
            server.send(b"bye")
            server.close()
            assert await client.all() == b"bye"
            client.close()
            await eventually(lambda: r.proxy.connections == 0)

    run(test)


def test_reset_is_passed_on() -> None:
    """A client's RST is the server's, and the other way round."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            client.reset()
            with pytest.raises(ConnectionResetError):
                await server.all()
            client, server = await r.connect()
            server.reset()
            with pytest.raises(ConnectionResetError):
                await client.all()
            await eventually(lambda: r.proxy.connections == 0)

    run(test)


def test_receiver_that_does_not_read() -> None:
    """A sender has to wait for it, and everything arrives in the end."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            sent = await fill(client.writer.transport)
            assert sent < 30_000_000
            assert len(await server.receive(sent)) == sent

    run(test)


async def fill(transport: asyncio.WriteTransport) -> int:
    """Send until nothing more is taken for a while; gives how many bytes that were."""
    chunk, sent, last = b"x" * 65536, 0, time.monotonic()
    while time.monotonic() - last < SHORTLY and sent < ENDLESS:
        if not transport.get_write_buffer_size():
            transport.write(chunk)
            sent, last = sent + len(chunk), time.monotonic()
        await asyncio.sleep(0)
    return sent


# --- enabling, disabling, addresses -----------------------------------------------------------


def test_disable_and_enable() -> None:
    """A disabled proxy closes its connections and refuses; enabled, it is at the same address."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            listen = r.proxy.listen
            r.proxies.set_enabled("p", False)
            r.proxies.set_enabled("p", False)
            assert await client.all() == b""
            assert await server.all() == b""
            with pytest.raises(ConnectionRefusedError):
                await r.client()
            r.proxies.set_enabled("p", True)
            assert r.proxy.listen == listen
            await r.connect()

    run(test)


async def dial_for_ever(_: Factory, __: str) -> Connected:
    """Dial somebody who does not answer."""
    await asyncio.Event().wait()
    raise AssertionError


def test_disable_while_connecting() -> None:
    """A connection whose upstream has not answered yet is closed too."""

    async def test() -> None:
        async with rig(dial_for_ever) as r:
            client = await r.client()
            await asyncio.sleep(0.01)
            r.proxies.set_enabled("p", False)
            assert await client.all() == b""

    run(test)


def test_disable_with_a_receiver_that_does_not_read() -> None:
    """What is on the way to it keeps nothing open."""

    async def test() -> None:
        async with rig() as r:
            client, _ = await r.connect()
            await fill(client.writer.transport)
            connections = r.proxy.connections
            r.proxies.set_enabled("p", False)
            assert (connections, r.proxy.connections) == (1, 0)

    run(test)


def test_delete() -> None:
    """A deleted proxy is as a disabled one, and gone."""

    async def test() -> None:
        async with rig() as r:
            client, _ = await r.connect()
            proxy = r.proxy
            r.proxies.delete("p")
            assert await client.all() == b""
            with pytest.raises(ConnectionRefusedError):
                await r.client(proxy)
            with pytest.raises(ToxiproxyError, match="proxy not found"):
                r.proxies.delete("p")

    run(test)


def test_update() -> None:
    """A proxy that leads elsewhere closes its connections; one that is the same keeps them."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            listen = r.proxy.listen
            r.proxies.update("p", listen=listen.replace("127.0.0.1", "localhost"))
            r.proxies.update("p", upstream=r.upstream, enabled=True)
            client.send(b"a")
            assert await server.receive(1) == b"a"
            r.proxies.update("p", upstream=NOWHERE)
            assert await client.all() == b""
            assert (r.proxy.listen, r.proxy.upstream) == (listen, NOWHERE)
            r.proxies.update("p", listen="127.0.0.1:0", upstream=r.upstream)
            assert r.proxy.listen != listen
            await r.connect()

    run(test)


def test_port_is_taken() -> None:
    """It is an error in Toxiproxy's words; nothing is made."""

    async def test() -> None:
        async with rig() as r:
            message = f"^listen tcp {r.upstream}: bind: address already in use$"
            with pytest.raises(ToxiproxyError, match=message) as caught:
                r.proxies.create(ProxySpec("q", NOWHERE, listen=r.upstream))
            assert caught.value.status == 500
            assert list(r.proxies) == ["p"]
            with pytest.raises(ToxiproxyError, match=message):
                r.proxies.update("p", listen=r.upstream)
            assert not r.proxy.enabled

    run(test)


def taken(address: str, *, shared: bool) -> bool:
    """Whether nobody else can listen there, not even who would share the port."""
    host, port = address.split(":")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(shared))
        try:
            other.bind((host, int(port)))
            other.listen()
        except OSError:
            return True
    return False


@linux_only
@pytest.mark.parametrize("shared", [False, True])
def test_kept_port(shared: bool) -> None:
    """A kept port refuses while its proxy is disabled, away or gone, and nobody else can take it.

    Nor do connections that were there before keep the proxy from coming back.
    """

    async def test() -> None:
        async with rig() as r:
            proxy = r.proxies.create(ProxySpec("q", r.upstream), keep_port=True)
            listen = proxy.listen

            def come_back() -> None:
                r.proxies.create(ProxySpec("q", r.upstream, listen))

            changes: list[tuple[Callable[[], object], Callable[[], object]]] = [
                (
                    lambda: r.proxies.set_enabled("q", False),
                    lambda: r.proxies.set_enabled("q", True),
                ),
                (
                    lambda: r.proxies.update("q", listen="127.0.0.1:0"),
                    lambda: r.proxies.update("q", listen=listen),
                ),
                (lambda: r.proxies.delete("q"), come_back),
            ]
            for leave, back in changes:
                client = await r.client(r.proxies["q"])
                await r.accepted.get()
                leave()
                assert await client.all() == b""
                assert taken(listen, shared=shared)
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(*listen.split(":"))
                back()
                assert taken(listen, shared=shared)
                assert r.proxies["q"].listen == listen
                await r.client(r.proxies["q"])
                await r.accepted.get()
            r.proxies.close()
            assert not taken(listen, shared=True)

    run(test)


def test_port_of_others() -> None:
    """Another proxy may have the port of one that is disabled or deleted, as with Toxiproxy."""

    async def test() -> None:
        async with rig() as r:
            listen = r.proxies.create(ProxySpec("q", NOWHERE), keep_port=True).listen
            for address in (listen, r.proxy.listen):
                r.proxies.set_enabled("p", False)
                r.proxies.set_enabled("q", False)
                r.proxies.create(ProxySpec("other", NOWHERE, address))
                r.proxies.delete("other")
                r.proxies.set_enabled("q", True)

    run(test)


def test_listens_on_this_machine_alone() -> None:
    """Without a host it is 127.0.0.1."""

    async def test() -> None:
        async with rig() as r:
            for number, listen in enumerate(("", ":0", "localhost:0", "127.0.0.1:")):
                proxy = r.proxies.create(ProxySpec(str(number), NOWHERE, listen))
                assert proxy.listen.startswith("127.0.0.1:")

    run(test)


def test_populate() -> None:
    """What is the same is left alone, toxics too; what differs is replaced."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            r.proxies.add_toxic("p", "t", Latency(1))
            same = ProxySpec("p", r.upstream, r.proxy.listen)
            assert r.proxies.populate([same, ProxySpec("q", NOWHERE)]) == list(r.proxies.values())
            client.send(b"a")
            assert await server.receive(1) == b"a"
            assert r.proxy.toxic("t")
            r.proxies.populate([ProxySpec("p", NOWHERE, r.proxy.listen)])
            assert await client.all() == b""
            assert r.proxy.toxic("t") is None

    run(test)


def test_populate_fails() -> None:
    """What is not valid makes nothing; who can't listen leaves those before."""

    async def test() -> None:
        async with rig() as r:
            with pytest.raises(ToxiproxyError, match="missing required field: name at proxy 2"):
                r.proxies.populate([ProxySpec("q", NOWHERE), ProxySpec("", NOWHERE)])
            assert list(r.proxies) == ["p"]
            specs = [ProxySpec("q", NOWHERE), ProxySpec("s", NOWHERE, listen=r.upstream)]
            with pytest.raises(PopulateError, match="address already in use") as caught:
                r.proxies.populate([*specs, ProxySpec("t", NOWHERE)])
            assert [proxy.name for proxy in caught.value.made] == ["q"]
            assert list(r.proxies) == ["p", "q"]

    run(test)


# --- toxics -----------------------------------------------------------------------------------


def test_toxics_come_and_go() -> None:
    """Connections stay when toxics are added, changed and removed, and feel it at once."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()

            async def round_trip() -> float:
                began = r.loop.time()
                client.send(b"a")
                await server.receive(1)
                server.send(b"b")
                await client.receive(1)
                return r.loop.time() - began

            await round_trip()
            r.proxies.add_toxic("p", "t", Latency(100))
            assert await round_trip() >= 0.1
            r.proxies.update_toxic("p", "t", Latency(200))
            assert await round_trip() >= 0.2
            r.proxies.remove_toxic("p", "t")
            assert min([await round_trip() for _ in range(5)]) < 0.1

    run(test)


def test_streams() -> None:
    """A toxic works on one stream only."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            r.proxies.add_toxic("p", "t", Bandwidth(0), UP)
            client.send(b"a")
            server.send(b"b")
            assert await client.receive(1) == b"b"
            assert await server.is_silent()
            r.proxies.remove_toxic("p", "t")
            assert await server.receive(1) == b"a"

    run(test)


def test_reset_peer() -> None:
    """A live connection is reset, with a true RST on both sides."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            client.send(b"a")
            await server.receive(1)
            r.proxies.add_toxic("p", "t", ResetPeer(), UP)
            client.send(b"a")
            for end in (client, server):
                with pytest.raises(ConnectionResetError):
                    await end.all()

    run(test)


def test_timeout() -> None:
    """A connection without data is closed in time; the removal closes the others."""

    async def test() -> None:
        async with rig() as r:
            r.proxies.add_toxic("p", "t", Timeout(50), DOWN)
            client, server = await r.connect()
            assert await client.all() == b""
            assert await server.all() == b""
            r.proxies.update_toxic("p", "t", Timeout(0))
            client, server = await r.connect()
            server.send(b"dropped")
            assert await client.is_silent()
            r.proxies.remove_toxic("p", "t")
            assert await client.all() == b""

    run(test)


def test_limit_data() -> None:
    """Every connection has a limit of its own."""

    async def test() -> None:
        async with rig() as r:
            r.proxies.add_toxic("p", "t", LimitData(3), DOWN)
            for _ in range(2):
                client, server = await r.connect()
                server.send(b"ab")
                assert await client.receive(2) == b"ab"
                server.send(b"cd")
                assert await client.all() == b"c"

    run(test)


def test_slow_close() -> None:
    """The end comes late, data does not."""

    async def test() -> None:
        async with rig() as r:
            r.proxies.add_toxic("p", "t", SlowClose(60_000), DOWN)
            client, server = await r.connect()
            server.send(b"a")
            server.close()
            assert await client.receive(1) == b"a"
            assert await client.is_silent()
            r.proxies.remove_toxic("p", "t")
            assert await client.all() == b""

    run(test)


def test_seed() -> None:
    """The same seed hits the same connections, another one others."""

    def hit(seed: int) -> list[bool]:
        hits = []

        async def test() -> None:
            async with rig(seed=seed) as r:
                r.proxies.add_toxic("p", "t", LimitData(0), DOWN, 0.5)
                for _ in range(12):
                    client, server = await r.connect()
                    server.send(b"a")
                    server.close()
                    hits.append(await client.all() == b"")

        run(test)
        return hits

    first = hit(1)
    assert first == hit(1)
    assert first != hit(2)
    assert Counter(first).keys() == {True, False}


def test_reset_of_all() -> None:
    """All proxies are enabled, and no toxic is left."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            r.proxies.add_toxic("p", "t", FOR_EVER)
            server.send(b"a")
            r.proxies.create(ProxySpec("q", r.upstream, enabled=False))
            r.proxies.reset()
            assert await client.receive(1) == b"a"
            assert all(p.enabled and not any(p.toxics.values()) for p in r.proxies.values())
            await r.client(r.proxies["q"])

    run(test)


@pytest.mark.parametrize(
    ("call", "message", "status"),
    [
        (lambda p: p.add_toxic("x", "t", Latency(1)), "proxy not found", 404),
        (lambda p: p.add_toxic("p", "t", Latency(1)), "toxic already exists", 409),
        (lambda p: p.add_toxic("p", "t", Latency(1), UP), "toxic already exists", 409),
        (lambda p: p.add_toxic("p", "u", Latency(1), "side"), "stream was invalid, ", 400),
        (lambda p: p.update_toxic("p", "x"), "toxic not found", 404),
        (lambda p: p.remove_toxic("p", "x"), "toxic not found", 404),
        (lambda p: p.create(ProxySpec("p", "u")), "proxy already exists", 409),
        (lambda p: p.create(ProxySpec("", "u")), "missing required field: name", 400),
        (lambda p: p.create(ProxySpec("q", "")), "missing required field: upstream", 400),
        (lambda p: p.set_enabled("x", True), "proxy not found", 404),
    ],
)
def test_errors(call: Callable[[Proxies], object], message: str, status: int) -> None:
    """Errors are in Toxiproxy's words, with its statuses, and change nothing."""

    async def test() -> None:
        async with rig() as r:
            r.proxies.add_toxic("p", "t", Latency(5))
            with pytest.raises(ToxiproxyError, match=f"^{message}") as caught:
                call(r.proxies)
            assert caught.value.status == status
            assert list(r.proxies) == ["p"]
            assert [t.toxic for t in r.proxy.toxics[DOWN]] == [Latency(5)]
            assert r.proxy.toxics[UP] == []

    run(test)


# --- stalls -----------------------------------------------------------------------------------


@pytest.mark.parametrize("toxic", [FOR_EVER, Bandwidth(0)], ids=repr)
def test_stall(toxic: Toxic) -> None:
    """Nothing gets through, nothing is lost, and on heal the same sockets go on."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            stall(r.proxies, toxic=toxic)
            client.send(b"question")
            server.send(b"news")
            assert await client.is_silent()
            heal(r.proxies)
            assert await server.receive(8) == b"question"
            assert await client.receive(4) == b"news"

    run(test)


def test_stall_is_bounded() -> None:
    """What a stall holds takes little memory; the sender waits, and in the end all arrives."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            stall(r.proxies)
            tracemalloc.start()
            sent = await fill(client.writer.transport)
            held, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            # The rest is in the kernel's buffers, which grow as they are used.
            assert held < 2 * HELD_MAX
            heal(r.proxies)
            assert len(await server.receive(sent)) == sent

    run(test)


def test_stall_hides_an_end() -> None:
    """While a link is stalled, nobody sees the other close or vanish."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            other_client, other_server = await r.connect()
            stall(r.proxies)
            server.send(b"last")
            server.close()
            other_client.reset()
            assert await client.is_silent()
            assert await other_server.is_silent()
            heal(r.proxies)
            assert await client.all() == b"last"
            with pytest.raises(ConnectionResetError):
                await other_server.all()

    run(test)


def instances(kind: type) -> list[object]:
    """The objects of a class that are alive."""
    return [it for it in gc.get_objects() if isinstance(it, kind)]


def test_receiver_leaves_during_a_stall() -> None:
    """What is held for a receiver that is gone meanwhile hinders nothing."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            stall(r.proxies)
            server.send(b"x" * 100_000)
            client.reset()
            await asyncio.sleep(0.01)
            heal(r.proxies)
            await eventually(lambda: r.proxy.connections == 0)
            await r.connect()

    run(test)


def test_both_leave_during_a_stall() -> None:
    """A connection without ends is forgotten at once, with what the stall holds."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            stall(r.proxies)
            server.send(b"held")
            await asyncio.sleep(0.01)
            client.reset()
            server.reset()
            await eventually(lambda: r.proxy.connections == 0)
            await eventually(lambda: gc.collect() >= 0 and not instances(Connection))

    run(test)


@linux_only
def test_new_connections_hang() -> None:
    """On a stalled link a connect hangs; after the heal it is made, and new ones are at once."""

    async def test() -> None:
        async with rig() as r:
            stall(r.proxies)
            await asyncio.sleep(0.01)
            hanging = asyncio.create_task(r.client())
            done, _ = await asyncio.wait([hanging], timeout=SHORTLY)
            assert not done
            heal(r.proxies)
            client, server = await r.connect()
            client.send(b"a")
            assert await server.receive(1) == b"a"
            await hanging  # its next attempt is a second after its first
            await r.accepted.get()
            assert r.accepted.empty()

    run(test)


@linux_only
@pytest.mark.parametrize("streams", [[UP], [DOWN]])
def test_new_connections_hang_with_one_stream(streams: list[Stream]) -> None:
    """A connection needs both directions."""

    async def test() -> None:
        async with rig() as r:
            r.proxies.add_toxic("p", "t", Bandwidth(0), streams[0])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SHORTLY):
                    await r.client()
            r.proxies.update_toxic("p", "t", toxicity=0.5)
            await r.connect()

    run(test)


@linux_only
def test_stalled_from_the_start() -> None:
    """A proxy that is enabled while it is stalled lets connections hang too."""

    async def test() -> None:
        async with rig() as r:
            r.proxies.set_enabled("p", False)
            stall(r.proxies)
            r.proxies.set_enabled("p", True)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SHORTLY):
                    await r.client()
            heal(r.proxies)
            await r.connect()

    run(test)


def test_new_connections_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a listener can't let hang, the connection is made, and then it hangs."""
    monkeypatch.setattr("cachesim.embedded.toxiproxy.listener.sys.platform", "darwin")

    async def test() -> None:
        async with rig() as r:
            stall(r.proxies)
            client, server = await r.connect()
            client.send(b"a")
            assert await server.is_silent()
            heal(r.proxies)
            assert await server.receive(1) == b"a"

    run(test)


def test_stuck_link_blocks_nobody() -> None:
    """With a receiver that does not read, every change takes no time, and others go on."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            other = r.proxies.create(ProxySpec("q", r.upstream))
            r.proxies.add_toxic("p", "t", Latency(1))
            server.writer.transport.pause_reading()  # type: ignore[attr-defined]
            sent = await fill(client.writer.transport)
            began = time.perf_counter()
            r.proxies.add_toxic("p", "u", Latency(10), UP)
            r.proxies.update_toxic("p", "u", Latency(0))
            r.proxies.remove_toxic("p", "u")
            r.proxies.reset()
            assert time.perf_counter() - began < 0.1
            other_client = await r.client(other)
            other_server = await r.accepted.get()
            other_client.send(b"a")
            assert await other_server.receive(1) == b"a"
            server.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert len(await server.receive(sent)) == sent

    run(test)


# --- several changes at once ------------------------------------------------------------------


def test_apply() -> None:
    """Toxics and switches of several proxies, repeatable."""

    async def test() -> None:
        async with rig() as r:
            r.proxies.create(ProxySpec("q", r.upstream, enabled=False))
            client, server = await r.connect()
            changes: list[Change] = [
                SetToxic("p", "t", DOWN, Latency(1)),
                SetToxic("p", "u", UP, Timeout(0)),
                SetToxic("q", "t", UP, Latency(2), 0.5),
                SetEnabled("q", True),
            ]
            for _ in range(2):
                r.proxies.apply(changes)
                assert [t.toxic for t in r.proxy.toxics[DOWN]] == [Latency(1)]
                assert [t.toxic for t in r.proxy.toxics[UP]] == [Timeout(0)]
                (toxic,) = r.proxies["q"].toxics[UP]
                assert (toxic.toxic, toxic.toxicity) == (Latency(2), 0.5)
                assert r.proxies["q"].enabled
            # Another type or stream is another toxic.
            r.proxies.apply([SetToxic("p", "t", UP, Latency(1)), SetEnabled("q", False)])
            assert r.proxy.toxics[DOWN] == []
            assert [t.name for t in r.proxy.toxics[UP]] == ["u", "t"]
            assert not r.proxies["q"].enabled
            server.send(b"a")
            assert await client.receive(1) == b"a"

    run(test)


@pytest.mark.parametrize("wrong", ["proxy", "port"])
def test_apply_all_or_nothing(wrong: str) -> None:
    """If one change can't be made, none is."""

    async def test() -> None:
        async with rig() as r:
            r.proxies.create(ProxySpec("free", NOWHERE, enabled=False))
            r.proxies.create(ProxySpec("taken", NOWHERE, r.upstream, enabled=False))
            changes: list[Change] = [
                SetToxic("p", "t", DOWN, Latency(1)),
                SetEnabled("p", False),
                SetEnabled("free", True),
                SetEnabled("unknown" if wrong == "proxy" else "taken", True),
            ]
            message = "proxy not found" if wrong == "proxy" else "address already in use"
            with pytest.raises(ToxiproxyError, match=message):
                r.proxies.apply(changes)
            assert r.proxy.enabled
            assert not any(r.proxy.toxics.values())
            assert not r.proxies["free"].enabled

    run(test)


class Node:
    """A node inside the process; what it receives is noted.

    Attributes:
        refuses: whether it is down.
        ends: the protocols of its connections.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.refuses = False
        self.ends: list[NodeEnd] = []

    async def dial(self, factory: Factory, address: str) -> Connected:
        """Connect to it, whatever the address."""
        if self.refuses:
            raise ConnectionRefusedError(address)
        protocol = factory()
        self.ends.append(NodeEnd(self))
        return pipe(self.loop, protocol, self.ends[-1])[0], protocol

    def heard(self, end: "NodeEnd", data: bytes, /) -> None:
        """Echo it."""
        end.transport.write(data)


class NodeEnd(asyncio.Protocol):
    """A connection of a node, or of somebody who connects to it."""

    transport: asyncio.Transport

    def __init__(self, node: Node | None = None) -> None:
        self.node = node
        self.data = b""
        self.lost: list[Exception | None] = []
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Note it; no call may come in the middle of another."""
        assert not self.busy
        self.busy = True
        self.data += data
        if self.node:
            self.node.heard(self, data)
        self.busy = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Note it."""
        self.lost.append(exc)


def test_apply_is_atomic() -> None:
    """Whoever reacts to what a change lets go of finds all of them made."""
    seen: list[bool] = []

    class Watcher(Node):
        proxies: Proxies

        def heard(self, _: NodeEnd, __: bytes, /) -> None:
            seen.append(self.proxies["p"].is_stalled or self.proxies["q"].is_stalled)

    async def test() -> None:
        node = Watcher(asyncio.get_running_loop())
        async with rig(node.dial) as r:
            node.proxies = r.proxies
            r.proxies.create(ProxySpec("q", "node"))
            clients = [await r.client(), await r.client(r.proxies["q"])]
            await eventually(lambda: len(node.ends) == 2)
            stall(r.proxies, "p", "q")
            for client in clients:
                client.send(b"a")
            await asyncio.sleep(SHORTLY)
            assert seen == []
            heal(r.proxies, "p", "q")
            assert seen == []
            await eventually(lambda: len(seen) == 2)
            assert seen == [False, False]

    run(test)


# --- inside the process -----------------------------------------------------------------------


def test_node_inside() -> None:
    """A node in the process needs no socket; a client has one and sees no difference."""

    async def test() -> None:
        node = Node(asyncio.get_running_loop())
        async with rig(node.dial) as r:
            client = await r.client()
            data = bytes(range(256)) * 10_000
            client.send(data)
            assert await client.receive(len(data)) == data
            node.ends[0].transport.close()
            assert await client.all() == b""
            client.close()
            client = await r.client()
            await eventually(lambda: len(node.ends) == 2)
            node.ends[1].transport.abort()
            with pytest.raises(ConnectionResetError):
                await client.all()
            node.refuses = True
            assert await (await r.client()).all() == b""
            node.refuses = False
            client = await r.client()
            await eventually(lambda: len(node.ends) == 3)
            client.close()
            await eventually(lambda: bool(node.ends[2].lost))
            await eventually(lambda: r.proxy.connections == 0)

    run(test)


def test_node_inside_that_does_not_read() -> None:
    """Who sends to it has to wait."""

    async def test() -> None:
        node = Node(asyncio.get_running_loop())
        async with rig(node.dial) as r:
            client = await r.client()
            await eventually(lambda: len(node.ends) == 1)
            node.ends[0].transport.pause_reading()
            sent = await fill(client.writer.transport)
            assert sent < 30_000_000
            node.ends[0].transport.resume_reading()
            assert len(await client.receive(sent)) == sent

    run(test)


@pytest.mark.parametrize("toxics", [False, True])
def test_peer_inside(toxics: bool) -> None:
    """Both ends in the process: no socket at all, and nobody is called in the middle of a call."""

    async def test() -> None:
        node = Node(asyncio.get_running_loop())
        async with rig(node.dial) as r:
            if toxics:
                r.proxies.add_toxic("p", "", Latency(1), UP)
                r.proxies.add_toxic("p", "", Slicer(1000), DOWN)
            transport, peer = await r.proxies.connect("p", NodeEnd)
            assert isinstance(peer, NodeEnd)
            data = bytes(range(256)) * 1000
            transport.write(data)
            transport.write(data)
            await eventually(lambda: peer.data == data * 2)
            r.proxies.set_enabled("p", False)
            await eventually(lambda: peer.lost == [None])
            assert r.proxy.connections == 0

    run(test)


def test_peer_is_refused() -> None:
    """By a proxy that is disabled or not there, and by an upstream that refuses."""

    async def test() -> None:
        node = Node(asyncio.get_running_loop())
        async with rig(node.dial) as r:
            with pytest.raises(ConnectionRefusedError, match="no proxy q"):
                await r.proxies.connect("q", NodeEnd)
            node.refuses = True
            with pytest.raises(ConnectionRefusedError):
                await r.proxies.connect("p", NodeEnd)
            r.proxies.set_enabled("p", False)
            with pytest.raises(ConnectionRefusedError, match="p is disabled"):
                await r.proxies.connect("p", NodeEnd)

    run(test)


def test_peer_of_a_stalled_link() -> None:
    """Its connect hangs until the heal, or until the proxy is disabled or it gives up."""

    async def test() -> None:
        node = Node(asyncio.get_running_loop())
        async with rig(node.dial) as r:
            for ending in ("heal", "disable", "cancel"):
                r.proxies.set_enabled("p", True)
                stall(r.proxies)
                connecting = asyncio.create_task(r.proxies.connect("p", NodeEnd))
                done, _ = await asyncio.wait([connecting], timeout=SHORTLY)
                assert not done
                match ending:
                    case "heal":
                        heal(r.proxies)
                        await connecting
                    case "disable":
                        r.proxies.set_enabled("p", False)
                        with pytest.raises(ConnectionRefusedError):
                            await connecting
                    case "cancel":
                        connecting.cancel()
                        with pytest.raises(asyncio.CancelledError):
                            await connecting
            assert len(node.ends) == 1

    run(test)


@pytest.mark.parametrize("ending", ["disable", "cancel"])
def test_peer_while_the_upstream_is_dialed(ending: str) -> None:
    """It is refused when the proxy is disabled meanwhile, and may give up."""

    async def test() -> None:
        async with rig(dial_for_ever) as r:
            connecting = asyncio.create_task(r.proxies.connect("p", NodeEnd))
            await asyncio.sleep(0.01)
            if ending == "disable":
                r.proxies.set_enabled("p", False)
                with pytest.raises(ConnectionRefusedError):
                    await connecting
            else:
                connecting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await connecting

    run(test)


def test_nothing_remains() -> None:
    """After the end nobody listens, and no connection is left."""

    async def test() -> None:
        async with rig() as r:
            stall(r.proxies)
            stalled = r.proxy.listen
            r.proxies.create(ProxySpec("q", r.upstream))
            client = await r.client(r.proxies["q"])
            r.proxies.close()
            assert len(r.proxies) == 0
            assert await client.all() == b""
            host, port = stalled.split(":")
            with socket.socket() as sock:
                assert sock.connect_ex((host, int(port))) != 0

    run(test)
