"""The API cache when a node goes: HashClient's documented behaviour, and an empty node back."""

import time
from typing import Any

import pytest

from cachesim import Simulator
from tests.contract.helpers import until

KEYS = [f"api:products:list:{number}" for number in range(60)]


def owner_of(client: Any, key: str) -> int:
    """The port of the node that a HashClient keeps a key on."""
    return int(client._get_client(key).server[1])


@pytest.mark.core
def test_killed_node(sim: Simulator) -> None:
    """It is marked dead after its retries, keys go to the other two, and it comes back empty."""
    client = sim.memcached_client(dead_timeout=1, retry_timeout=0.1, ignore_exc=True)
    for key in KEYS:
        client.set(key, b"1", noreply=False)
    victim = sim.memcached["b"]
    mine = [key for key in KEYS if owner_of(client, key) == victim.endpoint.port]
    assert mine
    with victim.kill():
        # Misses at first, not errors; then the keys are on the other nodes.
        assert client.get(mine[0]) is None
        until(lambda: client.set(mine[0], b"2", noreply=False))
        assert owner_of(client, mine[0]) != victim.endpoint.port
        assert client.get(mine[0]) == b"2"
        others = [key for key in KEYS if key not in mine]
        assert all(client.get(key) == b"1" for key in others)

    def is_back() -> bool:
        client.get(mine[1])  # it looks for dead nodes when it is used
        return owner_of(client, mine[1]) == victim.endpoint.port

    until(is_back)
    assert client.get(mine[1]) is None
    assert client.set(mine[1], b"3", noreply=False)
    assert client.get(mine[1]) == b"3"
    client.close()


def test_first_request_waits_for_nothing(sim: Simulator) -> None:
    """That of a client without TCP_NODELAY is answered before a delayed ACK, which takes 40 ms."""
    took = []
    for _ in range(10):
        client = sim.memcached_client(use_pooling=False)
        client.get(KEYS[0])  # connects to a node
        (node,) = (it for it in client.clients.values() if it.sock is not None)
        node.close()
        node._connect()
        begun = time.monotonic()
        node.get(KEYS[0])
        took.append(time.monotonic() - begun)
        client.close()
    assert min(took) < 0.02


def test_dead_node_is_replaced(sim: Simulator, memcached: Any) -> None:
    """The control plane gives a dead node a new process, at the same address and empty."""
    mark = sim.events.mark()
    memcached.set(KEYS[0], b"1", noreply=False)
    port = owner_of(memcached, KEYS[0])
    victim = next(n for n in sim.memcached.values() if n.endpoint.port == port)
    victim.kill()
    until(lambda: [e for e in sim.events.of("recovered", mark) if e.source == victim.name])
    assert victim.endpoint.port == port
    fresh = sim.memcached_client()
    assert fresh.get(KEYS[0]) is None
    fresh.close()


def test_blackholed_node_stalls_callers(sim: Simulator, memcached: Any) -> None:
    """A node that hangs costs its callers the timeout, and only them."""
    memcached.set_many(dict.fromkeys(KEYS, b"1"), noreply=False)
    victim = sim.memcached["c"]
    mine = next(key for key in KEYS if owner_of(memcached, key) == victim.endpoint.port)
    other = next(key for key in KEYS if owner_of(memcached, key) != victim.endpoint.port)
    with sim.faults.blackhole("client-to-memcached-c"):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            memcached.get(mine)
        assert time.monotonic() - began >= 0.5
        assert memcached.get(other) == b"1"


def test_partition_leaves_clients(sim: Simulator, memcached: Any) -> None:
    """Clients outside the zones reach every node while zones don't reach each other."""
    with sim.faults.partition("a", "b"):
        assert not memcached.set_many(dict.fromkeys(KEYS, b"1"), noreply=False)
        assert memcached.get_many(KEYS) == dict.fromkeys(KEYS, b"1")
