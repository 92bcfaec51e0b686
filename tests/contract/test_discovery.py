"""Memcached auto discovery, and nodes that are added, removed and replaced, as clients see them."""

import asyncio
import gc
import hashlib
from bisect import bisect
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pymemcache.client.base import Client
from pymemcache.exceptions import MemcacheError, MemcacheUnknownCommandError

from cachesim import Simulator
from cachesim.clock import Deadline
from cachesim.errors import FaultError, NoPower
from cachesim.servers.certificates import client_context
from cachesim.topology import Endpoint
from tests.contract.helpers import raw_tls, until

FAILURES = (OSError, MemcacheError)
KEYS = [f"api:products:list:{number}" for number in range(3000)]


@contextmanager
def client_of(sim: Simulator, address: Endpoint) -> Iterator[Any]:
    """Yield a plain client."""
    tls = client_context(Path(sim.env()["CACHESIM_CA_FILE"]).read_bytes())
    with closing(
        Client((address.host, address.port), tls_context=tls, timeout=5, default_noreply=False)
    ) as client:
        yield client


def discovered(sim: Simulator, address: Endpoint | None = None) -> tuple[int, list[str]]:
    """Return version and nodes, read as pymemcache's own client for ElastiCache reads them."""
    with client_of(sim, address or sim.control_plane.endpoints["memcached"]) as client:
        answer = client.raw_command(b"config get cluster", end_tokens=b"\n\r\nEND\r\n")
    _, version, nodes = answer.splitlines()
    return int(version), [
        f"{ip}:{port}" for _, ip, port in (it.split("|") for it in nodes.decode().split(" "))
    ]


@pytest.fixture(autouse=True)
def _no_stale_answers(sim: Simulator) -> None:
    """The endpoint leads nowhere else than to healthy nodes."""
    sim.control_plane.timing = replace(sim.control_plane.timing, dns_ttl=(0.0, 0.0))
    sim.faults.stale().heal()


def addresses(sim: Simulator) -> list[str]:
    """Return the addresses of the Memcached nodes."""
    return [str(node.endpoint) for node in sim.memcached.values()]


def test_every_change_is_a_version(sim: Simulator) -> None:
    """The endpoint tells the present nodes; adding, removing and replacing one is a new version."""
    version, nodes = discovered(sim)
    assert nodes == addresses(sim) == sim.env()["CACHESIM_MEMCACHED_NODES"].split(",")
    changes: list[Callable[[], object]] = [
        lambda: sim.control_plane.scale(memcached=4),
        lambda: sim.memcached["b"].replace(new_address=True),
        lambda: sim.control_plane.scale(memcached=3),
    ]
    for change in changes:
        before = version
        change()
        version, nodes = discovered(sim)
        assert version > before
        assert nodes == addresses(sim)
    assert discovered(sim)[0] == version


def test_nodes_answer_too(sim: Simulator) -> None:
    """Emulated nodes answer as the endpoint does; a real one says that it knows no such command."""
    for node in sim.memcached.values():
        if sim.backend == "embedded":
            assert discovered(sim, node.endpoint) == discovered(sim)
        else:
            unknown = pytest.raises(MemcacheUnknownCommandError)
            with client_of(sim, node.endpoint) as client, unknown:
                client.raw_command(b"config get cluster")


def test_endpoint_passes_all_else(sim: Simulator) -> None:
    """Other commands reach a node, with values of any size."""
    value = b"config get cluster\r\n" * 20_000
    with client_of(sim, sim.control_plane.endpoints["memcached"]) as client:
        assert client.set("k", value)
        assert client.get("k") == value
        assert client.version().startswith(b"1.")


def test_new_node(sim: Simulator) -> None:
    """A new node serves, takes faults, is replaced when it dies, and is gone when removed."""
    sim.control_plane.scale(memcached=4)
    node = sim.nodes["memcached-a2"]
    address = node.endpoint
    assert (node.zone, sim.memcached["a2"], sim.topology.node(node.name).zone) == ("a", node, "a")
    with client_of(sim, address) as client:
        assert client.set("k", "v")
        with sim.faults.refuse("client-to-memcached-a2"), pytest.raises(FAILURES):
            client.get("k")
        client.close()
        assert client.get("k") == b"v"
        node.kill()
        with pytest.raises(FAILURES):
            client.get("k")
        until(lambda: node.state == "running", 20)
    with sim.zones["a"].lose_power():
        assert node.state == "stopped"
    with sim.faults.kill("memcached-*"):
        assert {it.state for it in sim.memcached.values()} == {"stopped"}
        sim.control_plane.scale(memcached=3)
    with pytest.raises(OSError):  # noqa: PT011
        raw_tls(sim, address)
    assert list(sim.memcached) == ["a", "b", "c"]
    assert not [name for name in sim.links if "memcached-a2" in name]


def test_limits(sim: Simulator) -> None:
    """There are 3 to 6 nodes; a reset and the fault's heal bring three back."""
    for count in (2, 7):
        with pytest.raises(FaultError, match="3 to 6"):
            sim.control_plane.scale(memcached=count)
    with sim.faults.scale(5):
        assert len(discovered(sim)[1]) == 5
    assert len(discovered(sim)[1]) == 3
    for count in (4, 3, 6):
        sim.control_plane.scale(memcached=count)
        if count > 3:
            sim.faults.connection_limit("memcached-a2", most=9)  # of the one before nothing is left
    assert [it.zone for it in sim.memcached.values()] == list("abcabc")
    sim.reset()
    assert len(discovered(sim)[1]) == len(sim.memcached) == 3


def test_faults_of_a_zone_reach_a_node_that_is_added(sim: Simulator) -> None:
    """A new node in a zone that is isolated is as cut off as the others, until that is healed."""
    with sim.faults.isolate("a"):
        sim.control_plane.scale(memcached=4)
        new = sim.memcached["a2"]
        with pytest.raises(TimeoutError):
            raw_tls(sim, new.endpoint)
    raw_tls(sim, new.endpoint).close()


def test_no_node_is_added_without_power(sim: Simulator) -> None:
    """In a zone that has none it is refused, and works again afterwards."""
    with sim.faults.az_power("a"), pytest.raises(NoPower, match="az-a has no power"):
        sim.control_plane.scale(memcached=4)
    assert len(sim.memcached) == 3
    sim.control_plane.scale(memcached=4)
    raw_tls(sim, sim.memcached["a2"].endpoint).close()


@pytest.mark.filterwarnings(
    "ignore:ssl.PROTOCOL_TLS", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_emcache(sim: Simulator) -> None:
    """A client that polls the endpoint uses a new node, and does without one that is removed."""
    pytest.importorskip("emcache")
    asyncio.run(follow(sim, sim.control_plane.endpoints["memcached"]))
    gc.collect()  # it leaves sockets to removed nodes, which are not the next test's


async def follow(sim: Simulator, address: Endpoint) -> None:
    """Let emcache, which knows one address, use the nodes while they become more and fewer."""
    import emcache

    client = await emcache.create_client(
        [emcache.MemcachedHostAddress(address.host, address.port)],
        timeout=1.0,
        ssl=True,
        ssl_extra_ca=sim.env()["CACHESIM_CA_FILE"],
        autodiscovery=True,
        autodiscovery_poll_interval=0.1,
    )

    async def known() -> set[int]:
        """Return the ports of the nodes, after a write of many keys."""
        for key in KEYS[:200]:
            with suppress(TimeoutError):  # it waits for a node that was removed
                await client.set(key.encode(), b"v")
        return {getattr(it, "port", 0) for it in client.cluster_managment().nodes()}

    try:
        for count in (4, 3):
            await asyncio.to_thread(sim.control_plane.scale, count)
            nodes = [node.endpoint for node in sim.memcached.values()]
            deadline = Deadline(20)
            while await known() != {node.port for node in nodes}:
                assert not deadline.expired
            for node in nodes:
                with client_of(sim, node) as plain:
                    assert plain.get_many(KEYS[:200])
    finally:
        # Its task that polls may swallow the first cancellation, in the middle of a timeout.
        with suppress(TimeoutError):
            await asyncio.wait_for(client.close(), 5)


# --- which keys move --------------------------------------------------------------------------


def modulo(key: str, nodes: list[str]) -> str:
    """Return the node of a key as clients without consistent hashing choose it."""
    return nodes[int(hashlib.md5(key.encode()).hexdigest(), 16) % len(nodes)]  # noqa: S324


@cache
def ring_of(nodes: tuple[str, ...]) -> list[tuple[int, str]]:
    """Return a ring with many points of each node."""
    return sorted(
        (int.from_bytes(digest[at : at + 4], "little"), node)
        for node in nodes
        for part in range(40)
        for digest in [hashlib.md5(f"{node}-{part}".encode()).digest()]  # noqa: S324
        for at in range(0, 16, 4)
    )


def ketama(key: str, nodes: list[str]) -> str:
    """Return the node of a key as consistent hashing chooses it."""
    ring = ring_of(tuple(nodes))
    point = int.from_bytes(hashlib.md5(key.encode()).digest()[:4], "little")  # noqa: S324
    return ring[bisect(ring, (point, "")) % len(ring)][1]


@pytest.mark.parametrize(
    ("choose", "predicted"), [(ketama, 1 / 4), (modulo, 3 / 4)], ids=["ketama", "modulo"]
)
def test_share_of_remapped_keys(
    sim: Simulator, choose: Callable[[str, list[str]], str], predicted: float
) -> None:
    """From 3 to 4 nodes as many keys are missing as the clients' hashing predicts."""
    keys = KEYS[:1200]

    def missing() -> float:
        """Ask all nodes for their keys, and return the share that they do not have."""
        found = 0
        nodes = discovered(sim)[1]
        chosen = {node: [key for key in keys if choose(key, nodes) == node] for node in nodes}
        for node, own in chosen.items():
            with client_of(sim, Endpoint.parse(node)) as client:
                found += len(client.get_many(own))
        return 1 - found / len(keys)

    nodes = discovered(sim)[1]
    for node in nodes:
        with client_of(sim, Endpoint.parse(node)) as client:
            client.set_many({key: "v" for key in keys if choose(key, nodes) == node})
    assert missing() == 0
    sim.control_plane.scale(memcached=4)
    assert missing() == pytest.approx(predicted, abs=0.08)
    sim.control_plane.scale(memcached=3)
    assert missing() == 0  # nobody has stored anything meanwhile
