"""The actions on a shard, over clients that the tests make up."""

from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError, ResponseError

from cachesim.clock import Deadline
from cachesim.control_plane.actions import Branch
from cachesim.control_plane.redis_shard import RedisShard
from cachesim.errors import FaultError, NotReady
from cachesim.servers.admin import NodeClients
from cachesim.servers.redis_cluster import Cluster

INFO = {
    "role": "master",
    "master_repl_offset": 1250,
    "master_replid": "own",
    "master_replid2": "shared",
    "second_repl_offset": 1001,
}
LOG = """
* Trying a partial resynchronization (request shared:991).
* Trying a partial resynchronization (request shared:1251).
* Trying a partial resynchronization (request another:2001).
"""


class Nodes:
    """The client of any node, its cluster, and the cluster's health at once.

    Attributes:
        calls: what was done.
        error: what every call to a node raises, if anything.
        is_informed: whether a node knows which one has the slots.
        takes_writes: whether a node that took over accepts writes.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.reported = dict(INFO)
        self.error: Exception | None = None
        self.is_informed = True
        self.takes_writes = True
        self.health = self
        self.shard = RedisShard(
            cast(NodeClients, self), cast(Cluster, self), lambda node, _lines: f"{node}{LOG}"
        )

    def redis(self, _node: str) -> "Nodes":
        """See `NodeClients.redis`."""
        return self

    def config_set(self, name: str, value: int) -> None:
        """See redis-py's `Redis`."""
        self._do("config_set", name, value)

    def info(self, _section: str) -> dict[str, Any]:
        """See redis-py's `Redis`."""
        self._do("info")
        return self.reported

    def knows_owner(self, node: str) -> bool:
        """See `Cluster.knows_owner`."""
        self._do("knows_owner", node)
        return self.is_informed

    def take_over(self, node: str) -> None:
        """See `Cluster.take_over`."""
        self._do("take_over", node)

    def wait_writable(self, node: str, _deadline: Deadline) -> None:
        """See `RedisHealth.wait_writable`."""
        self._do("wait_writable", node)
        if not self.takes_writes:
            raise NotReady(f"{node}: has no slots", node)

    def follows(self, node: str, primary: str, timeout: float) -> bool:
        """See `Cluster.follows`."""
        self._do("follows", node, primary, timeout)
        return True

    def _do(self, *call: object) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append(call)


@pytest.fixture
def nodes() -> Nodes:
    """Return nodes that answer."""
    return Nodes()


UNREACHABLE = [ConnectionError("refused"), ResponseError("LOADING"), OSError("reset")]


@pytest.mark.parametrize(("role", "offset"), [("master", 1250), ("slave", None)])
def test_fence(nodes: Nodes, role: str, offset: int | None) -> None:
    """A fenced primary refuses writes before its offset is read; a replica has none."""
    nodes.reported["role"] = role
    assert nodes.shard.fence("redis-a") == offset
    assert nodes.calls == [("config_set", "min-replicas-to-write", 1000), ("info",)]


def test_unfence(nodes: Nodes) -> None:
    """A node that is unfenced needs no replicas to accept writes."""
    nodes.shard.unfence("redis-a")
    assert nodes.calls == [("config_set", "min-replicas-to-write", 0)]


def test_promote(nodes: Nodes) -> None:
    """A replica takes over without a fence, and its branch is read when it accepts writes."""
    assert nodes.shard.promote("redis-b") == Branch("shared", 1000, "own")
    assert nodes.calls == [
        ("knows_owner", "redis-b"),
        ("config_set", "min-replicas-to-write", 0),
        ("take_over", "redis-b"),
        ("wait_writable", "redis-b"),
        ("info",),
    ]


def test_promote_without_slots(nodes: Nodes) -> None:
    """A replica that has not heard of the node with the slots does not take over: it has none."""
    nodes.is_informed = False
    with pytest.raises(FaultError, match="redis-b: knows no node that has the slots"):
        nodes.shard.promote("redis-b")
    assert nodes.calls == [("knows_owner", "redis-b")]


def test_promote_to_no_primary(nodes: Nodes) -> None:
    """A replica that does not accept writes after its takeover was not promoted."""
    nodes.takes_writes = False
    with pytest.raises(FaultError, match="redis-b: has no slots"):
        nodes.shard.promote("redis-b")


@pytest.mark.parametrize(("history", "offset"), [("shared", 1250), ("another", 2000), ("no", None)])
def test_psync_offset(nodes: Nodes, history: str, offset: int | None) -> None:
    """The offset is the highest that the log has of that history, less the byte asked for."""
    assert nodes.shard.psync_offset("redis-a", history) == offset


def test_in_sync(nodes: Nodes) -> None:
    """Whether a replica is in sync is asked of the cluster, which does not take long to answer."""
    assert nodes.shard.in_sync("redis-b", "redis-a")
    assert nodes.calls == [("follows", "redis-b", "redis-a", 1.0)]


@pytest.mark.parametrize("error", UNREACHABLE, ids=str)
def test_unreachable(nodes: Nodes, error: Exception) -> None:
    """A node that does not answer is not fenced and not in sync; the rest is an error."""
    nodes.error = error
    assert nodes.shard.fence("redis-a") is None
    assert not nodes.shard.in_sync("redis-b", "redis-a")
    for action in (nodes.shard.unfence, nodes.shard.branch, nodes.shard.promote):
        with pytest.raises(FaultError, match=str(error)):
            action("redis-a")
