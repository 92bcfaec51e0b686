"""Real clients (pymemcache) over TLS and sockets."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymemcache.client.base import Client
from pymemcache.client.hash import HashClient
from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheServerError,
    MemcacheUnknownCommandError,
)

from cachesim.clock import Deadline
from cachesim.embedded.memcached.config import MEGABYTE, MemcachedNodeConfig
from cachesim.embedded.memcached.node import MemcachedNode
from cachesim.servers.certificates import CertificateAuthority, client_context, server_context
from cachesim.servers.clients import memcached_client
from cachesim.topology import Endpoint

KEYS = [f"api:products:list:{number}" for number in range(60)]


@dataclass
class Running:
    """Three running nodes in a thread."""

    nodes: dict[int, MemcachedNode]
    tls: ssl.SSLContext
    loop: asyncio.AbstractEventLoop

    def do(self, verb: Callable[[], object]) -> None:
        """Call a node's method in the loop's thread."""

        async def call() -> None:
            verb()

        asyncio.run_coroutine_threadsafe(call(), self.loop).result(10)

    def hash_client(self, **options: Any) -> HashClient:
        """Return a client of all nodes."""
        return memcached_client(
            [Endpoint("127.0.0.1", port) for port in self.nodes], self.tls, **options
        )

    def client(self) -> Client:
        """Return a client of one node."""
        address = ("127.0.0.1", next(iter(self.nodes)))
        return Client(address, tls_context=self.tls, timeout=10, default_noreply=False)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Three nodes."""
    folder: Path = tmp_path_factory.mktemp("memcached")
    ca = CertificateAuthority()
    loop = asyncio.new_event_loop()
    nodes: dict[int, MemcachedNode] = {}
    servers: list[asyncio.Server] = []

    async def begin() -> None:
        for name in ("memcached-a", "memcached-b", "memcached-c"):
            tls = server_context(ca.issue(name), folder)
            node = MemcachedNode(MemcachedNodeConfig(name, 8 * MEGABYTE, tls), loop=loop)
            node.start()
            server = await loop.create_server(node.accept_from_listener, "127.0.0.1", 0)
            servers.append(server)
            nodes[server.sockets[0].getsockname()[1]] = node

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(begin(), loop).result(20)
    yield Running(nodes, client_context(ca.pem), loop)

    async def end() -> None:
        for server in servers:
            server.close()
        for node in nodes.values():
            node.close()
        await asyncio.sleep(0.01)

    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_hash_client(running: Running) -> None:
    """A client stores, reads and changes keys on all nodes."""
    client = running.hash_client(default_noreply=False)
    assert client.set_many(dict.fromkeys(KEYS, b"1")) == []
    assert client.get_many(KEYS) == dict.fromkeys(KEYS, b"1")
    assert all(len(node.server.items.by_key) > 5 for node in running.nodes.values())
    assert client.add("new", b"x", expire=100)
    assert not client.add("new", b"y")
    _, cas = client.gets("new")
    assert client.cas("new", b"z", cas)
    assert not client.cas("new", b"z", cas)
    assert client.append("new", b"!")
    assert client.get("new") == b"z!"
    assert client.touch("new", 1000)
    assert client.set("count", b"9")
    assert client.incr("count", 1) == 10
    assert client.decr("count", 20) == 0
    assert client.delete("count")
    assert client.get("count") is None
    client.flush_all()
    assert client.get_many(KEYS) == {}
    client.close()


def test_without_replies(running: Running) -> None:
    """A value stored without a reply is there for the next request."""
    client = running.hash_client()
    client.set_many({f"k{number}": b"v" * 500 for number in range(5000)})
    assert len(client.get_many([f"k{number}" for number in range(5000)])) == 5000
    client.close()


def test_one_node(running: Running) -> None:
    """Server commands, large values and errors work with one node."""
    client = running.client()
    assert client.version() == b"1.6.18"
    before = client.stats()
    client.set("a", b"b")
    client.get("a")
    after = client.stats()
    assert after[b"cmd_get"] - before[b"cmd_get"] == 1
    assert after[b"limit_maxbytes"] == 8 * MEGABYTE
    assert client.stats("settings")[b"ssl_enabled"] == b"yes"
    large = bytes(range(256)) * 4000
    assert client.set("large", large)
    assert client.get("large") == large
    with pytest.raises(MemcacheServerError, match="object too large for cache"):
        client.set("larger", bytes(2 * MEGABYTE))
    with pytest.raises(MemcacheClientError, match="non-numeric"):
        client.incr("large", 1)
    with pytest.raises(MemcacheUnknownCommandError):
        client.raw_command(b"what is this")
    assert client.raw_command(b"mg a v") == b"VA 1"
    client.close()


def test_killed_node(running: Running) -> None:
    """The keys of a killed node go to the others, and it restarts empty."""
    client = running.hash_client(dead_timeout=0.1, retry_timeout=0.1, ignore_exc=True)
    client.set_many(dict.fromkeys(KEYS, b"1"), noreply=False)
    port, node = next(iter(running.nodes.items()))
    mine = next(key for key in KEYS if client._get_client(key).server[1] == port)
    running.do(node.kill)
    deadline = Deadline(10)
    while not client.set(mine, b"2", noreply=False):
        assert not deadline.expired
    assert client._get_client(mine).server[1] != port
    running.do(node.start)
    fresh = running.client()
    assert fresh.get(mine) is None
    fresh.close()
    client.close()


def test_paused_node(running: Running) -> None:
    """A paused node answers when it is resumed, also new connections."""
    node = next(iter(running.nodes.values()))
    client = running.client()
    client.set("a", b"b")
    running.do(node.pause)
    impatient = Client(client.server, tls_context=running.tls, connect_timeout=0.1)
    with pytest.raises(TimeoutError):
        impatient.get("a")
    running.do(node.resume)
    patient = running.client()
    assert patient.get("a") == b"b"
    patient.close()
    client.close()


def test_no_plain_text(running: Running) -> None:
    """A client without TLS is closed."""
    with socket.create_connection(("127.0.0.1", next(iter(running.nodes))), timeout=10) as plain:
        plain.sendall(b"get a\r\n")
        assert b"END" not in plain.recv(100)
        assert plain.recv(100) == b""
