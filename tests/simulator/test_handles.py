"""Handles, over servers in memory, by calls that go through JSON."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cachesim.control_plane.plane import ControlPlane
from cachesim.control_plane.states import State
from cachesim.control_plane.timing import Timing
from cachesim.daemon.operations import Operations
from cachesim.daemon.service import Answers
from cachesim.errors import FailoverTimeout, UnknownName
from cachesim.events import EventLog
from cachesim.faults.links import Links
from cachesim.faults.nodes import Nodes
from cachesim.simulator.connection import Connection
from cachesim.simulator.faults import Faults
from cachesim.simulator.handles import LinkHandles, Means, handles_of
from cachesim.topology import Endpoint, Node, Role, Service, Shard, Topology, Zone, production
from tests.fakes import FakeBackend, FakeCaller, toxiproxies
from tests.faults.rig import InProcess

TWO_SHARDS = Topology(
    tuple(Zone(zone) for zone in "ab"),
    tuple(
        Shard(
            id_,
            tuple(Node(f"redis-{id_}-{zone}", Service.REDIS, zone, 1) for zone in "ab"),
            slots,
            f"redis-{id_}-a",
        )
        for id_, slots in (("0001", range(8192)), ("0002", range(8192, 16384)))
    ),
    (),
)


class Rig:
    """Servers in memory, and a control plane that is told what to say."""

    def __init__(self, topology: Topology) -> None:
        self.events = EventLog()
        backend = FakeBackend(topology, [])
        servers = toxiproxies(topology, [])
        links = Links(topology, servers, self.events, lambda _node: False, lambda _zone: None)
        self.nodes = Nodes(topology, backend, links, self.events)
        # What the control plane tells of each shard.
        self.told: dict[str, Any] = {
            shard.id: SimpleNamespace(
                id=shard.id,
                primary=shard.first_primary,
                failovers=0,
                reported=0,
                state=State.AVAILABLE,
            )
            for shard in topology.shards
        }
        plane = SimpleNamespace(shards=self.told, timing=Timing((0, 0), (0, 0), (0, 0), 15))
        plane.shard = lambda id_=None: ControlPlane.shard(cast(ControlPlane, plane), id_)
        operations = SimpleNamespace(
            provision=SimpleNamespace(
                name="t", files=SimpleNamespace(save_holder=None), nodes=topology.nodes
            ),
            topology=topology,
            backend=backend,
            clusters={},
            memcached={},
            asking_memcached=nullcontext(),
            events=self.events,
            nodes=self.nodes,
            links=links,
            control_plane=plane,
        )
        life = SimpleNamespace(requested=False)
        answers = Answers(cast(Operations, operations), cast(Any, life))
        calls = InProcess(answers, FakeCaller())
        connection = cast(Connection, SimpleNamespace(call=calls.call, wait=calls.wait))
        faults = Faults(topology, calls)
        endpoints = {node.name: Endpoint(node.name, 1) for node in topology.nodes}
        self.handles = handles_of(Means(topology, connection, faults, endpoints, {}))
        self.shards = self.handles.shards

    def fail_over(self, shard: str, to: str) -> None:
        """Let the control plane have completed a failover."""
        self.told[shard].primary = to
        self.told[shard].failovers += 1
        self.events.record("failover", to, "made up")


# --- shards ---------------------------------------------------------------------------------


def test_nodes_of_a_shard() -> None:
    """Primary and replicas are as the control plane says; a zone gives a node."""
    rig = Rig(production())
    (shard,) = rig.shards
    rig.told[shard.id].primary = "redis-b"
    assert shard.primary.name == "redis-b"
    assert [node.name for node in shard.replicas] == ["redis-a", "redis-c"]
    assert [node.name for node in shard] == ["redis-a", "redis-b", "redis-c"]
    assert shard["c"].role is Role.REPLICA
    assert shard.state is State.AVAILABLE


def test_each_shard_has_its_own_nodes() -> None:
    """Of two shards each has its own primary, replicas and nodes by zone."""
    one, other = Rig(TWO_SHARDS).shards
    assert (one.id, other.id) == ("0001", "0002")
    assert (one.primary.name, other.primary.name) == ("redis-0001-a", "redis-0002-a")
    assert [node.name for node in other.replicas] == ["redis-0002-b"]
    assert other["b"].name == "redis-0002-b"
    assert other["a"].role is Role.PRIMARY


def test_failover_of_another_shard() -> None:
    """A failover of one shard is none of the other."""
    rig = Rig(TWO_SHARDS)
    one, other = rig.shards
    rig.fail_over("0002", "redis-0002-b")
    assert other.wait_for_failover(0).name == "redis-0002-b"
    with pytest.raises(FailoverTimeout, match="the shard is available, its primary redis-0001-a"):
        one.wait_for_failover(0)


def test_failover_is_returned_once() -> None:
    """A failover that was returned is not waited for again, until all begins anew."""
    rig = Rig(production())
    (shard,) = rig.shards
    rig.fail_over(shard.id, "redis-b")
    assert shard.wait_for_failover(0).name == "redis-b"
    with pytest.raises(FailoverTimeout):
        shard.wait_for_failover(0)
    rig.told[shard.id].failovers = rig.told[shard.id].reported = 0
    rig.fail_over(shard.id, "redis-c")
    assert shard.wait_for_failover(0).name == "redis-c"


def test_failover_to_a_node_that_died() -> None:
    """A new primary that was killed meanwhile is not returned."""
    rig = Rig(production())
    (shard,) = rig.shards
    rig.fail_over(shard.id, "redis-b")
    rig.nodes.kill("test", ["redis-b"])
    with pytest.raises(FailoverTimeout):
        shard.wait_for_failover(0)


def test_timeout_that_is_no_time() -> None:
    """A timeout below 0 is refused."""
    with pytest.raises(ValueError, match="timeout must be from 0"):
        Rig(production()).shards[0].wait_for_failover(-1)


# --- links ----------------------------------------------------------------------------------


@pytest.fixture
def links() -> LinkHandles:
    """The links of the production topology."""
    return Rig(production()).handles.links


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (("client", "redis-a"), "client-to-redis-a"),
        (("b", "memcached-a"), "b-to-memcached-a"),
        (("b", "redis-a", "bus"), "b-to-redis-a-bus"),
        (("b", "redis-a", Service.REDIS), "b-to-redis-a"),
        ("b-to-redis-a-bus", "b-to-redis-a-bus"),
    ],
)
def test_link(links: LinkHandles, key: tuple[str, ...] | str, name: str) -> None:
    """A link is found by source, target and service, its node's own by default; or by its name."""
    assert links[key].name == name


@pytest.mark.parametrize("key", [("client", "redis-d"), ("a", "redis-a"), ("x", "y", "bus")])
def test_unknown_link(links: LinkHandles, key: tuple[str, ...]) -> None:
    """An unknown link is an error that names the known ones."""
    with pytest.raises(KeyError, match=r"no link \('.*there are \('client', 'redis-a', 'redis'\)"):
        links[key]


def test_unknown_name_of_a_link(links: LinkHandles) -> None:
    """An unknown name is an error that has the nearest one."""
    with pytest.raises(KeyError, match=r"no link 'client-to-redis-d': .* mean client-to-redis-"):
        links["client-to-redis-d"]


def test_parts_by_name() -> None:
    """Nodes and zones are found by name; an unknown one is an error with those that there are."""
    rig = Rig(production())
    handles, (shard,) = rig.handles, rig.shards
    assert handles.zones["az-b"] is handles.zones["b"]
    assert handles.memcached["az-b"] is handles.nodes["memcached-b"]
    assert shard["az-b"] is handles.nodes["redis-b"]
    for parts in (handles.zones, handles.memcached, shard):
        with pytest.raises(KeyError, match=r"^no zone 'd': there are a, b, c"):
            parts["d"]
    with pytest.raises(UnknownName, match=r"no node 'redis-d': .* Did you mean redis-"):
        handles.nodes["redis-d"]


def test_node_without_a_service() -> None:
    """A node's name need not begin with its service."""
    node = Node("cache-1", Service.MEMCACHED, "a", 1)
    topology = Topology((Zone("a"),), (), (node,))
    links = Rig(topology).handles.links
    assert links["client", "cache-1"].link.service is Service.MEMCACHED


def test_links_where(links: LinkHandles) -> None:
    """A condition on links chooses those that faults take."""
    found = links.where(lambda link: link.source == "b" and link.target == "redis-a")
    assert [link.name for link in found] == ["b-to-redis-a", "b-to-redis-a-bus"]
