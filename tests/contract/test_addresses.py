"""The configuration endpoint, and nodes at new addresses, as clients see them."""

import asyncio
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest
import redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException

from cachesim import Simulator
from cachesim.topology import Endpoint
from tests.contract.helpers import glide_client, node_client, raw_tls, through_link, until

FAILURES = (redis.RedisError, RedisClusterException)
TTL = 180.0  # production seconds: 6 s at the suite's speed


def knowing(sim: Simulator, address: Endpoint, **options: Any) -> RedisCluster:
    """Return a client that knows one address, which it asks whenever it looks again."""
    return RedisCluster(
        host=address.host,
        port=address.port,
        password=sim.env()["CACHESIM_REDIS_PASSWORD"],
        ssl=True,
        ssl_ca_certs=sim.env()["CACHESIM_CA_FILE"],
        socket_timeout=0.5,
        socket_connect_timeout=0.5,
        decode_responses=True,
        dynamic_startup_nodes=False,
        **options,
    )


def endpoint(sim: Simulator) -> Endpoint:
    """Return the configuration endpoint of Redis, as a service is told."""
    return Endpoint(sim.env()["CACHESIM_REDIS_HOST"], int(sim.env()["CACHESIM_REDIS_PORT"]))


def node_behind(sim: Simulator) -> str:
    """Return the id of the node that a new connection to the endpoint reaches."""
    with closing(node_client(sim, endpoint(sim))) as client:
        return str(client.execute_command("CLUSTER MYID"))


@contextmanager
def dns_ttl(sim: Simulator, seconds: float) -> Iterator[None]:
    """Let answers hold for so many seconds of production time."""
    from dataclasses import replace

    before = sim.control_plane.timing
    sim.control_plane.timing = replace(before, dns_ttl=(seconds, seconds))
    sim.faults.stale().heal()  # a new answer, which holds so long
    yield
    sim.control_plane.timing = before


def test_endpoint_leads_to_all_nodes(sim: Simulator) -> None:
    """New connections reach every node in turn, and a client that knows it alone works."""
    ids: set[str] = set()

    def has_seen_all() -> bool:
        ids.add(node_behind(sim))
        return len(ids) == 3

    until(has_seen_all)
    with closing(knowing(sim, endpoint(sim))) as client:
        client.set("k", "v")
        assert client.get("k") == "v"
    assert sim.control_plane.endpoints["redis"] == endpoint(sim)


def test_dead_node_within_the_ttl(sim: Simulator) -> None:
    """For the TTL the endpoint may lead to a node that has died; after it, to living ones alone."""

    def reaches_a_node() -> bool:
        try:
            return bool(node_behind(sim))
        except redis.RedisError:
            return False

    with dns_ttl(sim, TTL), sim.control_plane.suspended():
        sim.faults.stale().heal()  # the next answer is a new one, and holds for the new TTL
        assert reaches_a_node()
        sim.redis["c"].kill()
        until(lambda: not reaches_a_node())
        # So often by chance, with a third of them led to the dead node, is out of the question.
        until(lambda: all(reaches_a_node() for _ in range(40)), 20)


def test_faults_on_the_endpoint(sim: Simulator) -> None:
    """It can be refused, hang, or stay stale; clients that are connected go on."""
    with closing(knowing(sim, endpoint(sim))) as client:
        for fault in (sim.faults.refuse, sim.faults.blackhole):
            with fault("client-to-endpoint-redis"):
                with pytest.raises(RedisClusterException):
                    knowing(sim, endpoint(sim))
                assert client.set("k", "v")
        knowing(sim, endpoint(sim)).close()
        with sim.faults.stale():
            sim.control_plane.rolling_replacement(new_addresses=True)
            with pytest.raises(RedisClusterException):
                knowing(sim, endpoint(sim))
        knowing(sim, endpoint(sim)).close()
    assert not sim.faults.active


def test_rolling_replacement(sim: Simulator) -> None:
    """It is survived with the endpoint alone, and not with the address of a node of the start."""
    before = {name: node.endpoint for name, node in sim.nodes.items()}
    with (
        closing(knowing(sim, endpoint(sim))) as client,
        closing(knowing(sim, before["redis-a"])) as bound,
    ):
        client.set("k", "v")
        bound.set("k", "v")
        sim.control_plane.rolling_replacement(new_addresses=True)
        after = {name: node.endpoint for name, node in sim.nodes.items()}
        assert not set(before.values()) & set(after.values())
        assert until(lambda: _get(client) == "v")
        with pytest.raises(FAILURES):
            bound.get("k")
    for address in before.values():
        with pytest.raises(OSError):  # noqa: PT011  # refused, or closed at once
            raw_tls(sim, address)
    assert sim.env()["CACHESIM_REDIS_NODES"] == ",".join(
        str(after[f"redis-{zone}"]) for zone in "abc"
    )
    sim.reset()
    assert {name: node.endpoint for name, node in sim.nodes.items()} == before
    with closing(knowing(sim, before["redis-a"])) as client:
        assert client.get("k") is None


def _pings(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _get(client: RedisCluster) -> Any:
    try:
        return client.get("k")
    except FAILURES:
        return None


def test_no_write_is_lost(sim: Simulator) -> None:
    """A primary is succeeded before it is replaced: all that it acknowledged is there."""
    with closing(sim.redis_cluster()) as client:
        for number in range(200):
            client.set(f"k{number}", number)
        former = sim.redis.primary
        former.replace(new_address=True)
        assert sim.redis.primary.name != former.name
        until(lambda: former.role == "replica" and sim.control_plane.state == "available")
        assert [client.get(f"k{number}") for number in range(200)] == [*map(str, range(200))]


def test_links_and_faults_are_at_the_new_address(sim: Simulator) -> None:
    """A fault that was there before works at the new address, as one that comes later does."""
    node = sim.redis["b"]
    with sim.faults.latency("client-to-redis-b", 300):
        node.replace(new_address=True)
        with closing(through_link(sim, "redis-b", socket_timeout=5)) as client:
            until(lambda: _pings(client))
            begun = time.monotonic()
            client.ping()
            assert time.monotonic() - begun >= 0.3
    with sim.faults.refuse("client-to-redis-b"), pytest.raises(redis.ConnectionError):
        through_link(sim, "redis-b").ping()
    with sim.faults.partition("a", "b"), closing(sim.redis_cluster()) as client:
        client.set("k", "v")
        with closing(through_link(sim, "redis-b")) as replica:
            replica.readonly()
            assert replica.get("k") is None
    until(lambda: sim.links["client-to-redis-b"].listen.port == node.endpoint.port)


def test_former_address_hangs(sim: Simulator) -> None:
    """Connections to the former address hang, if they should."""
    former = sim.memcached["b"].endpoint
    sim.memcached["b"].replace(new_address=True, old="hang")
    with pytest.raises(TimeoutError):
        raw_tls(sim, former)
    assert sim.memcached["b"].endpoint != former
    raw_tls(sim, sim.memcached["b"].endpoint).close()
    sim.reset()
    raw_tls(sim, former).close()


def test_former_addresses_of_several_moves(sim: Simulator) -> None:
    """Each former address hangs or refuses as its own move says, whatever the others say."""
    for node in (sim.memcached["b"], sim.redis["c"]):
        former = []
        for old in ("hang", "refuse", "hang", "refuse"):
            former.append((node.endpoint, old))
            node.replace(new_address=True, old=old)
        until(partial(_is_reached, sim, node.endpoint))
        for address, old in former:
            with pytest.raises(TimeoutError if old == "hang" else (ConnectionError, ssl.SSLError)):
                raw_tls(sim, address)
    sim.reset()
    until(lambda: _is_reached(sim, sim.memcached["b"].endpoint))


def _is_reached(sim: Simulator, address: Endpoint) -> bool:
    try:
        raw_tls(sim, address).close()
    except OSError:
        return False
    return True


def test_glide(sim: Simulator) -> None:
    """So does valkey-glide, which knows the endpoint alone."""
    pytest.importorskip("glide")
    asyncio.run(_glide(sim))


async def _glide(sim: Simulator) -> None:
    import glide

    client = await glide_client(sim, request_timeout=2000)
    try:
        await client.set("k", "v")
        await asyncio.to_thread(sim.control_plane.rolling_replacement, new_addresses=True)
        deadline = time.monotonic() + 20
        while True:
            try:
                assert await client.get("k") == b"v"
                return
            except glide.GlideError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
    finally:
        await client.close()
