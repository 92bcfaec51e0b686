"""pytest fixtures for a cache topology that is broken on purpose.

With the option `--cachesim` off, nothing of cachesim is imported.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from pytest_cachesim._run import KEYS, Run

if TYPE_CHECKING:
    from pymemcache.client.hash import HashClient
    from redis.cluster import RedisCluster

    from cachesim.simulator import Simulator

_RUN = pytest.StashKey[Run]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each with an ini option of the same name."""
    group = parser.getgroup("cachesim", "cache topology")
    group.addoption(
        "--cachesim",
        action="store_true",
        help="start a cache topology for the tests that ask for it, which skip otherwise",
    )
    parser.addini("cachesim", "as the option --cachesim", type="bool", default=False)
    for key, text in KEYS.items():
        group.addoption(f"--cachesim-{key}", metavar=key.upper(), help=text)
        parser.addini(f"cachesim_{key}", f"as the option --cachesim-{key}", default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Load the settings, if tests are to have a topology."""
    if config.getoption("cachesim") or config.getini("cachesim"):
        config.stash[_RUN] = Run(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist the seed."""
    if run := node.config.stash.get(_RUN, None):
        run.share_with(node.workerinput)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Show the settings."""
    run = config.stash.get(_RUN, None)
    return f"cachesim: {run}" if run else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember where a test's events begin."""
    if run := item.config.stash.get(_RUN, None):
        run.begin_test()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give a failing test's report what happened in the topology."""
    report = yield
    if report.failed and (run := item.config.stash.get(_RUN, None)):
        report.sections += run.sections(item)
    return report


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
