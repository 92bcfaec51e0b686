"""One proxy, on real sockets and inside the process."""

import asyncio
import gc
import socket
import tracemalloc

import pytest

from cachesim.embedded.toxiproxy.connection import HELD_MAX, Connection
from cachesim.embedded.toxiproxy.proxy import Connected, Factory, ProxySpec
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
from tests.embedded.toxiproxy.net import (
    DOWN,
    FOR_EVER,
    NOWHERE,
    SHORTLY,
    UP,
    Node,
    NodeEnd,
    buffered,
    dial_for_ever,
    eventually,
    fill,
    heal,
    linux_only,
    rig,
    run,
    stall,
)

# --- forwarding ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "toxics",
    [(), (Latency(1),), (Bandwidth(100_000),), (Slicer(50_000, 20_000), Latency(2, 2))],
    ids=repr,
)
def test_forwards(toxics: tuple[Toxic, ...]) -> None:
    """All data arrives in order, both ways at once."""
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


def test_counts_what_it_hands_on() -> None:
    """In both directions, over connections that have ended too; not what is held or dropped."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            client.send(b"x" * 700)
            assert await server.receive(700)
            server.send(b"x" * 50)
            assert await client.receive(50)
            assert r.proxy.passed == 750
            stall(r.proxies)
            client.send(b"x" * 8000)
            assert await server.is_silent()
            assert r.proxy.passed == 750
            heal(r.proxies)
            assert await server.receive(8000)
            assert r.proxy.passed == 8750
            r.proxies.update("p", enabled=False)
            assert r.proxy.passed == 8750
            r.proxies.update("p", enabled=True)
            client, server = await r.connect()
            client.send(b"x")
            assert await server.receive(1)
            assert r.proxy.passed == 8751

    run(test)


def test_small_pieces_do_not_wait() -> None:
    """Nagle's algorithm is off on both sides."""

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
    """The client is accepted, as the proxy listens, and then closed."""

    async def test() -> None:
        async with rig() as r:
            proxy = r.proxies.create(ProxySpec("q", NOWHERE))
            client = await r.client(proxy)
            assert await client.all() == b""
            assert proxy.connections == 0

    run(test)


@pytest.mark.parametrize("upstream", ["", "nonsense", "127.0.0.1:x", "127.0.0.1:99999"])
def test_upstream_is_no_address(upstream: str) -> None:
    """An invalid upstream is treated like one that refuses."""

    async def test() -> None:
        async with rig() as r:
            r.proxies.update("p", upstream=upstream)
            client = await r.client()
            assert await client.all() == b""

    run(test)


def test_slow_upstream_blocks_no_other() -> None:
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
    """A client that has sent its end still gets the answer."""

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
    """Data sent before the server closed arrives, then the end."""

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
    """A RST from the client reaches the server, and the other way round."""

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
    """The sender is held back, and everything arrives in the end."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            sent = await fill(client.writer.transport)
            assert sent < buffered()
            assert len(await server.receive(sent)) == sent

    run(test)


# --- enabling and disabling ------------------------------------------------------------------


def test_disable_and_enable() -> None:
    """A disabled proxy closes its connections and refuses new ones; it keeps its address."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            listen = r.proxy.listen
            r.proxies.update("p", enabled=False)
            r.proxies.update("p", enabled=False)
            assert await client.all() == b""
            assert await server.all() == b""
            with pytest.raises(ConnectionRefusedError):
                await r.client()
            r.proxies.update("p", enabled=True)
            assert r.proxy.listen == listen
            await r.connect()

    run(test)


def test_disable_while_connecting() -> None:
    """A connection whose upstream has not answered yet is closed, too."""

    async def test() -> None:
        async with rig(dial_for_ever) as r:
            client = await r.client()
            await asyncio.sleep(0.01)
            r.proxies.update("p", enabled=False)
            assert await client.all() == b""

    run(test)


def test_disable_with_a_receiver_that_does_not_read() -> None:
    """Data on its way keeps no connection open."""

    async def test() -> None:
        async with rig() as r:
            client, _ = await r.connect()
            await fill(client.writer.transport)
            connections = r.proxy.connections
            r.proxies.update("p", enabled=False)
            assert (connections, r.proxy.connections) == (1, 0)

    run(test)


# --- toxics ----------------------------------------------------------------------------------


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
    """A live connection is reset with a real RST on both sides."""

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
    """A connection without data is closed in time; removing the toxic closes the others."""

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
    """Each connection has a limit of its own."""

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
    """The end is delayed, data is not."""

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


# --- stalls ----------------------------------------------------------------------------------


@pytest.mark.parametrize("toxic", [FOR_EVER, Bandwidth(0)], ids=repr)
def test_stall(toxic: Toxic) -> None:
    """Nothing gets through, nothing is lost, and after the heal the same sockets go on."""

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
    """A stall holds little in memory; the sender waits, and everything arrives in the end."""

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
    """While a link is stalled, neither end sees the other close or vanish."""

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


def connections(loop: asyncio.AbstractEventLoop) -> list[Connection]:
    """Return the connections of a loop that are still in memory."""
    found = [it for it in gc.get_objects() if isinstance(it, Connection)]
    return [it for it in found if it.client._loop is loop]


def test_receiver_leaves_during_a_stall() -> None:
    """Data held for a receiver that has left meanwhile is dropped."""

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
    """A connection without ends is removed at once, with the data that the stall holds."""

    async def test() -> None:
        async with rig() as r:
            client, server = await r.connect()
            stall(r.proxies)
            server.send(b"held")
            await asyncio.sleep(0.01)
            client.reset()
            server.reset()
            await eventually(lambda: r.proxy.connections == 0)
            await eventually(lambda: gc.collect() >= 0 and not connections(r.loop))

    run(test)


@linux_only
def test_new_connections_hang() -> None:
    """On a stalled link a connect hangs until the heal; then new ones succeed at once."""

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
    """A stall in one direction is enough."""

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
    """A proxy that is enabled while it is stalled lets connections hang, too."""

    async def test() -> None:
        async with rig() as r:
            r.proxies.update("p", enabled=False)
            stall(r.proxies)
            r.proxies.update("p", enabled=True)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SHORTLY):
                    await r.client()
            heal(r.proxies)
            await r.connect()

    run(test)


def test_new_connections_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other systems the connection is made, and then hangs."""
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


# --- inside the process ----------------------------------------------------------------------


def test_node_inside() -> None:
    """A node in the process needs no socket; its clients see no difference."""

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
    """A client that sends to it is held back."""

    async def test() -> None:
        node = Node(asyncio.get_running_loop())
        async with rig(node.dial) as r:
            client = await r.client()
            await eventually(lambda: len(node.ends) == 1)
            node.ends[0].transport.pause_reading()
            sent = await fill(client.writer.transport)
            assert sent < buffered()
            node.ends[0].transport.resume_reading()
            assert len(await client.receive(sent)) == sent

    run(test)


@pytest.mark.parametrize("toxics", [False, True])
def test_peer_inside(toxics: bool) -> None:
    """With both ends in the process there is no socket, and no protocol is called within a call."""

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
            r.proxies.update("p", enabled=False)
            await eventually(lambda: peer.lost == [None])
            assert r.proxy.connections == 0

    run(test)


def test_peer_is_refused() -> None:
    """A peer is refused if the proxy is disabled or missing, or its upstream refuses."""

    async def test() -> None:
        node = Node(asyncio.get_running_loop())
        async with rig(node.dial) as r:
            with pytest.raises(ConnectionRefusedError, match="no proxy q"):
                await r.proxies.connect("q", NodeEnd)
            node.refuses = True
            with pytest.raises(ConnectionRefusedError):
                await r.proxies.connect("p", NodeEnd)
            r.proxies.update("p", enabled=False)
            with pytest.raises(ConnectionRefusedError, match="p is disabled"):
                await r.proxies.connect("p", NodeEnd)

    run(test)


def test_peer_of_a_stalled_link() -> None:
    """A connect hangs until the heal, the proxy is disabled, or it is cancelled."""

    async def test() -> None:
        node = Node(asyncio.get_running_loop())
        async with rig(node.dial) as r:
            for ending in ("heal", "disable", "cancel"):
                r.proxies.update("p", enabled=True)
                stall(r.proxies)
                connecting = asyncio.create_task(r.proxies.connect("p", NodeEnd))
                done, _ = await asyncio.wait([connecting], timeout=SHORTLY)
                assert not done
                match ending:
                    case "heal":
                        heal(r.proxies)
                        await connecting
                    case "disable":
                        r.proxies.update("p", enabled=False)
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
    """A connect is refused if the proxy is disabled meanwhile, and can be cancelled."""

    async def test() -> None:
        async with rig(dial_for_ever) as r:
            connecting = asyncio.create_task(r.proxies.connect("p", NodeEnd))
            await asyncio.sleep(0.01)
            if ending == "disable":
                r.proxies.update("p", enabled=False)
                with pytest.raises(ConnectionRefusedError):
                    await connecting
            else:
                connecting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await connecting

    run(test)
