"""Fixtures of the contract suite: a `Simulator` on every backend."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from redis.cluster import RedisCluster

from cachesim import Simulator
from cachesim.settings import load_settings
from tests.composed import Folder

SPEED = 30


@pytest.fixture(scope="session")
def composed(compose: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A folder that `docker compose` has brought up."""
    settings = load_settings().settings
    with closing(Folder(tmp_path_factory.mktemp("contract"), compose, settings)) as folder:
        folder.up()
        yield folder


@pytest.fixture(scope="session", params=["docker", "embedded", "compose"])
def shared(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A topology that runs for the whole session."""
    if request.param == "compose":
        folder: Folder = request.getfixturevalue("composed")
        sim = Simulator.attach_composed(folder.path, speed=SPEED, seed=7)
    else:
        if request.param == "docker":
            request.getfixturevalue("require_docker")
        sim = Simulator(backend=request.param, speed=SPEED, seed=7)
    with sim:
        yield sim


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `docker compose` run one module only: its containers are those of Docker."""
    composed = {
        item
        for item in items
        if (chosen := getattr(item, "callspec", None)) is not None
        and chosen.params.get("shared") == "compose"
        and item.path.name != "test_ready.py"
    }
    config.hook.pytest_deselected(items=list(composed))
    items[:] = [item for item in items if item not in composed]


@pytest.fixture
def sim(shared: Simulator, request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """The running topology, as new."""
    shared.reset(request.node.name)
    yield shared
    shared.heal()


@pytest.fixture
def redis(sim: Simulator) -> Iterator[RedisCluster]:
    """A Redis client, configured as in production."""
    client = sim.redis_cluster()
    yield client
    client.close()


@pytest.fixture
def memcached(sim: Simulator) -> Iterator[Any]:
    """A Memcached client, configured as in production."""
    client = sim.memcached_client()
    yield client
    client.close()
