"""Nodes that can't reach each other, and replicas that lag."""

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from cachesim import Simulator
from flask import Flask
from flask.testing import FlaskClient
from redis.cluster import LoadBalancingStrategy, RedisCluster

from tests.helpers import log_in, takes, until


@pytest.fixture
def replica_reader(cachesim: Simulator) -> Iterator[RedisCluster]:
    """A client that reads from the replicas in turn."""
    strategy = LoadBalancingStrategy.ROUND_ROBIN_REPLICAS
    with closing(cachesim.redis_cluster(load_balancing_strategy=strategy)) as client:
        yield client


def copies(reader: RedisCluster, session_id: str) -> int:
    """Return how many of the two replicas have a session."""
    return 2 - [reader.get(f"session:{session_id}") for _ in range(2)].count(None)


def test_read_your_own_login(
    cachesim: Simulator, browser: FlaskClient, replica_reader: RedisCluster
) -> None:
    """A replica that lags does not have a new session yet, so the service asks the primary."""
    with cachesim.faults.replication_lag(1):
        session_id = log_in(browser)
        assert copies(replica_reader, session_id) == 0
        assert browser.get("/me").json == {"user_id": "user-789", "stale": False}
        until(lambda: copies(replica_reader, session_id) == 2)


def test_see_your_own_logout(
    cachesim: Simulator,
    browser: FlaskClient,
    replica_reader: RedisCluster,
    replicated: Callable[[], None],
) -> None:
    """A replica that lags still has a session after the logout, so the service asks the primary."""
    session_id = log_in(browser)
    replicated()
    with cachesim.faults.replication_lag(1):
        browser.post("/logout")
        assert copies(replica_reader, session_id) == 2
        browser.set_cookie("session_id", session_id)  # a thief has kept it
        assert browser.get("/me").status_code == 401


def test_replica_that_does_not_know(cachesim: Simulator, browser: FlaskClient) -> None:
    """Without a primary, a missing session on a replica that lags is a 503, not a 401."""
    with cachesim.faults.replication_lag(5), cachesim.control_plane.suspended():
        log_in(browser)
        cachesim.redis.primary.kill()
        assert browser.get("/me").status_code == 503


def test_partition_between_zones(
    cachesim: Simulator, browser: FlaskClient, replica_reader: RedisCluster
) -> None:
    """The primary and one replica can't reach each other: users don't notice."""
    with cachesim.faults.partition("a", "b"):
        session_id = log_in(browser)
        assert browser.get("/me").json == {"user_id": "user-789", "stale": False}
        until(lambda: copies(replica_reader, session_id) == 1)
    until(lambda: copies(replica_reader, session_id) == 2)
    assert cachesim.control_plane.failovers == 0


def test_primary_on_its_own(
    cachesim: Simulator, app: Flask, replicated: Callable[[], None]
) -> None:
    """Replicas can't reach the primary, but users can: logins until the failover are lost."""
    early, late = app.test_client(), app.test_client()
    mark = cachesim.events.mark()
    log_in(early)
    replicated()
    with cachesim.faults.partition("a", "b"), cachesim.faults.partition("a", "c"):
        log_in(late)
        new = cachesim.redis.wait_for_failover()
        assert new.name != "redis-a"
        assert cachesim.events.of("lost", mark)
        log_in(app.test_client())  # the old primary refuses, and the service finds the new one
        assert early.get("/me").json == {"user_id": "user-789", "stale": False}
        assert late.get("/me").status_code == 401


def test_way_to_the_primary(
    cachesim: Simulator, start_service: Callable[..., Flask], replicated: Callable[[], None]
) -> None:
    """Only this service can't reach the primary: no failover, and it can still read."""
    browser = start_service(SESSION_PATIENCE_SECONDS="0.2").test_client()
    log_in(browser)
    replicated()
    with cachesim.faults.blackhole("client-to-redis-a"):
        assert browser.get("/me").json == {"user_id": "user-789", "stale": True}
        assert browser.post("/login", json={"user_id": "user-790"}).status_code == 503
    assert until(lambda: not browser.get("/me").get_json()["stale"])
    assert cachesim.control_plane.failovers == 0


def test_slow_replicas(
    cachesim: Simulator, browser: FlaskClient, replicated: Callable[[], None]
) -> None:
    """Slow replicas slow down reads only while there is no primary."""
    log_in(browser)
    replicated()
    with cachesim.faults.latency(["client-to-redis-b", "client-to-redis-c"], ms=100):
        with takes(most=0.1):
            assert browser.get("/me").get_json()["stale"] is False
        with cachesim.control_plane.suspended():
            cachesim.redis.primary.kill()
            with takes(least=0.1, most=4.0):
                assert browser.get("/me").get_json()["stale"] is True
        cachesim.redis.wait_for_failover()
