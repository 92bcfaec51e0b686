"""Zones as clients see them."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest
import redis
from pymemcache.exceptions import MemcacheError

from cachesim import Simulator
from cachesim.topology import Endpoint
from tests.contract.helpers import glide_client, node_client

ZONES = {"a": "az-a", "b": "az-b", "c": "az-c"}


@pytest.fixture(params=["docker", "embedded"])
def valkey(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A topology of Valkey."""
    if request.param == "docker":
        request.getfixturevalue("require_docker")
    with Simulator(backend=request.param, engine="valkey", speed=30, seed=7) as sim:
        yield sim


@pytest.mark.parametrize("pair", ["ab", "bc", "ac"])
def test_client_in_a_zone(sim: Simulator, pair: str) -> None:
    """Under each partition a client in each zone reaches exactly the nodes that it should."""
    if sim.backend != "embedded":
        with pytest.raises(ValueError, match="joins the zone's network"):
            sim.redis_cluster(zone="b")
        return
    with ExitStack() as stack:
        redis_clients = {zone: stack.enter_context(closing(redis_in(sim, zone))) for zone in ZONES}
        caches = {zone: stack.enter_context(closing(cache_in(sim, zone))) for zone in ZONES}
        stack.enter_context(sim.faults.partition(pair[0], pair[1]))
        for zone in ZONES:
            wanted = {it for it in ZONES if {it, zone} != set(pair)}
            assert answering(sim, zone, redis_clients[zone]) == wanted
            assert cached(sim, zone, caches[zone]) == wanted


def redis_in(sim: Simulator, zone: str) -> Any:
    """Return a client in a zone, which has found the nodes."""
    client = sim.redis_cluster(zone=zone, socket_timeout=1, socket_connect_timeout=1)
    assert client.set(f"in:{zone}", "v")
    return client


def cache_in(sim: Simulator, zone: str) -> Any:
    """Return a client in a zone."""
    return sim.memcached_client(zone=zone, timeout=1, connect_timeout=1, ignore_exc=False)


def seen(sim: Simulator, zone: str, name: str) -> Endpoint:
    """Return the address of a node from a zone."""
    node = sim.nodes[name]
    return node.endpoint if node.zone == zone else sim.links[zone, name].listen


def answering(sim: Simulator, zone: str, client: Any) -> set[str]:
    """Return the zones whose Redis node answers a client."""
    found = set()
    for node in client.get_nodes():
        (of,) = (it for it in ZONES if seen(sim, zone, f"redis-{it}").port == node.port)
        with suppress(redis.RedisError):
            assert client.ping(target_nodes=[node])
            found.add(of)
    return found


def cached(sim: Simulator, zone: str, client: Any) -> set[str]:
    """Return the zones whose Memcached node answers a client."""
    found = set()
    for of in ZONES:
        address = seen(sim, zone, f"memcached-{of}")
        with suppress(OSError, MemcacheError):
            assert client.clients[str(address)].version()
            found.add(of)
    return found


def test_nodes_tell_their_zones(valkey: Simulator) -> None:
    """In INFO and HELLO; a client that reads by zone reads from its own, and only there."""
    for zone, told in ZONES.items():
        with node_client(valkey, valkey.redis[zone].endpoint) as client:
            assert client.info("server")["availability_zone"] == told
            said = client.execute_command("HELLO", "2")
            assert dict(zip(said[::2], said[1::2], strict=True))["availability_zone"] == told
    asyncio.run(_read_from(valkey, "b"))


async def _read_from(sim: Simulator, zone: str) -> None:
    """Read with valkey-glide from the zone of a replica, and look who has served it."""
    import glide

    client = await glide_client(
        sim, request_timeout=5000, read_from=glide.ReadFrom.AZ_AFFINITY, client_az=ZONES[zone]
    )
    try:
        await client.set("k", "v")
        before = _gets(sim)
        for _ in range(30):
            await client.get("k")
        risen = {name: count - before[name] for name, count in _gets(sim).items()}
        assert risen == {"a": 0, "b": 0, "c": 0, zone: 30}
    finally:
        await client.close()


def _gets(sim: Simulator) -> dict[str, int]:
    """Return how many GETs each node has served."""
    counts = {}
    for zone in ZONES:
        with node_client(sim, sim.redis[zone].endpoint) as client:
            commands = client.info("commandstats")
            counts[zone] = commands.get("cmdstat_get", {"calls": 0})["calls"]
    return counts
