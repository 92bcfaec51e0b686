"""pytest's plugin: fixtures for a cache topology that tests break on purpose.

Without the option `--cachesim` nothing of cachesim is imported, and no hook runs for a test.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pymemcache.client.hash import HashClient
    from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
    from redis.cluster import RedisCluster

    from cachesim.simulator.observe import Observer
    from cachesim.simulator.simulator import Simulator
    from pytest_cachesim._run import Run

SETTINGS = {
    "backend": "the backend: auto, docker or embedded",
    "engine": "the server of the Redis nodes: redis or valkey",
    "speed": "how many times faster than in production failovers are (default: 30)",
    "seed": "the random seed (default: a new one, shown in the header)",
}
"""The settings that have an option, and its help."""
MARKER = (
    "cachesim(**settings): other settings for one test, such as speed=60, seed=7 or "
    "engine='valkey'. If the running topology can't adopt them, the test gets another one. With "
    "scenario='az-outage', a shipped scenario or a file, that runs beside the test, and the test "
    "passes only if the scenario does"
)

FAULT = "cachesim_fault"
"""A marker and a fixture."""
FAULT_MARKER = (
    "cachesim_fault(name, **fields): a fault that is there while the body of the test runs, such "
    'as "latency", links="client-to-*", ms=200. Several markers add up'
)

_RUN: "pytest.StashKey[Run]" = pytest.StashKey()
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, each with an ini option and an environment variable of the same name."""
    group = parser.getgroup("cachesim", "cache topology")
    group.addoption(
        "--cachesim",
        action="store_true",
        help="start a cache topology for the tests that need one; without it they are skipped",
    )
    parser.addini("cachesim", "as the option --cachesim", type="bool", default=False)
    for key, text in SETTINGS.items():
        group.addoption(f"--cachesim-{key}", metavar=key.upper(), help=text)
        parser.addini(f"cachesim_{key}", f"as the option --cachesim-{key}", default=None)
    group.addoption(
        "--cachesim-keep",
        action="store_true",
        help="leave the topology running after the tests, and print how to reach it",
    )
    parser.addini("cachesim_keep", "as the option --cachesim-keep", type="bool", default=False)
    group.addoption(
        "--cachesim-report-lines",
        metavar="N",
        help="how many lines the report of a failing test has of the topology (default: 40), or "
        "`all`, with the lines of logs that have no time",
    )
    parser.addini("cachesim_report_lines", "as the option --cachesim-report-lines", default=None)
    group.addoption(
        "--cachesim-artifacts",
        metavar="DIR",
        help="write a folder for each failing test: its events, the logs of all nodes, and what "
        "it has observed",
    )
    parser.addini("cachesim_artifacts", "as the option --cachesim-artifacts", default=None)
    group.addoption(
        "--cachesim-attach",
        nargs="?",
        const="1",
        metavar="NAME",
        help="use a running topology, also without --cachesim; without a name, the only one "
        "of `cachesim up` that nobody has leased",
    )
    parser.addini(
        "cachesim_attach", "as the option --cachesim-attach; 1: without a name", default=None
    )


def pytest_configure(config: pytest.Config) -> None:
    """Load the settings and add the other hooks, if `--cachesim` or `--cachesim-attach` is on."""
    config.addinivalue_line("markers", MARKER)
    config.addinivalue_line("markers", FAULT_MARKER)
    attach: str | None = config.getoption("cachesim_attach")
    if switch(config, "cachesim") or (attach and is_yes(attach) is not False):
        from pytest_cachesim._run import Run

        run = config.stash[_RUN] = Run(config)
        config.pluginmanager.register(run, "cachesim-run")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a test that is run under a fault after the fault."""
    if argname != FAULT:
        return None
    name = val.get("fault") if isinstance(val, dict) else getattr(val, "name", None)
    return name if isinstance(name, str) else None


def chosen(config: pytest.Config, name: str) -> object:
    """Return an option's value: from the command line, else the environment, else the ini file.

    Args:
        name: the ini option's name, such as `cachesim_keep`.
    """
    # An option that was not given is None or, where it takes no value, False.
    option: object = config.getoption(name) or None
    return option or os.environ.get(name.upper(), "").strip() or config.getini(name)


def is_yes(word: str) -> bool | None:
    """Return whether a word means yes or no; None if it means neither."""
    return True if word.lower() in _YES else False if word.lower() in _NO else None


def switch(config: pytest.Config, name: str) -> bool:
    """Return whether an option without a value is on.

    Raises:
        pytest.UsageError: its variable or its ini option means neither yes nor no.
    """
    try:
        value = chosen(config, name)
    except (ValueError, pytest.UsageError) as error:  # pytest may not name the option
        raise pytest.UsageError(f"ini option {name}: {error}; should be true or false") from error
    if isinstance(value, bool):
        return value
    answer = is_yes(str(value))
    if answer is None:
        raise pytest.UsageError(f"environment {name.upper()} = {value!r}: should be 1 or 0")
    return answer


@pytest.fixture(scope="session")
def cachesim_session(request: pytest.FixtureRequest) -> "Iterator[Simulator]":
    """The topology, in the state in which earlier tests left it."""
    run = request.config.stash.get(_RUN, None)
    if run is None:
        pytest.skip("needs a cache topology: run pytest with --cachesim")
    with run.topology(request) as sim:
        yield sim


@pytest.fixture
def cachesim_fault(request: pytest.FixtureRequest) -> object:
    """Parametrize it to run tests under several faults: the test's own fault; None without one."""
    return getattr(request, "param", None)


@pytest.fixture
def cachesim(
    cachesim_session: "Simulator",
    cachesim_fault: object,  # noqa: ARG001 - so every test with a topology can be parametrized
    request: pytest.FixtureRequest,
) -> "Iterator[Simulator]":
    """The topology as new: healed, empty, with its first primary. Faults end with the test."""
    with request.config.stash[_RUN].test(request.node, cachesim_session) as sim:
        yield sim


@pytest.fixture
def redis_cluster(cachesim: "Simulator") -> "Iterator[RedisCluster]":
    """A RedisCluster with AUTH, TLS and timeouts of 0.5 s."""
    with closing(cachesim.redis_cluster()) as client:
        yield client


@pytest.fixture
def async_redis_cluster(
    cachesim: "Simulator", request: pytest.FixtureRequest
) -> "Iterator[AsyncRedisCluster]":
    """The same for asyncio, in a test that is a coroutine; it is closed when the test ends."""
    from pytest_cachesim._asyncio import closed_by

    client = cachesim.async_redis_cluster()
    with closed_by(request.node, client):
        yield client


@pytest.fixture
def memcached(cachesim: "Simulator") -> "Iterator[HashClient]":
    """A HashClient with TLS, pools and timeouts of 0.5 s."""
    client = cachesim.memcached_client()
    yield client
    with suppress(ValueError):  # pymemcache may remove a node that died for a second time
        client.close()


@pytest.fixture
def observe(cachesim: "Simulator", request: pytest.FixtureRequest) -> "Callable[..., Observer]":
    """`cachesim.observe`: small operations beside the test, in the report if it fails."""
    return request.config.stash[_RUN].observed.observing(cachesim)


@pytest.fixture(scope="session")
def cachesim_env(cachesim_session: "Simulator") -> dict[str, str]:
    """The variables that a service reads, by name."""
    return cachesim_session.env()
