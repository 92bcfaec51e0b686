"""What all tests share."""

import os

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
