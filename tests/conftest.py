"""Fixtures of all tests."""

import gc
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from cachesim.simulator import simulator
from cachesim.simulator.spare import Spare

pytest_plugins = ["pytester"]

_LONGEST = 300  # seconds that a test may take; on a busy machine, the longest takes one minute


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what asks for the long runs."""
    parser.addoption(
        "--calm-runs", type=int, default=0, help="how many runs of tests/calm, of 20 s each"
    )
    parser.addoption(
        "--shipped-runs", type=int, default=0, help="how many runs of each shipped scenario"
    )


def pytest_configure() -> None:
    """Set up each process that runs tests."""
    # No example fails for the time that it takes, on a machine that is busy.
    hypothesis.settings.register_profile("any time", deadline=None)
    hypothesis.settings.load_profile("any time")
    # Thousands of tests are objects that stay: looking for garbage among them takes long.
    gc.set_threshold(20_000, 50, 100)
    # Heed SIGINT, also in the background: shells start such jobs, and so all children, without.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # No CA but ours: redis-py loads all of the machine's for each connection.
    os.environ["SSL_CERT_FILE"] = os.environ["SSL_CERT_DIR"] = os.devnull


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave them out unless asked for."""
    options = {"calm": "calm_runs", "test_shipped.py": "shipped_runs"}
    option = options.get(collection_path.name)
    return True if option is not None and not config.getoption(option) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: at the end, one worker would be left with it."""
    items.sort(key=lambda item: item.path.name not in ("test_docs.py", "test_chaos.py"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let a test that hangs fail, so that the others run."""

    def give_up(*_: object) -> NoReturn:
        pytest.fail(f"{item.nodeid} hangs: it has run for {_LONGEST} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_LONGEST)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Five to eight workers where all nodes are emulated: these tests wait; containers compute."""
    from cachesim.backends.containers.engine import connect
    from cachesim.errors import BackendUnavailable

    try:
        connect().client.close()
    except BackendUnavailable:
        return max(5, min(os.cpu_count() or 1, 8))
    return 2


def lack(what: str, why: str) -> NoReturn:
    """Skip for want of something; fail instead if the variable says that it is required."""
    variable = f"CACHESIM_REQUIRE_{what}"
    if os.environ.get(variable, "0") not in ("", "0"):
        pytest.fail(f"{variable} is set, but {why}")
    pytest.skip(why)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium. Skip where there is none; fail if CACHESIM_REQUIRE_CLIENTS is set."""
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, found), None) or lack("CLIENTS", "there is no Chromium")


@pytest.fixture(scope="session")
def require_docker() -> None:
    """Skip where no engine answers; fail instead if CACHESIM_REQUIRE_DOCKER is set."""
    from cachesim.backends.containers.engine import connect
    from cachesim.errors import BackendUnavailable

    try:
        connect().client.close()
    except BackendUnavailable as error:
        lack("DOCKER", str(error))


@pytest.fixture(scope="session")
def require_server() -> Callable[[str, str], str]:
    """Find a server's binary, by its name and its version: the one that a node is compared with.

    Without it, skip; fail instead if CACHESIM_REQUIRE_SERVERS is set.
    """

    def find(name: str, version: str) -> str:
        binary = shutil.which(name)
        if binary is None:
            lacking = f"there is no {name} on the path to compare with"
        else:
            said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
            if version in said.stdout:
                return binary
            lacking = f"the node answers as {name} {version}, and this is {said.stdout.strip()}"
        lack("SERVERS", lacking)

    return find


@pytest.fixture(scope="session")
def compose(require_docker: None) -> list[str]:  # noqa: ARG001  # first of all
    """The command that is compose."""
    for command in (["docker", "compose"], ["docker-compose"]):
        there = shutil.which(command[0])
        if there and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    lack("DOCKER", "neither `docker compose` nor docker-compose is installed")


@pytest.fixture(scope="session", params=["docker", "embedded"])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn, if it can be had here."""
    if request.param == "docker":
        request.getfixturevalue("require_docker")
    return str(request.param)


@pytest.fixture
def on_backend(
    backend: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Each backend in turn, for all topologies that are started without saying on which."""
    if "alone" in request.fixturenames:  # it removes our variables
        request.getfixturevalue("alone")
    monkeypatch.setenv("CACHESIM_BACKEND", backend)
    return backend


@pytest.fixture(autouse=True, scope="session")
def _no_spare() -> Iterator[None]:
    """No process waits for the next topology of this one: tests look at what a topology leaves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulator, "spare", Spare)  # a new one each time, which keeps nothing
        yield


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A command that is run in this process may leave signals ignored, which children inherit."""
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.fixture
def _small_heap() -> Iterator[None]:
    """Leave the session's objects out of garbage collections, which would take longer with them."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No other runs, settings or variables than a test's own; gives the folder it is in."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for variable in [v for v in os.environ if v.startswith("CACHESIM_")]:
        monkeypatch.delenv(variable)
    return tmp_path
