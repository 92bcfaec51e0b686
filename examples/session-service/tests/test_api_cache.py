"""Some or all Memcached nodes are down: answers come from the origin, and in time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cachesim import Simulator
from flask import Flask
from flask.testing import FlaskClient

from tests.helpers import CountingOrigin, log_in, takes, until

CATEGORIES = [f"category-{number}" for number in range(12)]


def ask(browser: FlaskClient) -> None:
    """Request all categories, and check the answers."""
    for category in CATEGORIES:
        answer = browser.get("/products", query_string={"category": category})
        assert answer.status_code == 200
        assert answer.get_json()["products"][0] == f"{category} 0"


def asked_again(browser: FlaskClient, origin: CountingOrigin) -> int:
    """Request all categories, and return how often the origin was called."""
    before = origin.asked.total()
    ask(browser)
    return origin.asked.total() - before


def test_node_is_killed(cachesim: Simulator, browser: FlaskClient, origin: CountingOrigin) -> None:
    """The node's keys come from the origin once, and then from the other nodes."""
    ask(browser)
    ask(browser)
    assert origin.asked.total() == len(CATEGORIES)
    cachesim.memcached["b"].kill()
    ask(browser)
    assert len(CATEGORIES) < origin.asked.total() < 2 * len(CATEGORIES)
    until(lambda: not asked_again(browser, origin))


def test_node_hangs(cachesim: Simulator, browser: FlaskClient, origin: CountingOrigin) -> None:
    """A node that hangs costs one timeout, not one for each request."""
    ask(browser)
    with cachesim.faults.blackhole("client-to-memcached-b"):
        with takes(least=0.4, most=1.4):
            ask(browser)
        assert origin.asked.total() > len(CATEGORIES)


def test_all_nodes_are_gone(
    cachesim: Simulator, browser: FlaskClient, origin: CountingOrigin
) -> None:
    """Without a cache every request calls the origin."""
    cachesim.faults.kill(*(node.name for node in cachesim.memcached.values()))
    ask(browser)
    ask(browser)
    assert origin.asked.total() == 2 * len(CATEGORIES)


def test_all_nodes_hang(cachesim: Simulator, browser: FlaskClient, origin: CountingOrigin) -> None:
    """Three nodes that hang cost three timeouts at most."""
    links = cachesim.links.where(lambda link: link.name.startswith("client-to-memcached"))
    with cachesim.faults.blackhole(links):
        with takes(least=1.4, most=3.0):
            ask(browser)
        assert origin.asked.total() == len(CATEGORIES)


def test_nodes_come_back(
    cachesim: Simulator, start_service: Callable[..., Flask], origin: CountingOrigin
) -> None:
    """Nodes that are back are used again: the second request does not call the origin."""
    browser = start_service(CACHE_DEAD_SECONDS="0.3").test_client()
    with cachesim.faults.kill(*(node.name for node in cachesim.memcached.values())):
        ask(browser)
    assert asked_again(browser, origin)
    until(lambda: not asked_again(browser, origin))


def test_many_ask(cachesim: Simulator, app: Flask, origin: CountingOrigin) -> None:
    """Many requests that find the same node dead at the same time all get their answers."""
    ask(app.test_client())
    with cachesim.faults.blackhole("client-to-memcached-b"), ThreadPoolExecutor(12) as threads:
        for future in [threads.submit(ask, app.test_client()) for _ in range(12)]:
            future.result()
    assert origin.asked.total() > len(CATEGORIES)


def test_zone_without_power(cachesim: Simulator, browser: FlaskClient) -> None:
    """A zone without power takes the primary and a third of the cache with it."""
    log_in(browser)
    cachesim.zones["a"].lose_power()
    ask(browser)
    cachesim.redis.wait_for_failover()
    assert browser.get("/profile").json == {"id": "user-789", "name": "John"}
    log_in(browser)
