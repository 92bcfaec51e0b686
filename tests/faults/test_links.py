"""Links: what faults hold of them, and the chains of toxics that come of it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest

from cachesim.errors import FaultError, StartError, ToxiproxyError, ToxiproxyTimeout
from cachesim.events import EventLog
from cachesim.faults.links import Links
from cachesim.topology import CLIENT, production
from cachesim.toxiproxy.toxics import BOTH, Bandwidth, Latency
from tests.fakes import toxiproxies
from tests.faults.links_rig import DOWN, SLOW, UP, LinksRig


@pytest.fixture
def rig() -> Iterator[LinksRig]:
    """Links without a fault."""
    rig = LinksRig()
    yield rig
    rig.links.close()


def test_added_together_or_not_at_all(rig: LinksRig) -> None:
    """Of links one of which has no proxy, none is used."""
    before = len(rig.links)
    rig.topology.scale(rig.topology.scaled(4))
    new = [link for link in rig.topology.links if link.target == "memcached-a2"]
    for link in new[:-1]:
        rig.servers[link.home].make({"name": link.name, "listen": "l", "upstream": "u"})
    with pytest.raises(ToxiproxyError, match="not found"):
        rig.links.add(new)
    assert len(rig.links) == before


def add_fourth(rig: LinksRig) -> list[str]:
    """Add the links of a fourth Memcached node, which is in zone a; return their names."""
    rig.topology.scale(rig.topology.scaled(4))
    new = [link for link in rig.topology.links if link.target == "memcached-a2"]
    for link in new:
        rig.servers[link.home].make({"name": link.name, "listen": "l", "upstream": "u"})
    rig.links.add(new)
    return [link.name for link in new]


def test_a_rule_reaches_links_that_are_added(rig: LinksRig) -> None:
    """It is on those that it chooses, until its holder is released, and not on later ones."""
    rig.links.hold_stall_where("f", lambda link: [UP] if link.joins("a", "b") else ())
    rig.links.hold_stall_where("released", lambda _link: [DOWN])
    rig.links.release("released")
    new = [rig.links[name] for name in add_fourth(rig)]
    stalled = [it.name for it in new if rig.does(it, UP) or rig.does(it, DOWN)]
    assert stalled == ["b-to-memcached-a2"]
    assert rig.does(rig.links["b-to-memcached-a2"], UP) == ["stall"]
    rig.links.release("f")
    assert rig.is_whole()


def test_a_rule_that_fails_on_links_that_are_added(
    rig: LinksRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then none of them is used; the rule stays on the others."""
    rig.links.hold_stall_where("f", lambda link: [UP] if link.joins("a", "b") else ())
    before = len(rig.links)

    def fail(*_arguments: object) -> None:
        raise ToxiproxyError("told to fail", 500)

    monkeypatch.setattr(rig.servers["b"], "add_toxic", fail)
    with pytest.raises(FaultError, match="could not be changed"):
        add_fourth(rig)
    assert len(rig.links) == before
    assert rig.does(rig.links["b-to-memcached-a"], UP) == ["stall"]


@pytest.mark.parametrize("failing", [False, True])
def test_a_rule_ends_with_a_reset_and_with_an_error(rig: LinksRig, failing: bool) -> None:
    """What is added later is not stalled."""
    if failing:
        rig.servers["b"].broken["b-to-memcached-a"] = 500
        with pytest.raises(FaultError):
            rig.links.hold_stall_where("f", lambda _link: [UP])
        rig.servers["b"].broken.clear()
    else:
        rig.links.hold_stall_where("f", lambda _link: [UP])
    rig.links.reset()
    add_fourth(rig)
    assert rig.is_whole()


def test_links_by_name(rig: LinksRig) -> None:
    """The links are a mapping by name, in the topology's order."""
    assert list(rig.links.values()) == list(rig.topology.links)
    assert len(rig.links) == len(rig.topology.links)
    assert rig.links["client-to-memcached-c"].source == CLIENT


def test_unknown_link(rig: LinksRig) -> None:
    """An unknown name is an error that lists the names there are."""
    with pytest.raises(KeyError, match=r"no link 'x-to-y': there are client-to-redis-a, "):
        rig.links["x-to-y"]


def test_missing_proxy() -> None:
    """Links whose proxies are missing are an error that names them."""
    topology = production()
    servers = toxiproxies(topology, [])
    servers["b"].forget("b-to-redis-a")
    with pytest.raises(FaultError, match="lacks the proxies b-to-redis-a"):
        Links(topology, servers, EventLog(), lambda _: False, lambda _: None)


def test_server_that_stands_still_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer at the start is replaced."""
    topology, events = production(), EventLog()
    servers = toxiproxies(topology, [])
    there = servers["b"].proxies

    def proxies() -> dict[str, dict[str, Any]]:
        raise ToxiproxyTimeout("no answer")

    monkeypatch.setattr(servers["b"], "proxies", proxies)

    def renew(zone: str) -> None:
        monkeypatch.setattr(servers[zone], "proxies", there)

    with closing(Links(topology, servers, events, lambda _: False, renew)) as links:
        assert len(links) == len(topology.links)
    assert [(event.kind, event.source) for event in events] == [("replaced", "az-b")]


def test_server_of_a_link(rig: LinksRig) -> None:
    """A link is carried by its source's zone, a client's link by its target's."""
    assert rig.links.server(rig.links["b-to-redis-a"]) is rig.servers["b"]
    assert rig.links.server(rig.links["client-to-redis-a"]) is rig.servers["a"]


# --- holding and releasing ------------------------------------------------------------------


def test_toxic(rig: LinksRig) -> None:
    """A toxic is added as it was asked for, on the server where the link is at home."""
    rig.links.hold_toxic("f", [rig.link], Latency(100, 20), [UP], 0.5)
    (toxic,) = rig.server.proxy("b-to-redis-a")["toxics"]
    assert toxic == {
        "name": toxic["name"],
        "type": "latency",
        "stream": UP,
        "toxicity": 0.5,
        "attributes": {"latency": 100, "jitter": 20},
    }


def test_stall_of_one_stream(rig: LinksRig) -> None:
    """A stall of one stream leaves the other alone."""
    rig.links.hold_stall("f", {rig.link: [UP]})
    assert rig.does(stream=UP) == ["stall"]
    assert rig.does(stream=DOWN) == []


def test_overlapping_stalls(rig: LinksRig) -> None:
    """Of two overlapping partitions one healed leaves the other as it was."""
    rig.stall("one", *rig.between("a", "b"))
    rig.stall("other", *rig.between("b", "a"), *rig.between("b", "c"))
    rig.links.release("one")
    for stream in BOTH:
        stalled = {link for link in rig.topology.links if rig.does(link, stream)}
        assert stalled == {*rig.between("a", "b"), *rig.between("b", "c")}
    rig.links.release("other")
    assert rig.is_whole()


def test_second_holder_changes_nothing(rig: LinksRig) -> None:
    """A stall that is there already is not made again."""
    rig.stall("one")
    rig.did()
    rig.stall("other")
    assert rig.did() == []


def test_two_toxics_of_one_type(rig: LinksRig) -> None:
    """Two faults may add a toxic of the same type to a link; each ends by itself."""
    rig.slow("one")
    rig.links.hold_toxic("other", [rig.link], Latency(300), [DOWN])
    assert rig.does() == ["latency", "latency"]
    rig.links.release("one")
    (toxic,) = rig.links.toxics(rig.link)
    assert toxic["attributes"]["latency"] == 300


def test_release_is_idempotent(rig: LinksRig) -> None:
    """Releasing again, or what holds nothing, touches nothing."""
    rig.stall("f")
    rig.links.release("f")
    assert rig.is_whole()
    rig.did()
    rig.links.release("f")
    rig.links.release("nobody")
    assert rig.did() == []


def test_release_touches_only_what_was_held(rig: LinksRig) -> None:
    """A release makes no call about links that the holder did not hold."""
    rig.stall("f", rig.links["c-to-redis-a"])
    rig.slow("other")
    rig.did()
    rig.links.release("f")
    assert {proxy for _, proxy, *_ in rig.did()} == {"c-to-redis-a"}
    assert rig.does() == ["latency"]


def test_refused(rig: LinksRig) -> None:
    """A refused link is disabled, and enabled when it is released."""
    rig.links.hold_refused("f", [rig.link])
    assert not rig.server.is_enabled(rig.link.name)
    rig.links.release("f")
    assert rig.server.is_enabled(rig.link.name)


def test_refused_by_two(rig: LinksRig) -> None:
    """A link that two refuse is enabled when the second lets go."""
    rig.links.hold_refused("one", [rig.link])
    rig.links.hold_refused("other", [rig.link])
    rig.links.release("one")
    assert not rig.server.is_enabled(rig.link.name)
    rig.links.release("other")
    assert rig.server.is_enabled(rig.link.name)


# --- when something else interferes ---------------------------------------------------------


def test_failing_addition(rig: LinksRig) -> None:
    """A fault that one of its links does not take is an error, and nothing of it remains."""
    rig.servers["a"].broken["a-to-redis-b"] = 500
    with pytest.raises(FaultError, match="told to fail"):
        rig.stall("f", *rig.between("a", "b"))
    rig.servers["a"].broken.clear()
    assert rig.is_whole()


@pytest.mark.parametrize("status", [500, 503])
def test_change_that_failed_but_was_made(
    rig: LinksRig, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A toxic that was added or set although the answer was an error is gone after all."""
    for verb in ("add_toxic", "update_toxic"):
        make = getattr(rig.server, verb)

        def change(*arguments: Any, make: Callable[..., None] = make) -> None:
            make(*arguments)
            raise ToxiproxyError("told to fail", status)

        with monkeypatch.context() as patch:
            patch.setattr(rig.server, verb, change)
            with pytest.raises(FaultError):
                rig.slow("f")
        rig.links.release("f")
        assert rig.is_whole()
        rig.slow("f")
        assert rig.does() == ["latency"]
        rig.links.release("f")


def test_busy_server(rig: LinksRig) -> None:
    """A server that did not answer in time, but does now, is asked again; its proxies stay."""
    rig.server.busy = 1
    rig.slow("f")
    assert rig.does() == ["latency"]
    assert not rig.events


def test_stuck_proxy(rig: LinksRig) -> None:
    """A proxy that does not answer is made anew, with its desired state; the log says so."""
    rig.slow("one")
    rig.server.stuck.add(rig.link.name)
    rig.links.hold_toxic("other", [rig.link], Bandwidth(64), [UP])
    assert rig.does() == ["latency"]
    assert rig.does(stream=UP) == ["bandwidth"]
    assert [(event.kind, event.source) for event in rig.events] == [("replaced", rig.link.name)]
    for holder in ("one", "other"):
        rig.server.stuck.add(rig.link.name)
        rig.links.release(holder)
    assert rig.is_whole()
    assert rig.renewed == []


@pytest.mark.parametrize("verb", ["hold", "release", "reset"])
def test_stuck_server(rig: LinksRig, verb: str) -> None:
    """A server that does not answer is replaced, and its links get their desired state."""
    rig.slow("f")
    rig.stall("other", rig.links["b-to-redis-c"])
    rig.links.hold_refused("other", [rig.links["b-to-memcached-a"]])
    rig.server.stuck.add(rig.link.name)
    rig.server.is_lost = True
    if verb == "hold":
        rig.slow("g")
        assert rig.does() == ["latency", "latency"]
    else:
        (rig.links.reset if verb == "reset" else partial(rig.links.release, "f"))()
        assert rig.does() == []
    assert rig.does(rig.links["b-to-redis-c"]) == ([] if verb == "reset" else ["stall"])
    assert rig.server.is_enabled("b-to-memcached-a") is (verb == "reset")
    assert rig.renewed == ["b"]
    assert [(event.kind, event.source) for event in rig.events] == [("replaced", "az-b")]
    rig.links.reset()
    assert rig.is_whole()


def test_stuck_server_is_replaced_once(rig: LinksRig) -> None:
    """A server that was replaced is not replaced again for the next error."""
    rig.server.stuck.add(rig.link.name)
    rig.server.is_lost = True
    rig.slow("f")
    rig.servers["a"].broken["a-to-redis-b"] = 500
    with pytest.raises(FaultError):
        rig.slow("g", rig.links["a-to-redis-b"])
    assert rig.renewed == ["b"]


@pytest.mark.parametrize("is_lost", [False, True])
def test_stuck_by_hand(rig: LinksRig, is_lost: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset frees a server that does not answer because of a change by hand."""
    there = rig.server.proxies

    def proxies() -> dict[str, dict[str, Any]]:
        if rig.server.stuck:
            raise ToxiproxyTimeout("no answer")
        return there()

    rig.server.stuck.add(rig.link.name)
    rig.server.is_lost = is_lost
    monkeypatch.setattr(rig.server, "proxies", proxies)
    monkeypatch.setattr(rig.server, "proxy", lambda name: there()[name])
    rig.links.reset()
    assert not rig.server.stuck
    assert rig.renewed == (["b"] if is_lost else [])


def test_server_that_can_not_be_replaced(rig: LinksRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error that says what to do, and is made up for when it can be."""
    rig.slow("f")
    rig.server.stuck.add(rig.link.name)
    rig.server.is_lost = True

    def fail(_: str) -> None:
        raise StartError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(rig.links, "_renew", fail)
        with pytest.raises(FaultError, match=r"no space left.*start it again"):
            rig.links.release("f")
    rig.links.release("f")
    assert rig.is_whole()


@pytest.mark.parametrize("verb", ["release", "reset"])
def test_refused_proxy_deleted_by_hand(rig: LinksRig, verb: str) -> None:
    """A proxy that is gone can be released of a refusal, and a reset makes it anew."""
    rig.links.hold_refused("f", [rig.link])
    rig.server.forget(rig.link.name)
    if verb == "release":
        rig.links.release("f")
    rig.links.reset()
    assert rig.is_whole()


def test_failing_addition_leaves_other_faults(rig: LinksRig) -> None:
    """Other faults stay when a fault could not be applied."""
    rig.stall("one")
    rig.servers["a"].broken["a-to-redis-b"] = 500
    with pytest.raises(FaultError):
        rig.stall("other", *rig.between("a", "b"))
    assert rig.does() == ["stall"]


def test_after_a_failing_addition(rig: LinksRig) -> None:
    """A change that failed is not tried again with later changes."""
    rig.server.broken[rig.link.name] = 400
    with pytest.raises(FaultError):
        rig.slow("f")
    rig.server.broken.clear()
    rig.links.settle()
    assert rig.did() == []


def test_failing_release(rig: LinksRig) -> None:
    """A release that failed is an error, and can be made up for."""
    rig.slow("f")
    rig.server.broken[rig.link.name] = 500
    with pytest.raises(FaultError):
        rig.links.release("f")
    rig.server.broken.clear()
    rig.links.release("f")
    assert rig.is_whole()


@pytest.mark.parametrize("what", ["toxic", "stall", "refusal"])
def test_repeated_release(rig: LinksRig, what: str) -> None:
    """A release that failed is an error again as long as it fails, and then it works."""
    hold: dict[str, Callable[[], None]] = {
        "toxic": lambda: rig.slow("f"),
        "stall": lambda: rig.stall("f"),
        "refusal": lambda: rig.links.hold_refused("f", [rig.link]),
    }
    hold[what]()
    rig.server.broken[rig.link.name] = 500
    for _ in range(2):
        with pytest.raises(FaultError):
            rig.links.release("f")
    rig.server.broken.clear()
    rig.links.release("f")
    assert rig.is_whole()


# --- frozen nodes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "node"),
    [
        pytest.param("client-to-redis-a", "redis-a", id="target"),
        pytest.param("client-to-memcached-a", "memcached-a", id="memcached"),
        pytest.param("b-to-redis-a", "redis-b", id="replica"),
        pytest.param("b-to-redis-a-bus", "redis-b", id="bus"),
    ],
)
def test_postponed(rig: LinksRig, name: str, node: str) -> None:
    """The toxics of a link to or from a frozen node are not changed; the log says so."""
    link = rig.links[name]
    rig.frozen.add(node)
    rig.slow("f", link)
    assert rig.did() == []
    assert [(event.kind, event.source) for event in rig.events] == [("postponed", name)]
    rig.frozen.clear()
    rig.links.settle()
    assert rig.does(link) == ["latency"]


def test_postponed_is_told_once(rig: LinksRig) -> None:
    """A postponed link is in the log once, whatever happens to other links meanwhile."""
    for times in (1, 2):
        rig.frozen.add("redis-a")
        rig.slow(times)
        rig.slow("more")
        rig.links.hold_refused("more", [rig.links["b-to-redis-c"]])
        rig.links.release("more")
        rig.links.settle()
        assert [(e.kind, e.source) for e in rig.events] == [("postponed", rig.link.name)] * times
        rig.frozen.clear()
        rig.links.settle()
        assert rig.does() == ["latency"] * times


@pytest.mark.parametrize("name", ["b-to-memcached-a", "client-to-redis-b", "c-to-redis-b"])
def test_not_postponed(rig: LinksRig, name: str) -> None:
    """A frozen node at neither end of a link does not matter."""
    rig.frozen.update(("redis-a", "memcached-b") if "redis-b" in name else ("redis-b",))
    rig.slow("f", rig.links[name])
    assert rig.does(rig.links[name]) == ["latency"]
    assert not rig.events


def test_postponed_release(rig: LinksRig) -> None:
    """A toxic of a link to a frozen node is released when the node runs again."""
    rig.slow("f")
    rig.frozen.add("redis-a")
    rig.links.release("f")
    assert rig.does() == ["latency"]
    rig.frozen.clear()
    rig.links.settle()
    assert rig.is_whole()


def test_postponed_again(rig: LinksRig) -> None:
    """A change that was postponed and taken back is forgotten when the node runs again."""
    for _ in range(2):
        rig.frozen.add("redis-a")
        rig.slow("f")
        rig.links.release("f")
        rig.frozen.clear()
        rig.links.settle()
    assert [event.kind for event in rig.events] == ["postponed", "postponed"]
    assert rig.did() == []


def test_other_links_are_not_postponed(rig: LinksRig) -> None:
    """Of a fault on several links, those come at once that may be changed."""
    rig.frozen.add("redis-a")
    rig.stall("f", *rig.between("a", "b"))
    at_once = {link.name for link in rig.topology.links if rig.does(link)}
    assert at_once == {"a-to-memcached-b", "b-to-memcached-a"}


def test_refusal_is_not_postponed(rig: LinksRig) -> None:
    """A link can be refused although a node at its ends is frozen."""
    rig.frozen.add("redis-a")
    rig.links.hold_refused("f", [rig.link])
    assert not rig.server.is_enabled(rig.link.name)
    assert not rig.events


def test_settle_without_a_need(rig: LinksRig) -> None:
    """Settling what is settled makes no call."""
    rig.slow("f")
    rig.did()
    rig.links.settle()
    assert rig.did() == []


# --- reset ----------------------------------------------------------------------------------


def test_reset(rig: LinksRig) -> None:
    """A reset releases everything, whoever holds it."""
    rig.stall("one", *rig.between("a", "b"))
    rig.slow("two")
    rig.links.hold_refused("three", rig.between(CLIENT, "c"))
    rig.links.reset()
    assert rig.is_whole()
    rig.did()
    for holder in ("one", "two", "three"):
        rig.links.release(holder)
    assert rig.did() == []


def test_reset_goes_stall_first(rig: LinksRig) -> None:
    """A reset lifts stalls before what is in the same chain."""
    rig.slow("slow")
    rig.links.hold_stall("stall", {rig.link: [DOWN]})
    rig.did()
    rig.links.reset()
    assert [call[2] for call in rig.did()] == ["stall", "latency"]


def test_reset_takes_away_what_was_done_by_hand(rig: LinksRig) -> None:
    """A reset goes to every server, for what others have done there."""
    for server in rig.servers.values():
        for proxy in server.proxies():
            server.add_toxic(proxy, "mine", SLOW, UP)
            server.set_enabled(proxy, False)
    rig.links.reset()
    assert rig.is_whole()
    assert [name for s in rig.servers.values() for p in s.proxies() for name in s.names(p)] == []


def test_reset_after_a_proxy_was_deleted_by_hand(rig: LinksRig) -> None:
    """A proxy that is gone is made anew as it was, and can be broken again."""
    rig.slow("f")
    before = rig.server.spec(rig.link.name)
    rig.server.forget(rig.link.name)
    rig.links.reset()
    assert rig.server.spec(rig.link.name) == before
    rig.slow("f")
    assert rig.does() == ["latency"]


def test_reset_after_a_proxy_was_changed_by_hand(rig: LinksRig) -> None:
    """A proxy that leads or listens elsewhere does so no more."""
    before = rig.server.spec(rig.link.name)
    for key in ("upstream", "listen"):
        rig.server.make({**before, key: "elsewhere:1"})
        rig.links.reset()
        assert rig.server.spec(rig.link.name) == before


def test_reset_that_fails(rig: LinksRig) -> None:
    """A proxy that can't be reset is an error."""
    rig.slow("f")
    rig.server.broken[rig.link.name] = 500
    with pytest.raises(FaultError):
        rig.links.reset()
