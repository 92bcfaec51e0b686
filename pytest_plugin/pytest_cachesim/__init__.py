"""pytest fixtures for a cache topology that is broken on purpose.

With the option `--cachesim` off, nothing of cachesim is imported, and no hook runs for a test.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pymemcache.client.hash import HashClient
    from redis.cluster import RedisCluster

    from cachesim.simulator import Simulator
    from pytest_cachesim._run import Run

SETTINGS = {
    "backend": "what carries the topology: auto or docker",
    "engine": "what the Redis nodes run: redis or valkey",
    "speed": "how much faster than production time it runs (default: 30)",
    "seed": "seed of every draw (default: drawn, and shown in the header)",
}
"""The settings that can be chosen here, and their help."""

_RUN: "pytest.StashKey[Run]" = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each with an ini option of the same name."""
    group = parser.getgroup("cachesim", "cache topology")
    group.addoption(
        "--cachesim",
        action="store_true",
        help="start a cache topology for the tests that ask for it, which skip otherwise",
    )
    parser.addini("cachesim", "as the option --cachesim", type="bool", default=False)
    for key, text in SETTINGS.items():
        group.addoption(f"--cachesim-{key}", metavar=key.upper(), help=text)
        parser.addini(f"cachesim_{key}", f"as the option --cachesim-{key}", default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Load the settings and add the other hooks, if tests are to have a topology."""
    if config.getoption("cachesim") or config.getini("cachesim"):
        from pytest_cachesim._run import Run

        run = config.stash[_RUN] = Run(config)
        config.pluginmanager.register(run, "cachesim-run")


@pytest.fixture(scope="session")
def cachesim_session(pytestconfig: pytest.Config) -> "Iterator[Simulator]":
    """The topology, as the tests before have left it."""
    run = pytestconfig.stash.get(_RUN, None)
    if run is None:
        pytest.skip("needs a cache topology: run pytest with --cachesim")
    with run.topology() as sim:
        yield sim


@pytest.fixture
def cachesim(
    cachesim_session: "Simulator", request: pytest.FixtureRequest
) -> "Iterator[Simulator]":
    """The topology as new: healed, empty, roles as at first. Faults end with the test."""
    with request.config.stash[_RUN].test(request.node, cachesim_session) as sim:
        yield sim


@pytest.fixture
def redis_cluster(cachesim: "Simulator") -> "Iterator[RedisCluster]":
    """A client of the Redis shard, as the architecture configures it."""
    with closing(cachesim.redis_cluster()) as client:
        yield client


@pytest.fixture
def memcached(cachesim: "Simulator") -> "Iterator[HashClient]":
    """A client of the Memcached nodes, as the architecture configures it."""
    with closing(cachesim.memcached_client()) as client:
        yield client


@pytest.fixture(scope="session")
def cachesim_env(cachesim_session: "Simulator") -> dict[str, str]:
    """The variables that a service reads, by name."""
    return cachesim_session.env()
