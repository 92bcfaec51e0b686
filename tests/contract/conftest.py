"""One suite over a `Simulator`, whatever carries it. Name another backend in `BACKENDS`."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis.cluster import RedisCluster

from cachesim import Simulator

BACKENDS = ("docker", "embedded")
SPEED = 30


@pytest.fixture(scope="session", params=BACKENDS)
def shared(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A running topology for the whole session."""
    if request.param == "docker":
        request.getfixturevalue("require_docker")
    with Simulator(backend=request.param, speed=SPEED, seed=7) as sim:
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
