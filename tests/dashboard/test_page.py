"""The web page: who is let in, what it shows, and what it breaks, on an emulated topology."""

import http.client
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from cachesim import Simulator
from cachesim.dashboard.serving import served
from tests.contract.helpers import through_link, until

BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


class Page:
    """A browser of the page, without a window."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.host = urlsplit(url).netloc
        self._cookie = ""
        status, headers, _ = self.ask("GET", f"/?{urlsplit(url).query}")
        assert status == 303
        self._cookie = headers["set-cookie"].partition(";")[0]
        assert "httponly" in headers["set-cookie"].lower()

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Return the status, the headers and the text of an answer."""
        with closing(http.client.HTTPConnection(self.host, timeout=20)) as connection:
            given = {"Cookie": self._cookie, "Host": self.host} | headers
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {k: v for k, v in given.items() if v})
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, names, answer.read().decode()


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    """A topology."""
    with Simulator(backend="embedded", speed=30) as it:
        yield it


@pytest.fixture(scope="module")
def page(sim: Simulator) -> Iterator[Page]:
    """Its page."""
    with served(sim) as url:
        yield Page(url)


@pytest.fixture(autouse=True)
def _healed(sim: Simulator) -> Iterator[None]:
    yield
    sim.heal()


def test_the_users_browser_is_let_in(page: Page) -> None:
    """It gets the page, which may load nothing from elsewhere."""
    status, headers, text = page.ask("GET", "/")
    assert status == 200
    assert "<html" in text
    assert "default-src 'none'" in headers["content-security-policy"]
    assert page.ask("GET", "/", Origin=f"http://{page.host}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": ""},
        {"Cookie": "cachesim-1=x"},
        {"Host": "example.com"},
        {"Origin": "http://example.com"},
        {"Origin": "null"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/api/reset")])
def test_others_are_not(page: Page, method: str, path: str, headers: dict[str, str]) -> None:
    """Without the cookie, and from other sites, nothing is answered."""
    assert page.ask(method, path, **headers)[0] == 403


def test_a_wrong_token(page: Page) -> None:
    """It is no way in."""
    assert page.ask("GET", "/?token=wrong", Cookie="")[0] == 403


def test_a_fault_stalls_a_client_until_it_is_healed(page: Page, sim: Simulator) -> None:
    """What is put on by a click is there for a real client."""
    with closing(through_link(sim, "redis-a", socket_timeout=0.5)) as client:
        client.ping()
        fault = {"fault": "blackhole", "links": ["client-to-redis-a"]}
        status, _, text = page.ask("POST", "/api/faults", {"fault": fault})
        assert status == 200
        with pytest.raises((redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)):
            client.ping()
        assert page.ask("DELETE", f"/api/faults/{json.loads(text)['id']}")[0] == 200
        assert until(client.ping)
    assert not sim.faults.active


@pytest.mark.parametrize(
    "body", [{}, {"fault": {"fault": "blakhole"}}, {"fault": {"fault": "kill", "nodes": ["x"]}}]
)
def test_a_mistake_is_told(page: Page, body: dict[str, Any]) -> None:
    """Nothing is applied."""
    status, _, text = page.ask("POST", "/api/faults", body)
    assert status == 400
    assert json.loads(text)["error"]


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_in_a_browser(page: Page, sim: Simulator) -> None:
    """It shows the nodes, and a failover within a second of its event; nothing is logged."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        logged: list[str] = []
        tab.on("pageerror", lambda error: logged.append(str(error)))
        tab.on("console", lambda line: logged.append(line.text) if line.type == "error" else None)
        tab.goto(page.url)
        for node in sim.nodes:
            tab.locator(f'[aria-label^="{node},"]').wait_for()
        tab.locator('[aria-label^="redis-a, primary"]').wait_for()
        sim.control_plane.failover()
        new = sim.redis.wait_for_failover()
        told = time.monotonic()
        tab.locator(f'[aria-label^="{new.name}, primary"]').wait_for(timeout=10_000)
        assert time.monotonic() - told < 1 + 2  # beside other work; alone it is a tenth of it
        assert logged == []
        browser.close()
