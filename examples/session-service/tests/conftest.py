"""The service on cachesim's topology. Only this file knows that it is not production's."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
from cachesim import Simulator
from flask import Flask
from flask.testing import FlaskClient
from redis.cluster import RedisCluster

from session_service.app import create_app
from tests.helpers import CountingOrigin


@pytest.fixture
def origin() -> CountingOrigin:
    """The APIs behind the cache."""
    return CountingOrigin()


@pytest.fixture(scope="session")
def environ(cachesim_env: dict[str, str]) -> Iterator[dict[str, str]]:
    """The service's own variables, as its deployment would set them."""
    with pytest.MonkeyPatch.context() as patch:
        # Every program that uses OpenSSL heeds it. It also spares redis-py the system's
        # certificates, which it loads for each connection anew: 40 ms.
        patch.setenv("SSL_CERT_FILE", cachesim_env["CACHESIM_CA_FILE"])
        yield {
            "REDIS_NODES": cachesim_env["CACHESIM_REDIS_NODES"],
            "REDIS_PASSWORD": cachesim_env["CACHESIM_REDIS_PASSWORD"],
            "MEMCACHED_NODES": cachesim_env["CACHESIM_MEMCACHED_NODES"],
            "CACHE_DEAD_SECONDS": "1",
        }


@pytest.fixture
def start_service(
    cachesim: Simulator,  # noqa: ARG001 - so it begins and ends with each test's topology
    environ: dict[str, str],
    origin: CountingOrigin,
) -> Iterator[Callable[..., Flask]]:
    """Starts the service, with other variables if need be."""
    with contextlib.ExitStack() as stack:

        def start(**variables: str) -> Flask:
            app = create_app(origin, {**environ, **variables})
            for part in app.extensions.values():
                stack.callback(part.close)
            return app

        yield start


@pytest.fixture
def app(start_service: Callable[..., Flask]) -> Flask:
    """The service."""
    return start_service()


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    """Somebody's browser, with its cookies."""
    return app.test_client()


@pytest.fixture
def replicated(redis_cluster: RedisCluster) -> Callable[[], None]:
    """Waits until both replicas have all that the primary has."""

    def wait() -> None:
        # WAIT is about what its own connection has written.
        with redis_cluster.get_primaries()[0].redis_connection.client() as primary:
            primary.set("written-last", 1)
            assert primary.wait(2, 400) == 2

    return wait
