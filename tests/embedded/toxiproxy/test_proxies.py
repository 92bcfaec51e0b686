"""The collection of proxies: creating, changing and deleting proxies and toxics."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable

import pytest

from cachesim.embedded.toxiproxy.proxies import PopulateError, Proxies
from cachesim.embedded.toxiproxy.proxy import ProxySpec
from cachesim.errors import ToxiproxyError
from cachesim.toxiproxy.toxics import (
    Latency,
    LimitData,
)
from tests.embedded.toxiproxy.net import (
    DOWN,
    FOR_EVER,
    NOWHERE,
    SHORTLY,
    UP,
    Node,
    NodeEnd,
    eventually,
    fill,
    heal,
    rig,
    run,
    stall,
)


def test_delete() -> None:
    """A deleted proxy closes its connections, refuses new ones, and is gone."""

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
    """A taken port is an error in Toxiproxy's words; no proxy is created."""

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


def test_populate() -> None:
    """A proxy that is the same stays, toxics too; one that differs is replaced."""

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
    """An invalid spec creates nothing; one that can't listen leaves those before it."""

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


def test_toxics_come_and_go() -> None:
    """Connections stay when toxics are added, changed and removed, and see it at once."""

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


def test_seed() -> None:
    """The same seed hits the same connections, another seed hits others."""

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
    """A reset enables all proxies and removes all toxics."""

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
        (lambda p: p.update("x", enabled=True), "proxy not found", 404),
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


def test_stuck_link_blocks_nobody() -> None:
    """With a receiver that does not read, changes take no time, and other links go on."""

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


def test_changes_are_atomic() -> None:
    """A node that reacts to data released by one change finds all changes made."""
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


def test_nothing_remains() -> None:
    """After `close` no proxy listens, and no connection is left."""

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
