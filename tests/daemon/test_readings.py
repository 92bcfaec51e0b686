"""What the servers say of themselves, read from a real emulated topology."""

import ssl
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from redis.exceptions import ConnectionError

from cachesim import Simulator
from cachesim.errors import CachesimError
from cachesim.monitoring.readings import Readings, memcached_values, redis_values
from cachesim.servers.admin import NodeClients
from cachesim.servers.redis_config import FENCED
from cachesim.topology import Endpoint, production

INFO = """# Clients
connected_clients:12
# Memory
used_memory:1000
maxmemory:5000
maxmemory_policy:{policy}
# Stats
total_commands_processed:9
total_connections_received:40
maxclients:65000
evicted_keys:3
expired_keys:4
# Replication
role:{role}
slave_repl_offset:90
master_repl_offset:100
"""


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    """A topology."""
    with Simulator(backend="embedded", speed=30, seed=7) as it:
        yield it


def test_a_node_that_is_dead_for_long() -> None:
    """However often it did not answer, it is asked again: it may be back."""
    port_of_nobody = Endpoint("127.0.0.1", 1)
    admin = NodeClients(lambda _: port_of_nobody, "user", "token", ssl.create_default_context())
    with closing(Readings(production(), admin)) as readings:
        reader = readings._readers["redis-b"]
        for _ in range(150):
            with pytest.raises(ConnectionError, match="refused"):
                reader.read()
            reader.close()


@pytest.mark.parametrize(("role", "offset"), [("master", 100), ("slave", 90)])
def test_offset(role: str, offset: int) -> None:
    """A replica's offset is what it has applied."""
    found = redis_values(INFO.format(role=role, policy="noeviction"), 0)
    assert (found["role"], found["offset"]) == (role == "master", offset)


@pytest.mark.parametrize(("replicas", "is_fenced"), [(0, 0), (1, 0), (FENCED, 1)])
def test_fenced(replicas: int, is_fenced: int) -> None:
    """A fenced primary wants more replicas than there ever are; a user's own setting is none."""
    found = redis_values(INFO.format(role="master", policy="allkeys-lru"), replicas)
    assert (found["fenced"], found["noeviction"]) == (is_fenced, 0)


def test_of_memcached() -> None:
    """Memcached's counters have the same names as those of Redis."""
    stats = {
        b"evictions": 1,
        b"reclaimed": 1,
        b"get_expired": 1,
        b"curr_connections": 3,
        b"total_connections": 4,
    }
    found = memcached_values(
        {
            **stats,
            b"total_connections": 4,
            b"bytes": 5,
            b"limit_maxbytes": 6,
            b"curr_items": 7,
            b"cmd_get": 8,
        }
    )
    names = ["evicted_keys", "expired_keys", "connections", "connections_received"]
    more = ["used_memory", "max_memory", "keys", "commands"]
    assert [found[it] for it in (*names, *more)] == list(range(1, 9))


def test_own_connections_are_told(sim: Simulator) -> None:
    """Of an idle server, all connections are cachesim's own."""
    limit = time.monotonic() + 10
    while True:
        found = sim.servers.readings()["nodes"]
        redis = [it for node, it in found.items() if node.startswith("redis")]
        if len(redis) == 3 and all(
            it["own_connections"] == it["values"]["connections"] for it in redis
        ):
            break
        assert time.monotonic() < limit, found
    client = sim.redis_cluster()
    client.ping(target_nodes="all")
    while len(found := sim.servers.readings()["nodes"]) < 6:
        assert time.monotonic() < limit
    for node in ("redis-a", "redis-b", "redis-c"):
        assert found[node]["values"]["connections"] > found[node]["own_connections"]
    client.close()


def test_hung_node_is_left_out(sim: Simulator) -> None:
    """A node that hangs does not keep the others waiting, and is there again afterwards."""
    with sim.faults.pause("redis-b"):
        begun = time.monotonic()
        found = sim.servers.readings()["nodes"]
        assert time.monotonic() - begun < 1
        assert "redis-b" not in found
    limit = time.monotonic() + 10
    while "redis-b" not in sim.servers.readings()["nodes"]:
        assert time.monotonic() < limit


def test_stored(sim: Simulator) -> None:
    """Every node tells the begin of what it has, also a replica, which redirects clients."""
    client = sim.redis_cluster()
    client.set("k", "abcdef")
    client.rpush("list", "x")
    limit = time.monotonic() + 10
    for node in ("redis-a", "redis-b", "redis-c"):
        while (found := sim.servers.stored(node, ["k", "list", "none"], 3))[0] is None:
            assert time.monotonic() < limit
        assert found == ["abc", None, None]
    client.close()
    with pytest.raises(CachesimError, match="no Redis node"):
        sim.servers.stored("memcached-a", ["k"])


def test_heard(sim: Simulator) -> None:
    """Nodes that a partition keeps apart stop to hear each other."""
    with sim.faults.partition("a", "b"):
        limit = time.monotonic() + 10
        while True:
            it = sim.servers.readings()["heard"]
            now = it["redis-a"]["redis-c"]
            if now - max(it["redis-a"]["redis-b"], it["redis-b"]["redis-a"]) > 0.5:
                break
            assert time.monotonic() < limit
    sim.heal()


def test_power_cut_tells_the_last_fsync(sim: Simulator) -> None:
    """The log has until when a node's writes are on its disk: within the second before."""
    mark = sim.events.mark()
    sim.faults.az_power("c").heal()
    (event,) = [it for it in sim.events.since(mark) if it.kind == "power-cut"]
    assert event.source == "redis-c"
    assert 0 <= event.at - event.data["fsynced_at"] < 1.5
