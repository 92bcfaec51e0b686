"""The web page: who is let in, what it shows, and what it breaks, on an emulated topology."""

import contextlib
import http.client
import itertools
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import redis

from cachesim import Simulator
from cachesim.dashboard.serving import served
from tests.contract.helpers import through_link, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator
    from playwright.sync_api import Page as Tab

PROMISE = 1.0  # seconds from the event of a failover until the page shows it
MARGIN = 1.0  # seconds more on a busy machine
WHEN_SHOWN = """(selector) => {
    const it = { at: null };  // a time as in time.time()
    new MutationObserver((_, observer) => {
        if (!document.querySelector(selector)) return;
        it.at = (performance.timeOrigin + performance.now()) / 1000;
        observer.disconnect();
    }).observe(document.querySelector("#map"), { childList: true });
    return it;
}"""
"""Notes the time at which something has come to the map."""
CHANGED = "ERR_NETWORK_CHANGED"
"""Chromium gives up what it loads when a network comes or goes, such as another test's."""


class Page:
    """A browser of the page, without a window."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.host = urlsplit(url).netloc
        self.cookie = ""
        status, headers, _ = self.ask("GET", f"/?{urlsplit(url).query}")
        assert status == 303
        self.cookie = headers["set-cookie"].partition(";")[0]
        assert "httponly" in headers["set-cookie"].lower()

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], str]:
        """Return the status, the headers and the text of an answer."""
        with closing(http.client.HTTPConnection(self.host, timeout=20)) as connection:
            given = {"Cookie": self.cookie, "Host": self.host} | headers
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


@pytest.mark.parametrize("other", ['prefs={"a":1}', "name=two words", "=", "x"])
def test_cookies_of_others(page: Page, other: str) -> None:
    """A browser sends all cookies of 127.0.0.1, whichever port has set them."""
    assert page.ask("GET", "/", Cookie=f"{other}; {page.cookie}")[0] == 200


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


def test_an_open_page_does_not_keep_it_from_ending(sim: Simulator) -> None:
    """It is told of the end."""
    with ExitStack() as life:
        page = Page(life.enter_context(served(sim)))
        with closing(http.client.HTTPConnection(page.host, timeout=20)) as connection:
            connection.request("GET", "/api/stream", headers={"Cookie": page.cookie})
            answer = connection.getresponse()
            assert answer.readline() == b"event: picture\n"
            life.close()
            assert b"event: ended" in answer.read()


@pytest.fixture(scope="module")
def browser(chromium: str) -> "Iterator[Browser]":
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        it = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield it
        it.close()


@pytest.fixture(params=[(1280, 800), (390, 844)], ids=["wide", "narrow"])
def tab(browser: "Browser", page: Page, request: pytest.FixtureRequest) -> "Iterator[Tab]":
    """The page in a tab of either size. Nothing may be logged, or asked for elsewhere."""
    from playwright.sync_api import Error

    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height})
    it = context.new_page()
    wrong: list[str] = []
    it.on("pageerror", lambda error: wrong.append(str(error)))
    it.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    it.on("request", lambda asked: wrong.append(asked.url) if _is_foreign(asked.url) else None)
    with contextlib.suppress(Error):  # what it says is CHANGED too
        it.goto(page.url)
        it.locator("html[data-ready]").wait_for(timeout=10_000)
    if any(CHANGED in line for line in wrong):
        it.goto(page.url)
    it.locator("html[data-ready]").wait_for()
    yield it
    context.close()
    assert [line for line in wrong if CHANGED not in line] == []


def _is_foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:"))


def part(tab: "Tab", label: str) -> "Locator":
    """A part of the map, by how its label begins. A straight line counts as hidden."""
    return tab.locator(f'#map [aria-label^="{label}"]')


def test_shows_a_failover_at_once(tab: "Tab", sim: Simulator) -> None:
    """Within a second of its event the roles have changed, and charts and events tell of it."""
    old, new = sim.redis.primary.name, sim.redis.replicas[0]
    part(tab, f"{old}, primary").wait_for()
    mark = sim.events.mark()
    shown = tab.evaluate_handle(WHEN_SHOWN, f'#map [aria-label^="{new.name}, primary"]')
    sim.control_plane.failover(new.zone)
    part(tab, f"{new.name}, primary").wait_for()
    (event, *_) = sim.events.of("failover", mark)
    assert shown.evaluate("it => it.at") - event.date.timestamp() < PROMISE + MARGIN
    tab.locator("#events [data-kind=failover]").first.wait_for()
    assert tab.locator("#charts canvas").count() == 6
    sim.control_plane.wait("available")


def test_a_click_stalls_a_client_and_another_frees_it(tab: "Tab", sim: Simulator) -> None:
    """A link is chosen on the map, a fault in its panel; the list of faults heals it."""
    with closing(through_link(sim, "redis-a", socket_timeout=0.5)) as client:
        client.ping()
        part(tab, "Links between clients and az-a: open").click(force=True)
        tab.locator("[data-form=blackhole]").click()
        tab.get_by_role("button", name="Apply blackhole").click()
        part(tab, "Links between clients and az-a: cut").wait_for(state="attached")
        with pytest.raises((redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)):
            client.ping()
        tab.get_by_role("button", name="Heal blackhole on").click()
        part(tab, "Links between clients and az-a: open").wait_for(state="attached")
        assert until(client.ping)


def test_a_line_from_zone_to_zone_cuts_them_off(tab: "Tab", sim: Simulator) -> None:
    """It is drawn with the pointer."""
    boxes = [part(tab, f"Zone az-{zone}").bounding_box() for zone in "ab"]
    (x1, y), (x2, _) = ((box["x"] + box["width"] / 2, box["y"] + 14) for box in boxes if box)
    tab.mouse.move(x1, y)
    tab.mouse.down()
    tab.mouse.move(x2, y, steps=5)
    tab.mouse.up()
    part(tab, "Links between az-a and az-b: cut").wait_for(state="attached")
    assert [fault.target for fault in sim.faults.active] == ["az-a|az-b"]
    assert tab.locator("#reach .cut").count() == 2


def test_a_line_that_is_let_go_elsewhere_cuts_nothing(tab: "Tab", sim: Simulator) -> None:
    """Also if the map was drawn anew meanwhile: the next click only opens a panel."""
    (box,) = [it for it in [part(tab, "Zone az-a").bounding_box()] if it]
    x, y = box["x"] + box["width"] / 2, box["y"] + 14
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x + 40, y, steps=3)
    with sim.faults.latency("client-to-redis-a", 5):
        part(tab, "Links between clients and az-a: slow").wait_for(state="attached")
        tab.mouse.move(box["x"], 2, steps=2)
        tab.mouse.up()
        part(tab, "memcached-c").click()
        tab.locator("#panel").wait_for()
        assert [fault.kind for fault in sim.faults.active] == ["latency of 5 ms"]


def test_a_click_of_a_screen_reader(tab: "Tab", sim: Simulator) -> None:
    """It has no place. The panel that it opens follows the state: a paused node can be resumed."""
    part(tab, "memcached-b").dispatch_event("click")
    sim.faults.pause("memcached-b")
    tab.get_by_role("button", name="Resume").click()
    part(tab, "memcached-b, running").wait_for()


def test_an_endpoint_is_broken_and_healed(tab: "Tab", sim: Simulator) -> None:
    """It has its own faults, and those of the link to it."""
    part(tab, "endpoint-redis: open").click()
    tab.locator("[data-form=stale]").click()
    tab.get_by_role("button", name="Apply stale").click()
    part(tab, "endpoint-redis: open, faults: stale").wait_for()
    assert [(it.kind, it.target) for it in sim.faults.active] == [("stale", "endpoint-redis")]
    with sim.faults.blackhole("client-to-endpoint-redis"):
        part(tab, "endpoint-redis: cut, faults: blackhole, stale").wait_for()
    tab.get_by_role("button", name="Heal stale on").click()
    part(tab, "endpoint-redis: open").and_(tab.locator(":not([aria-label*=faults])")).wait_for()


def test_a_node_of_another_client(tab: "Tab", sim: Simulator) -> None:
    """It can be broken without a reload, and its panel is closed when it is removed."""
    with Simulator.attach(sim.name, lease=False) as other:
        other.control_plane.scale(4)
        try:
            part(tab, "memcached-a2").click()
            tab.locator("[data-form=pause]").click()
            tab.get_by_role("button", name="Apply pause").click()
            part(tab, "memcached-a2, paused, faults: pause").click()
        finally:
            sim.heal()
            other.control_plane.scale(3)
    part(tab, "memcached-a2").wait_for(state="detached")
    tab.locator("#panel").wait_for(state="hidden")
    assert "memcached-a2" not in sim.nodes


def test_by_keyboard(tab: "Tab", sim: Simulator) -> None:
    """A node is reached, broken and healed without a pointer, and the focus stays where it was."""
    part(tab, "memcached-b").focus()
    tab.keyboard.press("Enter")
    tab.locator("[data-form=pause]").focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Enter")  # in the form's first field
    part(tab, "memcached-b, paused, faults: pause").wait_for()
    assert sim.nodes["memcached-b"].state == "paused"
    tab.get_by_role("button", name="Heal pause on memcached-b").press("Enter")
    part(tab, "memcached-b, running").wait_for()
    part(tab, "memcached-b, running").focus()
    with sim.faults.latency("client-to-redis-a", 5):
        part(tab, "Links between clients and az-a: slow").wait_for(state="attached")
        assert tab.evaluate("document.activeElement.dataset.key") == "node-memcached-b"


def test_nodes_stand_apart(tab: "Tab") -> None:
    """Those of a zone that has more than one of a service, too."""
    nodes = [
        {"name": f"{service}-{zone}{number}", "service": service, "zone": zone}
        for service, zone, count in (
            ("redis", "a", 1), ("redis", "b", 2), ("memcached", "a", 3), ("memcached", "b", 1),
        )
        for number in range(count)
    ]  # fmt: skip
    laid = tab.evaluate(
        """async (nodes) => (await import("/assets/layout.js")).layout(
            [{ name: "a" }, { name: "b" }], nodes, 800)""",
        nodes,
    )
    tops: dict[float, list[float]] = {}
    for it in laid["nodes"].values():
        tops.setdefault(it["x"], []).append(it["y"])
    height = laid["nodes"]["redis-a0"]["height"]
    assert [len(it) for it in tops.values()] == [4, 3]
    for column in map(sorted, tops.values()):
        assert all(b - a > height for a, b in itertools.pairwise(column))
        assert column[-1] + height < laid["wires"]


def test_words_stay_in_their_nodes(tab: "Tab", sim: Simulator) -> None:
    """At every width, also after the page has become wider or narrower, and with faults."""
    sim.faults.stale()
    sim.faults.blackhole("client-to-endpoint-*")
    part(tab, "endpoint-memcached: cut, faults: blackhole, stale").wait_for()
    for width in (1280, 768, 390):
        tab.set_viewport_size({"width": width, "height": 800})
        tab.wait_for_function(
            """(width) => {
                const map = document.querySelector("#map svg").getBoundingClientRect();
                const nodes = [...document.querySelectorAll("#map .node, #map .endpoint")];
                return map.width > width / 2 && map.right <= width && nodes.length === 8 &&
                    nodes.every((node) => {
                        const card = node.querySelector(".card").getBoundingClientRect();
                        return [...node.querySelectorAll("text:not(:empty)")].every((it) => {
                            const box = it.getBoundingClientRect();
                            return box.left >= card.left && box.right <= card.right;
                        });
                    });
            }""",
            arg=width,
        )
