"""One suite over a `Simulator`, whatever carries it. Name another backend in `BACKENDS`."""

import contextlib
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from redis.cluster import RedisCluster

from cachesim import Simulator
from cachesim.config import load_settings
from tests.composed import Folder

BACKENDS = ("docker", "compose")
SPEED = 30


@pytest.fixture(scope="session", params=BACKENDS)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Simulator]:
    """A running topology for the whole session."""
    with contextlib.ExitStack() as life:
        if request.param == "compose":
            folder = tmp_path_factory.mktemp("contract")
            program = request.getfixturevalue("compose")
            it = life.enter_context(closing(Folder(folder, program, load_settings().settings)))
            it.up()
            sim = Simulator.attach_composed(it.path, speed=SPEED, seed=7)
        else:
            request.getfixturevalue("require_docker")
            sim = Simulator(backend=request.param, speed=SPEED, seed=7)
        yield life.enter_context(sim)


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
