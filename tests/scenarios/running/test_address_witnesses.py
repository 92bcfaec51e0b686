"""Beats go where nodes are, and witnesses try what leads to them."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from cachesim import Simulator
from cachesim.history.rows import Beat
from cachesim.scenarios.running.address_witnesses import Left, Ways
from cachesim.scenarios.running.addresses import follow, ways_of
from cachesim.scenarios.running.beats import Beats
from cachesim.topology import Endpoint
from tests.scenarios.running.beating import answered, beating, until


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    """A topology."""
    with Simulator(backend="embedded", speed=60, seed=7) as it:
        yield it


class Known:
    """What a workload was told."""

    def __init__(self) -> None:
        self.nodes: dict[str, Endpoint] = {}

    def know(self, node: str, address: Endpoint) -> None:
        """Learn an address."""
        self.nodes[node] = address


@pytest.fixture
def beats(sim: Simulator) -> Iterator[Beats]:
    """Beats that are under way."""
    with beating(sim, lambda *_: None) as it:
        yield it


def test_replaced(sim: Simulator, beats: Beats) -> None:
    """A node that has left its address is told by its former one, and beats go to the new one."""
    ways, known, mark = ways_of(sim, beats), Known(), sim.events.mark()
    former = sim.redis["b"].endpoint
    assert not ways.has_left("redis-b")
    sim.redis["b"].replace(new_address=True)
    replaced = time.monotonic()
    for event in sim.events.since(mark):
        follow(event, beats, known)  # type: ignore[arg-type]
    assert known.nodes == {"redis-b": sim.redis["b"].endpoint}
    assert beats.former == {"redis-b": former}
    until(lambda: answered(beats, "redis-b", replaced) and ways.has_left("redis-b"), 30)
    it = Left(["redis-b"], ways)
    until(lambda: it.seen(replaced, float("inf")), 30)
    assert it.gone(5.0) == 5.0  # nothing comes back
    # An address that is said to be a former one, but answers, is none.
    beats.former["redis-c"] = sim.redis["c"].endpoint
    assert not ways.has_left("redis-c")


def test_scaled(sim: Simulator, beats: Beats) -> None:
    """An added node gets beats, a removed one none; the endpoint tells how many there are."""
    ways, known, mark = ways_of(sim, beats), Known(), sim.events.mark()
    assert ways.tells("3")
    with sim.faults.scale(4):
        for event in sim.events.since(mark):
            follow(event, beats, known)  # type: ignore[arg-type]
        assert list(known.nodes) == ["memcached-a2"]
        until(lambda: answered(beats, "memcached-a2", 0), 30)
        until(lambda: ways.tells("4") and not ways.tells("3"), 30)
    for event in sim.events.since(mark):
        follow(event, beats, known)  # type: ignore[arg-type]
    until(lambda: beats.open("memcached-a2") == 0, 30)
    assert "memcached-a2" not in beats.endpoints


def test_stale(sim: Simulator, beats: Beats) -> None:
    """A stale endpoint is seen once it leads to where nobody is, for longer than DNS may."""
    ways, mark = ways_of(sim, beats), sim.events.mark()
    assert ways.ttl == pytest.approx(1.0)  # 60 s
    assert not ways.is_astray("endpoint-redis")
    with sim.faults.stale("endpoint-redis"):
        assert not ways.is_astray("endpoint-redis")
        sim.control_plane.rolling_replacement(new_addresses=True)
        for event in sim.events.since(mark):
            follow(event, beats, None)
        assert not ways.is_astray("endpoint-redis")  # as without a fault
        until(lambda: ways.is_astray("endpoint-redis"), 30)
        assert not ways.is_astray("endpoint-memcached")
    until(lambda: not ways.is_astray("endpoint-redis"), 30)


class Silent:
    """Beats without answers, to nodes that are gone."""

    endpoints = {"redis-a": Endpoint("127.0.0.1", 1)}  # noqa: RUF012
    former: dict[str, Endpoint] = {"redis-a": Endpoint("127.0.0.1", 1)}  # noqa: RUF012

    def recent(self, node: str, since: float) -> list[Beat]:
        """Return beats without an answer."""
        return [Beat(node, "read", since, since, None, 0, "TimeoutError")]


def test_dead_nodes_tell_nothing() -> None:
    """Where the nodes do not answer at all, no address and no endpoint is to blame."""
    endpoints = {"endpoint-redis": Endpoint("127.0.0.1", 1)}
    tls: Any = None
    ways = Ways(Silent(), endpoints, tls, ttl=-1.0)  # type: ignore[arg-type]
    assert not ways.has_left("redis-a")
    assert not ways.is_astray("endpoint-redis")
