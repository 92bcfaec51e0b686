"""Reset and repair, over servers in memory."""

from types import SimpleNamespace
from typing import Self, cast

import pytest

from cachesim.clock import Deadline
from cachesim.control_plane.timing import Timing
from cachesim.daemon.operations import Operations
from cachesim.daemon.restoring import Restorer
from cachesim.errors import FaultError, NotReady
from cachesim.events import EventLog
from cachesim.faults.catalogue import Kill
from cachesim.faults.injector import Faults
from cachesim.faults.links import Links
from cachesim.faults.nodes import Nodes
from cachesim.settings import Settings
from cachesim.topology import production
from tests.control_plane.play import Play
from tests.fakes import Call, FakeBackend, FakeSizes, toxiproxies


class FakeCluster:
    """The Redis nodes as a cluster that gets well after some failures.

    Attributes:
        failures: what `converge` raises, one after the other.
        endless: nodes whose script does not end.
    """

    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls
        self.failures: list[NotReady] = []
        self.endless: set[str] = set()

    @property
    def health(self) -> Self:
        """See `Cluster.health`."""
        return self

    def problem(self, _node: str, _primary: str) -> str | None:
        """Healthy as long as there is no failure to come."""
        return "unhealthy" if self.failures or self.endless else None

    def end_script(self, node: str) -> bool:
        """See `Cluster.end_script`."""
        return node not in self.endless

    def converge(self, primary: str, _node_timeout_ms: int, _deadline: Deadline) -> None:
        """See `Cluster.converge`."""
        self._calls.append(("converge", primary))
        if self.failures:
            raise self.failures.pop(0)

    def form(self, primary: str, node_timeout_ms: int, _deadline: Deadline) -> None:
        """See `Cluster.form`."""
        self._calls.append(("form", primary, str(node_timeout_ms)))

    def flush(self, primary: str, _deadline: Deadline) -> None:
        """See `Cluster.flush`."""
        self._calls.append(("flush", primary))

    def find_primary(self) -> str:
        """See `Cluster.find_primary`."""
        return "redis-b"


class FakeMemcached:
    """A client of a Memcached node that answers."""

    def __init__(self, node: str, calls: list[Call]) -> None:
        self._node = node
        self._calls = calls

    def version(self) -> bytes:
        """Answer."""
        return b"1.6"

    def flush_all(self) -> None:
        """Empty it."""
        self._calls.append(("flush", self._node))

    def close(self) -> None:
        """Close it."""


class Rig:
    """A restorer; `did` has what it did to the nodes, without the links."""

    def __init__(self) -> None:
        topology = production()
        self._calls: list[Call] = []
        self.backend = FakeBackend(topology, self._calls)
        self.cluster = FakeCluster(self._calls)
        self.events = EventLog()
        servers = toxiproxies(topology, [])
        links = Links(topology, servers, self.events, lambda _node: False, lambda _zone: None)
        nodes = Nodes(topology, self.backend, links, self.events)
        self.faults = Faults(topology, links, nodes, FakeSizes({}), self.events, "7")
        self.plane = Play().plane
        memcached = {n.name: FakeMemcached(n.name, self._calls) for n in topology.memcached}
        settings = Settings(node_timeout_seconds=2)
        it = SimpleNamespace(
            provision=SimpleNamespace(name="t", settings=settings),
            settings=settings,
            seed=7,
            topology=topology,
            backend=self.backend,
            events=self.events,
            nodes=nodes,
            admin=SimpleNamespace(new_memcached=memcached.__getitem__),
            clusters={"0001": self.cluster},
            memcached=memcached,
            faults=self.faults,
            control_plane=self.plane,
        )
        self.restorer = Restorer(cast(Operations, it))

    def did(self) -> list[Call]:
        """Return what was done since the last call."""
        did = self._calls.copy()
        self._calls.clear()
        return did


FLUSHED = [("flush", node) for node in ("redis-a", "memcached-a", "memcached-b", "memcached-c")]


def test_reset_of_healthy_nodes() -> None:
    """Healthy nodes are flushed, and nothing else is done to them."""
    rig = Rig()
    rig.restorer.reset()
    assert rig.did() == FLUSHED
    assert [str(event.message) for event in rig.events.of("reset")] == ["healed and flushed"]


def test_reset_heals() -> None:
    """Faults are healed, and the nodes are up before they are looked at."""
    rig = Rig()
    rig.faults.apply([Kill(("redis-b",))])
    rig.did()
    rig.restorer.reset()
    assert rig.faults.active == []
    assert rig.did() == [("start_node", "redis-b"), *FLUSHED]


def test_reset_draws_anew() -> None:
    """Timing, seed and the name of the draws are as they were asked for; the settings' by default.

    The next reset has the settings' again.
    """
    rig = Rig()
    quick = Timing((1, 1), (1, 1), (1, 1), 15, speed=60)
    rig.restorer.reset("a test", timing=quick, seed=8)
    assert rig.plane.timing is quick
    rig.restorer.reset()
    assert rig.plane.timing == Timing.of(Settings(node_timeout_seconds=2))


def test_node_at_fault_is_replaced() -> None:
    """A node that stays unhealthy gets a new process."""
    rig = Rig()
    rig.cluster.failures = [NotReady("no answer", "redis-c")]
    rig.restorer.reset()
    assert rig.did() == [
        ("converge", "redis-a"),
        ("kill", "redis-c"),
        ("start_node", "redis-c"),
        ("converge", "redis-a"),
        *FLUSHED,
    ]
    assert [event.source for event in rig.events.of("replaced")] == ["redis-c"]


def test_redis_begins_anew() -> None:
    """If a new process does not help, all Redis nodes begin anew with empty disks."""
    rig = Rig()
    rig.cluster.failures = [NotReady("no answer", "redis-c")] * 2
    rig.restorer.reset()
    did = rig.did()
    assert ("renew_redis",) in did
    assert did[did.index(("renew_redis",)) + 4 :] == [
        ("form", "redis-a", "2000"),
        ("converge", "redis-a"),
        *FLUSHED,
    ]
    assert [event.source for event in rig.events.of("replaced")] == ["redis-c", "t"]


def test_memcached_at_fault() -> None:
    """A Memcached node is replaced both times, and the Redis nodes keep their data."""
    rig = Rig()
    rig.cluster.failures = [NotReady("no answer", "memcached-b")] * 2
    rig.restorer.reset()
    did = rig.did()
    assert did.count(("kill", "memcached-b")) == 2
    assert ("renew_redis",) not in did


def test_script_that_does_not_end() -> None:
    """A node whose script can't be ended is replaced at once."""
    rig = Rig()
    rig.cluster.endless = {"redis-b"}
    rig.restorer.reset()
    assert rig.did()[:3] == [
        ("kill", "redis-b"),
        ("start_node", "redis-b"),
        ("converge", "redis-a"),
    ]


def test_reset_that_fails() -> None:
    """If nothing helps, the error names the node and has its log."""
    rig = Rig()
    rig.cluster.failures = [NotReady("no answer", "redis-c")] * 3
    with pytest.raises(FaultError, match=r"(?s)the reset failed: no answer.*lines of redis-c"):
        rig.restorer.reset()
    assert rig.events.of("reset") == []


def test_make_healthy() -> None:
    """Nodes that do not run are started, faults are healed; the data and the primary stay."""
    rig = Rig()
    rig.faults.apply([Kill(("redis-a",))])
    rig.did()
    assert rig.restorer.make_healthy() == ["redis-b"]
    assert rig.did() == [("start_node", "redis-a")]
    assert rig.faults.active == []
