"""The picture of a topology: what is cut, slow or without power, and who can reach whom."""

from typing import Any

import pytest

from cachesim.dashboard.forms import forms
from cachesim.dashboard.picture import PathPicture, Picture, is_up, picture
from cachesim.faults.catalogue import CATALOGUE
from cachesim.topology import ENDPOINTS, Endpoint
from tests.dashboard.statuses import TOPOLOGY, status


def seen(*faults: dict[str, Any], **values: Any) -> Picture:
    """The picture with these faults."""
    return picture(TOPOLOGY, status(*faults, **values))


def reach(it: Picture) -> dict[str, str]:
    """Who reaches which zones, a letter for each: o(pen), s(low), p(artly), c(ut)."""
    rows = {"client": it["clients"], **{zone["name"]: zone["reach"] for zone in it["zones"]}}
    return {name: "".join(state[0] for state in row.values()) for name, row in rows.items()}


def path(it: Picture, one: str, other: str) -> PathPicture:
    """The path between two places."""
    (found,) = (p for p in it["paths"] if (p["one"], p["other"]) == (one, other))
    return found


def test_all_is_well() -> None:
    """Without faults everybody reaches everything."""
    it = seen()
    assert reach(it) == {"client": "ooo", "a": "ooo", "b": "ooo", "c": "ooo"}
    assert it["primary"] == "redis-a"
    assert all(is_up(node) for node in it["nodes"])
    assert len(it["paths"]) == 6
    on_paths = [link for link in TOPOLOGY.links if link.target_zone != ENDPOINTS]
    assert sum(len(p["links"]) for p in it["paths"]) == len(on_paths)


REACH: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "partition": ({"a": "a", "b": "b"}, {"a": "oco", "b": "coo"}),
    "isolate": ({"zone": "a"}, {"client": "coo", "a": "occ", "b": "coo", "c": "coo"}),
    "az-power": ({"zone": "a"}, {"client": "coo", "a": "ccc", "b": "coo", "c": "coo"}),
    "blackhole": ({"links": ["client-to-redis-a"]}, {"client": "poo"}),
    "refuse": ({"links": ["client-to-*-a"]}, {"client": "coo"}),
    "latency": ({"links": ["client-to-*-c"], "ms": 5}, {"client": "oos"}),
    "kill": ({"nodes": ["redis-a"]}, {}),
}


@pytest.mark.parametrize("fault", REACH)
def test_reach(fault: str) -> None:
    """A fault cuts or slows exactly those that it is between."""
    fields, changed = REACH[fault]
    well = {"client": "ooo", "a": "ooo", "b": "ooo", "c": "ooo"}
    assert reach(seen({"fault": fault, **fields})) == well | changed


def test_one_way() -> None:
    """One direction is cut, and so neither zone can use a connection to the other."""
    it = seen({"fault": "partition", "a": "b", "b": "a", "one_way": True})
    between = path(it, "a", "b")
    assert (between["there"], between["back"]) == ("open", "cut")
    assert between["faults"] == ["1"]
    assert reach(it) | {"client": "ooo", "c": "ooo"} == reach(it)
    assert (reach(it)["a"], reach(it)["b"]) == ("oco", "coo")


def test_replication_lag() -> None:
    """What replicas receive is late, and nothing else."""
    it = seen({"fault": "replication-lag", "seconds": 2, "replicas": ["redis-b"]})
    late = {link["name"] for link in it["links"] if link["back"] == "slow"}
    assert late == {"b-to-redis-a", "b-to-redis-c"}
    assert all(link["there"] == "open" for link in it["links"])
    assert [node["name"] for node in it["nodes"] if node["faults"]] == ["redis-b"]


def test_endpoints() -> None:
    """They have the faults on them, and those on the links to them."""
    stale = {"fault": "stale", "endpoints": ["endpoint-memcached"]}
    cut = {"fault": "blackhole", "links": ["client-to-endpoint-*"]}
    addresses = {"redis": Endpoint("127.0.0.1", 17030)}
    it = picture(TOPOLOGY, status(stale, cut), addresses)
    redis, memcached = it["endpoints"]
    assert redis == {
        "name": "endpoint-redis", "service": "redis", "address": "127.0.0.1:17030",
        "link": "client-to-endpoint-redis", "there": "cut", "back": "cut", "faults": ["2"],
    }  # fmt: skip
    assert (memcached["name"], memcached["faults"]) == ("endpoint-memcached", ["2", "1"])
    assert [fault["endpoints"] for fault in it["faults"]] == [["endpoint-memcached"], []]
    assert reach(it) == reach(seen())
    _, only_stale = seen(stale)["endpoints"]
    assert (only_stale["there"], only_stale["faults"]) == ("open", ["1"])


def test_nodes() -> None:
    """A node is up if its process runs and its zone has power."""
    it = seen({"fault": "az-power", "zone": "c"}, states={"redis-a": "stopped"})
    assert [node["name"] for node in it["nodes"] if not is_up(node)] == [
        "redis-a", "redis-c", "memcached-c",
    ]  # fmt: skip


def test_the_worst_of_several_faults() -> None:
    """Faults overlap: what one cuts is not opened by another."""
    slow = {"fault": "latency", "links": ["client-to-redis-a"], "ms": 5}
    cut = {"fault": "blackhole", "links": ["client-to-redis-a"]}
    for faults in ((slow, cut), (cut, slow)):
        (link,) = (it for it in seen(*faults)["links"] if it["name"] == "client-to-redis-a")
        assert (link["there"], link["faults"]) == ("cut", ["1", "2"])


@pytest.mark.parametrize(
    ("given", "values", "ways"),
    [
        (("latency", "latency", 5), {}, ("open", "slow")),
        (("timeout", "timeout", 0), {}, ("open", "cut")),
        (("timeout", "timeout", 0), {"streams": ["upstream"]}, ("cut", "open")),
        (("timeout", "timeout", 0), {"toxicity": 0.5}, ("open", "slow")),
        (("bandwidth", "rate", 0), {}, ("open", "cut")),
        (("bandwidth", "rate", 9), {}, ("open", "slow")),
        (("reset_peer", "timeout", 0), {}, ("cut", "cut")),
    ],
)
def test_toxics(given: tuple[str, str, int], values: dict[str, Any], ways: tuple[str, str]) -> None:
    """Any toxic is on the streams that it works on; one that stops all data cuts them."""
    kind, attribute, value = given
    toxic = {"type": kind, "attributes": {attribute: value}}
    it = seen({"fault": "toxic", "links": ["client-to-redis-a"], "toxic": toxic, **values})
    (link,) = (one for one in it["links"] if one["faults"])
    assert (link["there"], link["back"]) == ways


def test_every_fault_is_on_something() -> None:
    """No fault of the catalogue is invisible, but those of the whole topology."""
    whole = {form["name"] for form in forms(CATALOGUE, TOPOLOGY) if form["on"] == "topology"}
    for fault in CATALOGUE:
        given: dict[str, Any] = {
            "links": ["client-to-redis-a"], "nodes": ["redis-a"], "zone": "a", "a": "a", "b": "b",
            "seconds": 1, "ms": 5, "kb_s": 1, "share": 0.5, "most": 5, "error": "LOADING",
            "pattern": "x", "key": "k", "memcached": 4,
            "toxic": {"type": "latency", "attributes": {"latency": 5}},
        }  # fmt: skip
        fields = {name: given[name] for name in fault.required()}
        (it,) = seen({"fault": fault.name, **fields})["faults"]
        on = it["links"] or it["nodes"] or it["zones"] or it["endpoints"]
        assert on or fault.name in whole, fault.name
