"""One suite over a `Simulator`, whatever carries it."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis.cluster import RedisCluster

from cachesim import Simulator

SPEED = 30


@pytest.fixture(scope="session")
def shared(backend: str) -> Iterator[Simulator]:
    """A running topology for the whole session."""
    with Simulator(backend=backend, speed=SPEED, seed=7) as sim:
        yield sim


@pytest.fixture
def sim(shared: Simulator, request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """The running topology, as new."""
    shared.reset(request.node.name)
    yield shared
    shared.heal()


@pytest.fixture
def redis(sim: Simulator) -> Iterator[RedisCluster]:
    """The architecture's Redis client."""
    client = sim.redis_cluster()
    yield client
    client.close()


@pytest.fixture
def memcached(sim: Simulator) -> Iterator[Any]:
    """The architecture's Memcached client."""
    client = sim.memcached_client()
    yield client
    client.close()
