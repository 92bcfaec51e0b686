"""The primary is lost: nobody is logged out, nobody gets an error 500."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
    """Who was logged in still is, on another primary, and the next one can log in."""
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
    """Who logs in while there is no primary waits a moment, and is logged in."""
    # Detection and promotion together take half a second at least at speed 30.
    with takes(least=0.5, most=4.0):
        cachesim.redis.primary.kill()
        log_in(browser)
    assert cachesim.redis.wait_for_failover().name != "redis-a"
    assert browser.get("/me").json == {"user_id": "user-789", "stale": False}


def test_reads_do_not_wait(
    cachesim: Simulator, browser: FlaskClient, replicated: Callable[[], None]
) -> None:
    """While there is no primary a replica says who is logged in, and that this may be old."""
    log_in(browser)
    replicated()
    with cachesim.control_plane.suspended():  # no failover comes in between
        cachesim.redis.primary.kill()
        assert browser.get("/me").json == {"user_id": "user-789", "stale": True}
    cachesim.redis.wait_for_failover()
    until(lambda: not browser.get("/me").get_json()["stale"])


def test_no_node_answers(
    cachesim: Simulator, start_service: Callable[..., Flask], replicated: Callable[[], None]
) -> None:
    """If no node answers, one is told to come back, in bounded time. Afterwards all is there."""
    browser = start_service(SESSION_PATIENCE_SECONDS="0.2").test_client()
    log_in(browser)
    replicated()
    links = cachesim.links.where(lambda link: link.name.startswith("client-to-redis"))
    with cachesim.faults.blackhole(links):
        with takes(least=0.5, most=8.0):
            answer = browser.get("/me")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "5"
    assert browser.get("/me").json == {"user_id": "user-789", "stale": False}


def test_many_log_in(cachesim: Simulator, app: Flask) -> None:
    """Browsers log in all the time: who was told that it worked is logged in afterwards."""
    done: list[FlaskClient] = []
    over = threading.Event()

    def keep_logging_in() -> None:
        while not over.is_set():
            log_in(browser := app.test_client())
            done.append(browser)

    mark = cachesim.events.mark()
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
        loop.result()  # raises what went wrong there
    gone = sum(browser.get("/me").status_code == 401 for browser in done)
    # What was on its way to the replicas, the dead primary has taken along. The event log tells.
    assert gone <= 8
    if gone:
        until(lambda: cachesim.events.of("lost", mark))


def test_logout_stays(
    cachesim: Simulator, app: Flask, browser: FlaskClient, replicated: Callable[[], None]
) -> None:
    """Who logs out during a failover is out, also for a request that had begun before."""
    session_id = log_in(browser)
    sessions = app.extensions["sessions"]
    session = sessions.get(session_id)
    replicated()
    with takes(least=0.5, most=4.0):
        cachesim.redis.primary.kill()
        assert browser.post("/logout").status_code == 204
    cachesim.redis.wait_for_failover()
    assert sessions.get(session_id) is None
    assert not sessions.touch(session)


def test_sessions_expire(
    cachesim: Simulator,
    start_service: Callable[..., Flask],
    replicated: Callable[[], None],
    redis_cluster: RedisCluster,
) -> None:
    """The new primary goes on counting: seven days, or what else was asked for."""
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
    """What no replica has heard of is lost with the primary: those users have to log in again."""
    mark, browsers = cachesim.events.mark(), []
    with cachesim.faults.replication_lag(2):
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            log_in(browser := app.test_client())
            browsers.append(browser)
        cachesim.redis.primary.kill()
        cachesim.redis.wait_for_failover()
        assert all(browser.get("/me").status_code == 401 for browser in browsers)
    # The control plane looks at the nodes 20 times a second. It does not know of the last ones.
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
