"""Ports: where proxies listen, and which ports they keep."""

import asyncio
import select
import socket
from collections.abc import Callable

import pytest

from cachesim.embedded.toxiproxy.proxy import ProxySpec
from tests.embedded.toxiproxy.net import (
    NOWHERE,
    heal,
    linux_only,
    rig,
    run,
    stall,
)


def taken(address: str, *, shared: bool) -> bool:
    """Return whether nobody else can listen there, optionally with SO_REUSEADDR."""
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
    """A kept port refuses while its proxy is disabled, moved or deleted, and can't be taken.

    Connections from before do not prevent the proxy from listening there again.
    """

    async def test() -> None:
        async with rig() as r:
            proxy = r.proxies.create(ProxySpec("q", r.upstream), keep_port=True)
            listen = proxy.listen

            def come_back() -> None:
                r.proxies.create(ProxySpec("q", r.upstream, listen))

            changes: list[tuple[Callable[[], object], Callable[[], object]]] = [
                (
                    lambda: r.proxies.update("q", enabled=False),
                    lambda: r.proxies.update("q", enabled=True),
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
    """A proxy may take the port of one that is disabled or deleted, as with Toxiproxy."""

    async def test() -> None:
        async with rig() as r:
            listen = r.proxies.create(ProxySpec("q", NOWHERE), keep_port=True).listen
            for address in (listen, r.proxy.listen):
                r.proxies.update("p", enabled=False)
                r.proxies.update("q", enabled=False)
                r.proxies.create(ProxySpec("other", NOWHERE, address))
                r.proxies.delete("other")
                r.proxies.update("q", enabled=True)

    run(test)


def test_listens_on_this_machine_alone() -> None:
    """Without a host, a proxy listens on 127.0.0.1."""

    async def test() -> None:
        async with rig() as r:
            for number, listen in enumerate(("", ":0", "localhost:0", "127.0.0.1:")):
                proxy = r.proxies.create(ProxySpec(str(number), NOWHERE, listen))
                assert proxy.listen.startswith("127.0.0.1:")

    run(test)


@linux_only
@pytest.mark.parametrize("was_stalled", [False, True])
def test_a_storm_of_connections(was_stalled: bool) -> None:
    """Many connections at once are made before the proxy accepts any; none has to ask again."""

    async def test() -> None:
        async with rig() as r:
            proxy = r.proxies.create(ProxySpec("q", r.upstream))
            if was_stalled:
                stall(r.proxies, "q")
                heal(r.proxies, "q")
            host, port = proxy.listen.split(":")
            clients = [socket.socket() for _ in range(400)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex((host, int(port)))
            made = select.select([], clients, [], 0)[1]
            for client in clients:
                client.close()
            assert len(made) == len(clients)

    run(test)
