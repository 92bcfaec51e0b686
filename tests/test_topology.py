"""The production topology: names, homes and numbers."""

import dataclasses

import pytest

from cachesim.topology import (
    CLIENT,
    ENDPOINTS,
    GIB,
    Endpoint,
    Link,
    Node,
    Service,
    Shard,
    Topology,
    Zone,
    production,
)

TOPOLOGY = production()


def test_nodes() -> None:
    """Each of three zones has a Redis node and a Memcached node."""
    assert [zone.name for zone in TOPOLOGY.zones] == ["a", "b", "c"]
    assert [node.name for node in TOPOLOGY.nodes] == [
        "redis-a", "memcached-a", "redis-b", "memcached-b", "redis-c", "memcached-c",
    ]  # fmt: skip
    assert [node.name for node in TOPOLOGY.redis] == ["redis-a", "redis-b", "redis-c"]
    assert [node.name for node in TOPOLOGY.memcached] == [
        "memcached-a", "memcached-b", "memcached-c",
    ]  # fmt: skip


def test_primary() -> None:
    """The first zone has the primary at the start."""
    assert TOPOLOGY.shards[0].first_primary == "redis-a"


def test_shards() -> None:
    """There is one shard: it has all Redis nodes and all hash slots."""
    (shard,) = TOPOLOGY.shards
    assert str(shard) == shard.id == "0001"
    assert shard.nodes == TOPOLOGY.redis
    assert (shard.slots[0], shard.slots[-1], len(shard.slots)) == (0, 16383, 16384)


def test_several_shards() -> None:
    """With several shards, each has nodes of its own, and the Redis nodes are those of all."""
    first = TOPOLOGY.shards[0]
    nodes = tuple(Node(f"second-{z}", Service.REDIS, z, 1) for z in "abc")
    second = Shard("0002", nodes, range(8192, 16384), "second-b")
    topology = Topology(TOPOLOGY.zones, (first, second), TOPOLOGY.memcached)
    assert topology.redis == (*first.nodes, *second.nodes)
    assert [node.name for node in topology.nodes][:3] == ["redis-a", "second-a", "memcached-a"]
    assert topology.shard_of("redis-a") is first
    assert topology.shard_of("second-c") is second
    assert second.node_in("c") is nodes[2]
    assert {link.target for link in topology.links if link.service is Service.BUS} == {
        node.name for node in topology.redis
    }


@pytest.mark.parametrize("name", ["memcached-a", "redis-d"])
def test_no_shard(name: str) -> None:
    """Only Redis nodes are of a shard."""
    with pytest.raises(ValueError, match=f"^no Redis node '{name}': there are redis-a, redis-b, "):
        TOPOLOGY.shard_of(name)


@pytest.mark.parametrize("zone", ["b", "az-b"])
def test_node_in_a_zone(zone: str) -> None:
    """The node of a shard in a zone is found by the zone's name and by what it is shown as."""
    assert TOPOLOGY.shards[0].node_in(zone).name == "redis-b"


def test_no_node_in_a_zone() -> None:
    """An unknown zone is an error that lists the zones of the shard's nodes."""
    with pytest.raises(ValueError, match=r"^no zone 'd': there are a, b, c$"):
        TOPOLOGY.shards[0].node_in("d")


def test_links() -> None:
    """Clients have a link to each node, zones one to each node elsewhere, Redis's bus its own."""
    names = [link.name for link in TOPOLOGY.links]
    expected = [
        *(f"client-to-{service}-{zone}" for service in ("redis", "memcached") for zone in "abc"),
        *(
            f"{source}-to-{target}"
            for source in "abc"
            for zone in "abc"
            for target in (f"redis-{zone}", f"redis-{zone}-bus", f"memcached-{zone}")
            if source != zone
        ),
        *("client-to-endpoint-redis", "client-to-endpoint-memcached"),
    ]
    assert len(names) == 26
    assert sorted(names) == sorted(expected)


@pytest.mark.parametrize(
    ("service", "count"), [(Service.REDIS, 10), (Service.BUS, 6), (Service.MEMCACHED, 10)]
)
def test_links_of_a_service(service: Service, count: int) -> None:
    """Zones are linked to each other by Redis, its bus and Memcached; clients not by the bus."""
    links = [link for link in TOPOLOGY.links if link.service is service]
    assert len(links) == count
    assert any(link.source == CLIENT for link in links) is (service is not Service.BUS)


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("client-to-redis-a", "a"),
        ("client-to-memcached-c", "c"),
        ("b-to-redis-a", "b"),
        ("b-to-redis-a-bus", "b"),
        ("c-to-memcached-b", "c"),
        ("client-to-endpoint-redis", ENDPOINTS),
    ],
)
def test_home(name: str, home: str) -> None:
    """A link is at home where its source is; a client's link where its target is."""
    (link,) = [link for link in TOPOLOGY.links if link.name == name]
    assert link.home == home


def test_every_home_has_as_many_links() -> None:
    """The links are spread evenly over the zones' Toxiproxies."""
    homes = [link.home for link in TOPOLOGY.links]
    assert {zone.name: homes.count(zone.name) for zone in TOPOLOGY.zones} == dict.fromkeys("abc", 8)


def test_replication_links() -> None:
    """Replication runs from zone to zone over Redis's links, not over clients' or the bus."""
    links = {link.name for link in TOPOLOGY.links if link.is_replication}
    assert links == {f"{s}-to-redis-{t}" for s in "abc" for t in "abc" if s != t}


def test_joins() -> None:
    """A link joins two places in whichever direction it was named."""
    link = Link("b", "redis-a", Service.BUS, "a")
    assert link.joins("a", "b")
    assert link.joins("b", "a")
    assert not link.joins("b", "c")
    assert not link.joins(CLIENT, "a")


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.01])
def test_memory(scale: float) -> None:
    """Redis has production's 10 GB and Memcached its 12 GB, times the scale."""
    topology = production(scale)
    assert {node.max_memory for node in topology.redis} == {int(10 * GIB * scale)}
    assert {node.max_memory for node in topology.memcached} == {int(12 * GIB * scale)}


@pytest.mark.parametrize("name", ["b", "az-b"])
def test_zone(name: str) -> None:
    """A zone is found by its name and by what it is shown as."""
    zone = TOPOLOGY.zone(name)
    assert zone == Zone("b")
    assert str(zone) == "az-b"


def test_unknown_zone() -> None:
    """An unknown zone is an error that lists the zones there are."""
    with pytest.raises(ValueError, match=r"^no zone 'd': there are a, b, c$"):
        TOPOLOGY.zone("d")


def test_node() -> None:
    """A node is found by its name."""
    node = TOPOLOGY.node("memcached-b")
    assert (node.service, node.zone, str(node)) == (Service.MEMCACHED, "b", "memcached-b")


def test_unknown_node() -> None:
    """An unknown node is an error that lists the nodes there are."""
    with pytest.raises(ValueError, match=r"^no node 'redis-d': there are redis-a, memcached-a, "):
        TOPOLOGY.node("redis-d")


def test_same_node_with_other_memory() -> None:
    """Which node it is does not depend on how much memory it has."""
    assert Node("redis-a", Service.REDIS, "a", 1) == Node("redis-a", Service.REDIS, "a", 2)


def test_frozen() -> None:
    """Its parts are data: they can't be changed."""
    for data, field in ((TOPOLOGY.memcached[0], "zone"), (TOPOLOGY.shards[0], "first_primary")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(data, field, "redis-b")
    assert production() == TOPOLOGY
    assert isinstance(TOPOLOGY, Topology)


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        (Endpoint("127.0.0.1", 6379), "127.0.0.1:6379"),
        (Endpoint("cache.example", 1), "cache.example:1"),
        (Endpoint("::1", 6379), "[::1]:6379"),
    ],
)
def test_endpoint(endpoint: Endpoint, text: str) -> None:
    """An endpoint is shown as host and port, an IPv6 address in brackets."""
    assert str(endpoint) == text
