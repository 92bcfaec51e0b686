"""Nodes get other addresses, and endpoints are held, on servers in memory."""

import threading
from collections.abc import Iterator

import pytest

from cachesim.errors import FaultError, InvalidFault
from cachesim.faults.catalogue import Replace
from cachesim.faults.courses import Course
from cachesim.toxiproxy.toxics import Stream
from tests.faults.links_rig import LinksRig
from tests.faults.rig import Rig


@pytest.fixture
def links() -> Iterator[LinksRig]:
    """All links."""
    rig = LinksRig()
    yield rig
    rig.links.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A whole topology."""
    rig = Rig()
    yield rig
    rig.links.close()


def test_toxics_move_with_a_link(links: LinksRig) -> None:
    """A link that listens elsewhere keeps its toxics, and can be created anew there."""
    links.slow("f")
    links.links.move({links.link.name: "127.0.0.1:9"})
    assert links.server.spec(links.link.name)["listen"] == "127.0.0.1:9"
    assert links.does() == ["latency"]
    links.server.forget(links.link.name)
    links.links.reset()
    assert links.server.spec(links.link.name)["listen"] == "127.0.0.1:9"


def test_former_address_hangs(links: LinksRig) -> None:
    """Connections to the former address are stalled, until it is freed."""
    before = links.server.spec(links.link.name)["listen"]
    links.links.move({links.link.name: "127.0.0.1:9"}, hangs=True)
    (gone,) = [name for name in links.server.proxies() if "gone" in name]
    assert links.server.spec(gone)["listen"] == before
    assert [links.server.does(gone, stream) for stream in Stream] == [["stall"], ["stall"]]
    links.links.free_former()
    links.links.move({links.link.name: before})
    assert not [name for name in links.server.proxies() if "gone" in name]


def test_new_address_of_a_node(rig: Rig) -> None:
    """A node that is replaced at a new address is moved before it is killed, then started."""
    rig.nodes.kill("fault", ["redis-b"])
    rig.did()
    rig.nodes.replace("redis-b", "new")
    assert rig.did() == [
        ("move", "redis-b"),
        ("listen", "client-to-redis-b", "127.0.0.1:new-redis-b"),
        ("start_node", "redis-b"),
    ]
    assert rig.nodes.is_up("redis-b")
    assert [e.source for e in rig.events.of("moved")] == ["redis-b"]


def test_reset_brings_addresses_back(rig: Rig) -> None:
    """A reset gives moved nodes their first addresses, and no others."""
    rig.nodes.replace("redis-b", "new")
    rig.nodes.replace("memcached-a", "new")
    rig.nodes.replace("redis-c")
    rig.did()
    rig.restorer.reset()
    assert sorted(call for call in rig.did() if call[0] == "move_back") == [
        ("move_back", "memcached-a"),
        ("move_back", "redis-b"),
    ]
    rig.restorer.reset()
    assert not [call for call in rig.did() if call[0] == "move_back"]


def test_reset_frees_all_former_addresses(rig: Rig) -> None:
    """After a reset none hangs: of a node that has moved twice, and of a Toxiproxy that is new."""
    rig.nodes.replace("redis-b", "new")
    rig.nodes.replace("redis-b", "new", hangs=True)
    rig.nodes.replace("memcached-a", "new", hangs=True)
    server = rig.servers["a"]
    (gone,) = [name for name in server.proxies() if "gone" in name]
    server.forget(gone)
    rig.restorer.reset()
    proxies = [name for server in rig.servers.values() for name in server.proxies()]
    assert not [name for name in proxies if "gone" in name]


def test_reset_brings_back_a_node_whose_move_failed(rig: Rig) -> None:
    """A node whose links could not be moved has its first address again."""
    rig.servers["b"].broken["client-to-redis-b"] = 500
    with pytest.raises(FaultError, match="could not be moved"):
        rig.nodes.replace("redis-b", "new")
    rig.servers["b"].broken.clear()
    rig.did()
    rig.restorer.reset()
    assert ("move_back", "redis-b") in rig.did()


def test_replace(rig: Rig) -> None:
    """The fault replaces nodes one after the other; healing it changes nothing."""
    fault = rig.faults.replace("redis-*", new_address=True, old="hang")
    assert rig.replacer.replaced == [(f"redis-{zone}", True, True) for zone in "abc"]
    fault.heal()
    assert len(rig.replacer.replaced) == 3
    with pytest.raises(InvalidFault, match="old"):
        rig.faults.replace("redis-a", old="burn")


def test_others_heal_what_a_replacement_waits_for(rig: Rig) -> None:
    """While a replica is to succeed the primary, faults can be healed and applied."""
    isolated = rig.faults.isolate("b")

    def succeed() -> None:
        healing = threading.Thread(target=isolated.heal, daemon=True)
        healing.start()
        healing.join(5)
        assert isolated not in rig.faults.active

    rig.replacer.succession = succeed
    replaced = rig.faults.replace("redis-a")
    assert rig.faults.active == [replaced]


def test_wrong_course_of_a_replacement(rig: Rig) -> None:
    """No replica succeeds a primary whose replacement is refused."""
    succeeded: list[str] = []
    rig.replacer.succession = lambda: succeeded.append("it")
    with pytest.raises(InvalidFault, match="can't grow"):
        rig.injector.apply([Replace(("redis-a",))], Course(over=5))
    assert not succeeded


def test_stale(rig: Rig) -> None:
    """The fault holds what endpoints lead to, of both services or of one, until it is healed."""
    with rig.faults.stale():
        with rig.faults.stale("endpoint-redis"):
            assert sorted(rig.names.held.values()) == [
                ("endpoint-redis",),
                ("endpoint-redis", "endpoint-memcached"),
            ]
        assert list(rig.names.held.values()) == [("endpoint-redis", "endpoint-memcached")]
    assert rig.names.held == {}


def test_scale(rig: Rig) -> None:
    """The last fault counts; when all are healed, there are as many nodes as before."""
    one, other = rig.faults.scale(4), rig.faults.scale(6)
    assert rig.scaler.count == 6
    one.heal()
    assert rig.scaler.count == 6
    other.heal()
    assert rig.scaler.count == 3
    rig.faults.scale(5)
    rig.injector.heal_all()
    assert rig.scaler.count == 3


def test_scale_that_fails(rig: Rig) -> None:
    """The nodes that could be added are removed again."""
    rig.scaler.most = 4
    with pytest.raises(FaultError, match="not added"):
        rig.faults.scale(6)
    assert (rig.scaler.count, rig.faults.active) == (3, [])
