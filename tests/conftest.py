"""What all tests share."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def require_docker() -> None:
    """Skip where no engine answers; fail instead if CACHESIM_REQUIRE_DOCKER is set."""
    from cachesim.backends.docker import connect
    from cachesim.errors import BackendUnavailable

    try:
        connect().client.close()
    except BackendUnavailable as error:
        if os.environ.get("CACHESIM_REQUIRE_DOCKER", "0") not in ("", "0"):
            pytest.fail(f"CACHESIM_REQUIRE_DOCKER is set, but {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def compose(require_docker: None) -> list[str]:  # noqa: ARG001  # first of all
    """The command that is compose."""
    for command in (["docker", "compose"], ["docker-compose"]):
        there = shutil.which(command[0])
        if there and not subprocess.run([*command, "version"], capture_output=True).returncode:
            return command
    message = "neither `docker compose` nor docker-compose is installed"
    if os.environ.get("CACHESIM_REQUIRE_DOCKER", "0") not in ("", "0"):
        pytest.fail(f"CACHESIM_REQUIRE_DOCKER is set, but {message}")
    pytest.skip(message)


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


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A command that is run in this process may leave signals ignored, which children inherit."""
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No other runs, settings or variables than a test's own; gives the folder it is in."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for variable in [v for v in os.environ if v.startswith("CACHESIM_")]:
        monkeypatch.delenv(variable)
    return tmp_path
