"""What all tests share."""

import os
import tempfile
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


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No other runs, settings or variables than a test's own; gives the folder it is in."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for variable in [v for v in os.environ if v.startswith("CACHESIM_")]:
        monkeypatch.delenv(variable)
    return tmp_path
