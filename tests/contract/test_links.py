"""Nothing walks around the proxies, from wherever one looks."""

import contextlib
import re
import socket
from collections.abc import Iterator

import pytest
import redis.exceptions

from cachesim import Simulator
from cachesim.topology import CLIENT, Endpoint, Link
from tests.contract.helpers import node_client, raw_tls, seen_from, through_link

GONE = redis.exceptions.ConnectionError
VANTAGES = (CLIENT, "a", "b", "c")


@contextlib.contextmanager
def at(sim: Simulator, vantage: str, port: int) -> Iterator[Endpoint]:
    """`127.0.0.1:port` as somebody at a vantage point has it."""
    if vantage == CLIENT:
        yield Endpoint("127.0.0.1", port)
    else:
        with seen_from(sim, vantage, port) as endpoint:
            yield endpoint


def link_to(sim: Simulator, vantage: str, node: str) -> Link:
    """The link that somebody at a vantage point uses to a node."""
    source = CLIENT if vantage == sim.nodes[node].zone else vantage
    return sim.links[source, node].link


def told_ports(sim: Simulator, endpoint: Endpoint) -> set[tuple[str, int]]:
    """Every client address that CLUSTER SLOTS, SHARDS and NODES tell there."""
    client = node_client(sim, endpoint, ssl_check_hostname=False)
    told: set[tuple[str, int]] = set()
    for _first, _last, *nodes in client.execute_command("CLUSTER", "SLOTS"):
        told |= {(node[0], int(node[1])) for node in nodes}
    for shard in client.execute_command("CLUSTER", "SHARDS"):
        fields = dict(zip(shard[::2], shard[1::2], strict=True))
        for node in fields["nodes"]:
            said = dict(zip(node[::2], node[1::2], strict=True))
            told |= {(said[key], int(said["tls-port"])) for key in ("ip", "endpoint")}
    for line in str(client.execute_command("CLUSTER", "NODES", NEVER_DECODE=False)).splitlines():
        if found := re.search(r"(127\.\d+\.\d+\.\d+):(\d+)@", line):
            told.add((found[1], int(found[2])))
    client.close()
    return told


@pytest.mark.parametrize("vantage", VANTAGES)
def test_addresses_are_the_links(sim: Simulator, vantage: str) -> None:
    """Every address that a node tells is a node's one address; it crosses the link from there."""
    expected = {("127.0.0.1", node.endpoint.port) for node in sim.redis}
    for teller in sim.redis:
        with at(sim, vantage, teller.endpoint.port) as endpoint:
            assert told_ports(sim, endpoint) == expected
    for node in sim.redis:
        with at(sim, vantage, node.endpoint.port) as endpoint:
            client = node_client(sim, endpoint, ssl_check_hostname=False)
            assert client.ping()
            with sim.faults.refuse(link_to(sim, vantage, node.name)), pytest.raises(GONE):
                client.ping()
            client.close()


@pytest.mark.core
def test_each_link_is_its_own(sim: Simulator) -> None:
    """Refusing one link leaves the same address alone as others see it."""
    port = sim.nodes["redis-a"].endpoint.port
    with (
        at(sim, "b", port) as from_b,
        at(sim, "c", port) as from_c,
        sim.links["b", "redis-a"].refuse(),
    ):
        assert node_client(sim, from_c, ssl_check_hostname=False).ping()
        assert through_link(sim, "redis-a").ping()
        with pytest.raises(GONE):
            node_client(sim, from_b, ssl_check_hostname=False).ping()


def test_topology_has_all_links(sim: Simulator) -> None:
    """24 links of nodes and 2 of endpoints, all there, enabled and without toxics."""
    assert len(sim.links) == 24 + 2
    for link in sim.links.values():
        assert link.enabled
        assert link.toxics == []
    assert sim.links["b", "redis-a", "bus"].name == "b-to-redis-a-bus"


def test_toxiproxy_python(sim: Simulator) -> None:
    """toxiproxy-python drives each zone's proxies, several zones side by side; reset undoes it."""
    a, b = sim.toxiproxy("a"), sim.toxiproxy("b")
    assert {p for p in a.proxies() if p.startswith("client")} == {
        "client-to-redis-a",
        "client-to-memcached-a",
    }
    a.get_proxy("client-to-redis-a").add_toxic(
        name="mine", type="latency", attributes={"latency": 50}
    )
    b.get_proxy("client-to-redis-b").disable()
    assert [toxic["name"] for toxic in sim.links["client", "redis-a"].toxics] == ["mine"]
    assert not sim.links["client", "redis-b"].enabled
    sim.reset()
    assert sim.links["client", "redis-a"].toxics == []
    assert sim.links["client", "redis-b"].enabled


def test_listeners_are_on_loopback(sim: Simulator) -> None:
    """No port that is published on this machine answers on another of its addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: asks for the address it would use
        own = probe.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    for node in sim.nodes.values():
        with pytest.raises(OSError, match=r"refused|timed out|unreachable"):
            socket.create_connection((own, node.endpoint.port), timeout=1)


def test_tls_ends_at_the_node(sim: Simulator) -> None:
    """Each node shows a certificate of its own, whichever link one comes over."""
    for node in sim.nodes.values():
        with raw_tls(sim, node.endpoint) as connection:
            certificate = connection.getpeercert()
            assert certificate is not None
            assert ((("commonName", node.name),),)[0] in certificate["subject"]
