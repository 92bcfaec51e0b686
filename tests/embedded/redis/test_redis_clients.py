"""Real clients, over TLS and real sockets."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio.cluster
from redis.cluster import RedisCluster

from cachesim.clock import Deadline
from cachesim.elasticache import FORBIDDEN_COMMANDS
from cachesim.embedded.node import Refusal
from cachesim.embedded.redis.config import NodeAddress, RedisNodeConfig
from cachesim.embedded.redis.node import RedisNode
from cachesim.servers.admin import NodeClients
from cachesim.servers.certificates import CertificateAuthority, client_context, server_context
from cachesim.servers.credentials import ADMIN_USER, Credentials, acl_hash
from cachesim.servers.redis_cluster import Cluster
from cachesim.topology import Endpoint, production
from tests.embedded.redis.shard import node_id


@dataclass
class Running:
    """Three nodes in a thread."""

    options: dict[str, Any]
    nodes: dict[str, RedisNode]
    cluster: Cluster
    loop: asyncio.AbstractEventLoop

    def do(self, verb: Any) -> None:
        """Call a node's verb in the loop's thread."""

        async def call() -> None:
            verb()

        asyncio.run_coroutine_threadsafe(call(), self.loop).result(10)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A shard over TLS, with clients' and the control plane's users."""
    folder: Path = tmp_path_factory.mktemp("shard")
    ca, credentials = CertificateAuthority(), Credentials()
    (folder / "ca.pem").write_bytes(ca.pem)
    loop = asyncio.new_event_loop()
    listeners = {(f"redis-{z}", kind): socket.socket() for z in "abc" for kind in ("redis", "bus")}
    for listener in listeners.values():
        listener.bind(("127.0.0.1", 0))
    ports = {which: listener.getsockname()[1] for which, listener in listeners.items()}
    addresses = {
        n: NodeAddress(node_id("x", n), "127.0.0.1", ports[n, "redis"], ports[n, "bus"])
        for n in ("redis-a", "redis-b", "redis-c")
    }
    forbidden = " ".join(f"-{command}" for command in FORBIDDEN_COMMANDS)
    users = {
        "default": f"on {acl_hash(credentials.token)} ~* &* +@all {forbidden}",
        ADMIN_USER: f"on {acl_hash(credentials.admin_password)} ~* &* +@all",
    }
    nodes: dict[str, RedisNode] = {}

    async def dial(factory: Any, peer: str, service: str) -> None:
        await loop.create_connection(factory, "127.0.0.1", ports[peer, service])

    async def begin() -> None:
        for name in addresses:
            directory = folder / name
            directory.mkdir()
            config = RedisNodeConfig(
                name,
                directory,
                addresses,
                "redis-a",
                users=users,
                replication_user=ADMIN_USER,
                replication_password=credentials.admin_password,
                server_tls=server_context(ca.issue(name), directory),
                peer_tls=client_context(ca.pem),
            )
            node = nodes[name] = RedisNode(config, dial_peer=dial, loop=loop)
            await loop.create_server(node.accept_from_listener, sock=listeners[name, "redis"])
            # Without a process, the listener resets.
            accept = partial(lambda n: n.accept_bus() if n.is_running else Refusal(), node)
            await loop.create_server(accept, sock=listeners[name, "bus"])
        for node in nodes.values():
            node.start()

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(begin(), loop).result(20)
    admin = NodeClients(
        lambda name: Endpoint("127.0.0.1", addresses[name].port),
        ADMIN_USER,
        credentials.admin_password,
        client_context(ca.pem),
    )
    cluster = Cluster(production(0.01).shards[0], admin)
    cluster.health.wait_healthy("redis-a", Deadline(10))
    options = {
        "host": "127.0.0.1",
        "port": addresses["redis-a"].port,
        "password": credentials.token,
        "ssl": True,
        "ssl_ca_certs": str(folder / "ca.pem"),
        "decode_responses": True,
    }
    yield Running(options, nodes, cluster, loop)
    admin.close()

    async def end() -> None:
        for node in nodes.values():
            node.close()
        await asyncio.sleep(0.05)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    asyncio.run_coroutine_threadsafe(end(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    for listener in listeners.values():
        listener.close()


@pytest.mark.parametrize("resp", [2, 3])
def test_redis_cluster(running: Running, resp: int) -> None:
    """redis-py's cluster client finds all nodes; data, pipelines and scripts work."""
    with RedisCluster(**running.options, protocol=resp) as client:
        assert len(client.get_nodes()) == 3
        assert client.set("session:1", "v", ex=604_800)
        assert client.get("session:1") == "v"
        assert client.hset("h", mapping={"a": "1"}) in (0, 1)
        assert client.hgetall("h") == {"a": "1"}
        with client.pipeline() as pipeline:
            for number in range(300):
                pipeline.set(f"k:{number}", number)
            assert all(pipeline.execute())
        assert client.eval("return redis.call('GET', KEYS[1])", 1, "session:1") == "v"


@pytest.mark.parametrize("resp", [2, 3])
def test_asyncio_cluster(running: Running, resp: int) -> None:
    """The asyncio client too."""

    async def main() -> None:
        async with redis.asyncio.cluster.RedisCluster(**running.options, protocol=resp) as client:
            await client.set("k", "v")
            assert await client.get("k") == "v"

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore:.*TLSv1_1:DeprecationWarning")
def test_tls_versions(running: Running) -> None:
    """TLS 1.2 and 1.3; not 1.1, and no plain text."""

    def shake_hands(version: ssl.TLSVersion) -> str | None:
        context = ssl.create_default_context(cafile=running.options["ssl_ca_certs"])
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        address = (running.options["host"], running.options["port"])
        with (
            socket.create_connection(address, timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            return connection.version()

    assert shake_hands(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert shake_hands(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        shake_hands(ssl.TLSVersion.TLSv1_1)
    address = (running.options["host"], running.options["port"])
    with socket.create_connection(address, timeout=5) as plain:
        plain.sendall(b"PING\r\n")
        assert b"PONG" not in plain.recv(100)


def test_control_plane(running: Running) -> None:
    """What forms, promotes and heals real servers does so here, unchanged."""
    cluster = running.cluster
    running.do(running.nodes["redis-a"].kill)
    for _ in range(2):  # the second time, it is the primary already
        cluster.take_over("redis-c")
    cluster.health.wait_writable("redis-c", Deadline(8))
    running.do(running.nodes["redis-a"].start)
    cluster.converge("redis-a", 15_000, Deadline(20))
    assert cluster.flush("redis-a") is None
    cluster.health.wait_healthy("redis-a", Deadline(10))
