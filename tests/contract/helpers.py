"""Helpers of the contract tests."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from cachesim import Simulator
from cachesim.clock import Deadline
from cachesim.topology import CLIENT, Endpoint


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait until a condition returns something true, and return that.

    What takes long is looked at less often: most looks take CPU, which others wait for.
    """
    deadline, pause = Deadline(seconds), 0.005
    while not (result := condition()):
        assert not deadline.expired, f"not within {seconds} s: {condition}"
        time.sleep(pause)
        pause = min(1.2 * pause, 0.03)
    return result


class Stalls:
    """Measures, while it is entered, how much too late the machine wakes a sleeping thread.

    Attributes:
        total: all delays that an idle machine does not have, in seconds.
    """

    def __init__(self) -> None:
        self.total = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._done.wait(0.01):
            now = time.monotonic()
            late = now - last - 0.01
            self.total += late if late > 0.005 else 0.0
            last = now


def node_client(sim: Simulator, endpoint: Endpoint, **overrides: Any) -> "redis.Redis":
    """Return a plain client of one node, without retries."""
    return plain_client(sim.env(), endpoint, **overrides)


def plain_client(env: Mapping[str, str], endpoint: Endpoint, **overrides: Any) -> "redis.Redis":
    """Return a plain client of one node, without retries, given its topology's variables."""
    options: dict[str, Any] = {
        "password": env["CACHESIM_REDIS_PASSWORD"],
        "ssl": True,
        "ssl_ca_certs": env["CACHESIM_CA_FILE"],
        "decode_responses": True,
        "socket_timeout": 0.5,
        "socket_connect_timeout": 0.5,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    return redis.Redis(host=endpoint.host, port=endpoint.port, **(options | overrides))


def through_link(sim: Simulator, node: str, **overrides: Any) -> "redis.Redis":
    """Return a plain client of a node, over the link that clients use."""
    return node_client(sim, sim.nodes[node].endpoint, **overrides)


def first_write(client: RedisCluster, seconds: float = 20.0) -> float:
    """Write until a write is accepted; return when that was, in monotonic seconds."""

    def write() -> float:
        try:
            client.set("first-write", 1)
        except redis.RedisError:
            return 0.0
        return time.monotonic()

    return float(until(write, seconds))


def info(sim: Simulator, node: str) -> dict[str, Any]:
    """Return `INFO` of a node, over the link that clients use."""
    client = through_link(sim, node)
    try:
        return dict(client.info())
    finally:
        client.close()


def config_of(client: "redis.Redis", names: Iterable[str]) -> dict[str, Any]:
    """Return what `CONFIG GET` says of some settings, by name."""
    return {name: client.config_get(name)[name] for name in names}


def is_in_sync(sim: Simulator, node: str) -> bool:
    """Whether a node is a replica whose link is up and that has all data."""
    try:
        replica, primary = info(sim, node), info(sim, sim.redis.primary.name)
    except redis.RedisError:
        return False
    return bool(
        replica["role"] == "slave"
        and replica["master_link_status"] == "up"
        and primary["role"] == "master"
        and int(replica["slave_repl_offset"]) >= int(primary["master_repl_offset"])
    )


def raw_tls(sim: Simulator, endpoint: Endpoint) -> ssl.SSLSocket:
    """Return a bare TLS connection, verified with the run's CA."""
    context = ssl.create_default_context(cafile=sim.env()["CACHESIM_CA_FILE"])
    plain = socket.create_connection((endpoint.host, endpoint.port), timeout=2)
    return context.wrap_socket(plain, server_hostname="localhost")


@contextmanager
def seen_from(sim: Simulator, zone: str, port: int) -> Iterator[Endpoint]:
    """Yield an address at which this process reaches what a zone has at `127.0.0.1:port`.

    In containers it is a proxy of the zone's own Toxiproxy, which is inside the zone. It is reached
    at the container's own address, as only a local engine on Linux allows.
    """
    if sim.backend == "embedded":
        # Nothing runs inside a zone. The addresses of the zone's links take its place.
        node = next(n for n in sim.nodes.values() if n.endpoint.port == port)
        source = CLIENT if node.zone == zone else zone
        yield sim.links[source, node.name].listen
        return
    server = sim.toxiproxy(zone)
    proxy = server.create(
        upstream=f"127.0.0.1:{port}", name=f"seen-from-{zone}-{port}", listen="0.0.0.0:0"
    )
    try:
        yield Endpoint(_container_address(sim, zone), int(proxy.listen.rpartition(":")[2]))
    finally:
        proxy.destroy()


def _container_address(sim: Simulator, zone: str) -> str:
    import docker

    engine = docker.from_env()
    try:
        (pod,) = engine.containers.list(
            filters={"publish": str(sim.nodes[f"redis-{zone}"].endpoint.port)}
        )
        (network,) = pod.attrs["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])
    finally:
        engine.close()


async def glide_client(sim: Simulator, **options: Any) -> Any:
    """Return a client of valkey-glide that knows the configuration endpoint alone."""
    import glide

    env = sim.env()
    ca = Path(env["CACHESIM_CA_FILE"]).read_bytes()
    tls = glide.TlsAdvancedConfiguration(root_pem_cacerts=ca)
    address = sim.control_plane.endpoints["redis"]
    return await glide.GlideClusterClient.create(
        glide.GlideClusterClientConfiguration(
            [glide.NodeAddress(address.host, address.port)],
            use_tls=True,
            credentials=glide.ServerCredentials(password=env["CACHESIM_REDIS_PASSWORD"]),
            advanced_config=glide.AdvancedGlideClusterClientConfiguration(tls_config=tls),
            **options,
        )
    )
