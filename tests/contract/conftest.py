"""Fixtures of the contract suite: a topology on every backend."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.cluster import RedisCluster

from cachesim import Simulator
from cachesim.settings import load_settings
from tests.composed import Folder
from tests.hosted import Hosted, hosted, hosted_composed

SPEED = 30


BACKENDS = ["docker", "embedded", "compose"]


@pytest.fixture(scope="session")
def composed(
    compose: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], AbstractContextManager[Path]]:
    """Make a folder that `docker compose` has brought up, and take it down."""

    @contextmanager
    def up() -> Iterator[Path]:
        settings = load_settings().settings
        with closing(Folder(tmp_path_factory.mktemp("contract"), compose, settings)) as folder:
            folder.up()
            yield folder.path

    return up


@pytest.fixture(scope="package", params=BACKENDS)  # a topology without tests takes CPU too
def shared(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A topology that runs for the whole suite."""
    if request.param == "compose":
        with (
            request.getfixturevalue("composed")() as folder,
            Simulator.attach_composed(folder, speed=SPEED, seed=7) as sim,
        ):
            yield sim
    else:
        if request.param == "docker":
            request.getfixturevalue("require_docker")
        with Simulator(backend=request.param, speed=SPEED, seed=7) as sim:
            yield sim


@pytest.fixture(scope="package", params=BACKENDS)
def shared_inside(request: pytest.FixtureRequest) -> Iterator[Hosted]:
    """A topology in this process that runs for the whole suite."""
    if request.param == "compose":
        with (
            request.getfixturevalue("composed")() as folder,
            hosted_composed(folder, speed=SPEED, seed=7) as it,
        ):
            yield it
    else:
        if request.param == "docker":
            request.getfixturevalue("require_docker")
        name = f"inside-{secrets.token_hex(3)}"
        with hosted(name, backend=request.param, speed=SPEED, seed=7) as it:
            yield it


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `docker compose` run one module only: its containers are those of Docker."""
    composed = {
        item
        for item in items
        if (chosen := getattr(item, "callspec", None)) is not None
        and "compose" in (chosen.params.get("shared"), chosen.params.get("shared_inside"))
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
def inside(shared_inside: Hosted, request: pytest.FixtureRequest) -> Iterator[Hosted]:
    """The running topology in this process, as new."""
    shared_inside.sim.reset(request.node.name)
    yield shared_inside
    shared_inside.sim.heal()


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
