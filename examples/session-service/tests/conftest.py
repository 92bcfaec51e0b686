"""Fixtures that connect the service to cachesim's topology. Only this file uses its variables."""

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
    """The service's own variables, as its deployment sets them."""
    with pytest.MonkeyPatch.context() as patch:
        # Every program that uses OpenSSL reads it. Without it, redis-py loads the system's
        # certificates for each connection: 40 ms.
        patch.setenv("SSL_CERT_FILE", cachesim_env["CACHESIM_CA_FILE"])
        yield {
            "REDIS_NODES": cachesim_env["CACHESIM_REDIS_NODES"],
            "REDIS_PASSWORD": cachesim_env["CACHESIM_REDIS_PASSWORD"],
            "MEMCACHED_NODES": cachesim_env["CACHESIM_MEMCACHED_NODES"],
        }


@pytest.fixture
def start_service(
    cachesim: Simulator,  # noqa: ARG001 - so that it starts after each test's reset
    environ: dict[str, str],
    origin: CountingOrigin,
) -> Iterator[Callable[..., Flask]]:
    """A function that starts the service, if needed with other variables."""
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
    """A user's browser, with its cookies."""
    return app.test_client()


@pytest.fixture
def replicated(redis_cluster: RedisCluster) -> Callable[[], None]:
    """A function that waits until both replicas have everything that the primary has."""

    def wait() -> None:
        # WAIT counts only the writes of its own connection.
        with redis_cluster.get_primaries()[0].redis_connection.client() as primary:
            primary.set("written-last", 1)
            assert primary.wait(2, 400) == 2

    return wait
