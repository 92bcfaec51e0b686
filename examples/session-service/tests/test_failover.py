"""The primary is lost: no user is logged out, and no user gets an error 500."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from cachesim import Simulator
from flask import Flask
from flask.testing import FlaskClient
from redis.cluster import RedisCluster

from tests.helpers import log_in, takes, until

LOSSES: dict[str, Callable[[Simulator], object]] = {
    "kill": lambda sim: sim.redis.primary.kill(),
    "pause": lambda sim: sim.redis.primary.pause(),
    "az-power": lambda sim: sim.zones[sim.redis.primary.zone].lose_power(),
    "isolate": lambda sim: sim.zones[sim.redis.primary.zone].isolate(),
    "test-failover": lambda sim: sim.control_plane.failover(),
}


@pytest.mark.parametrize("how", LOSSES)
def test_session_survives(
    cachesim: Simulator, browser: FlaskClient, replicated: Callable[[], None], how: str
) -> None:
    """A user stays logged in on the new primary, and another user can log in."""
    log_in(browser)
    replicated()
    before = cachesim.redis.primary
    LOSSES[how](cachesim)
    after = cachesim.redis.wait_for_failover()
    assert after.name != before.name
    assert browser.get("/me").get_json()["user_id"] == "user-789"
    log_in(browser, "user-790")
    assert browser.get("/me").json == {"user_id": "user-790", "stale": False}


def test_login_waits_for_the_new_primary(cachesim: Simulator, browser: FlaskClient) -> None:
    """A login while there is no primary waits for the new one, and succeeds."""
    # Detection and promotion together take at least half a second at speed 30.
    with takes(least=0.5, most=4.0):
        cachesim.redis.primary.kill()
        log_in(browser)
    assert cachesim.redis.wait_for_failover().name != "redis-a"
    assert browser.get("/me").json == {"user_id": "user-789", "stale": False}


def test_reads_do_not_wait(
    cachesim: Simulator, browser: FlaskClient, replicated: Callable[[], None]
) -> None:
    """While there is no primary, a read comes from a replica, and says that it may be stale."""
    log_in(browser)
    replicated()
    with cachesim.control_plane.suspended():  # no failover in this block
        cachesim.redis.primary.kill()
        assert browser.get("/me").json == {"user_id": "user-789", "stale": True}
    cachesim.redis.wait_for_failover()
    until(lambda: not browser.get("/me").get_json()["stale"])


def test_no_node_answers(
    cachesim: Simulator, start_service: Callable[..., Flask], replicated: Callable[[], None]
) -> None:
    """If no node answers, users get a 503 in bounded time. Then the session is still there."""
    browser = start_service(SESSION_PATIENCE_SECONDS="0.2").test_client()
    log_in(browser)
    replicated()
    links = cachesim.links.where(lambda link: link.name.startswith("client-to-redis"))
    with cachesim.faults.blackhole(links):
        with takes(least=0.5, most=8.0):
            answer = browser.get("/me")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "5"
    with cachesim.faults.refuse(links):
        assert browser.post("/login", json={"user_id": "user-790"}).status_code == 503
    assert browser.get("/me").json == {"user_id": "user-789", "stale": False}


def test_many_log_in(cachesim: Simulator, app: Flask) -> None:
    """Users log in during a failover: after a successful login the session exists."""
    done: list[FlaskClient] = []
    over = threading.Event()

    def keep_logging_in() -> None:
        while not over.is_set():
            log_in(browser := app.test_client())
            done.append(browser)

    with ThreadPoolExecutor(8) as threads:
        loops = [threads.submit(keep_logging_in) for _ in range(8)]
        try:
            until(lambda: len(done) > 20)
            cachesim.redis.primary.kill()
            cachesim.redis.wait_for_failover()
            before = len(done)
            until(lambda: len(done) > before + 20)
        finally:
            over.set()
    for loop in loops:
        loop.result()  # raises what the thread raised
    gone = sum(browser.get("/me").status_code == 401 for browser in done)
    # Writes that had not reached a replica are lost with the primary: at most one of each thread.
    # The event log tells of what the control plane had seen, which may be all but the last ones.
    assert gone <= 8


def test_logout_stays(
    cachesim: Simulator, app: Flask, browser: FlaskClient, replicated: Callable[[], None]
) -> None:
    """A logout during a failover holds, also for a request that began before it."""
    session_id = log_in(browser)
    sessions = app.extensions["sessions"]
    session = sessions.get(session_id)
    an_hour_old = replace(session, last_activity=session.last_activity - timedelta(hours=1))
    assert sessions.touch(an_hour_old)
    replicated()
    with takes(least=0.5, most=4.0):
        cachesim.redis.primary.kill()
        assert browser.post("/logout").status_code == 204
    cachesim.redis.wait_for_failover()
    assert not sessions.touch(an_hour_old)
    assert sessions.get(session_id) is None


def test_sessions_expire(
    cachesim: Simulator,
    start_service: Callable[..., Flask],
    replicated: Callable[[], None],
    redis_cluster: RedisCluster,
) -> None:
    """Sessions keep their expiry on the new primary: seven days, or another setting."""
    weekly, brief = start_service().test_client(), start_service(SESSION_SECONDS="1").test_client()
    key = f"session:{log_in(weekly)}"
    log_in(brief)
    replicated()
    cachesim.redis.primary.kill()
    cachesim.redis.wait_for_failover()
    until(lambda: brief.get("/me").status_code == 401)
    assert weekly.get("/me").status_code == 200
    assert 604_700 < redis_cluster.ttl(key) <= 604_800


def test_lost_logins(cachesim: Simulator, app: Flask) -> None:
    """Writes that no replica has are lost with the primary: those users have to log in again."""
    mark, browsers = cachesim.events.mark(), []
    with cachesim.faults.replication_lag(2):
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            log_in(browser := app.test_client())
            browsers.append(browser)
        cachesim.redis.primary.kill()
        cachesim.redis.wait_for_failover()
        assert all(browser.get("/me").status_code == 401 for browser in browsers)
    # The control plane probes the nodes 20 times a second, so it misses the last writes.
    (lost,) = cachesim.events.of("lost", mark)
    assert lost.data["lost_bytes"] > 200
    log_in(browsers[0])


def test_start_without_the_first_node(
    cachesim: Simulator, start_service: Callable[..., Flask]
) -> None:
    """The service can be deployed while a node is down."""
    cachesim.redis.primary.kill()
    browser = start_service().test_client()
    log_in(browser)
    assert cachesim.redis.wait_for_failover().name != "redis-a"
