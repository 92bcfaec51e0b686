"""The health of Redis nodes, by answers that the tests make up."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError

from cachesim.clock import Deadline
from cachesim.errors import NotReady
from cachesim.servers.admin import NodeClients
from cachesim.servers.redis_health import RedisHealth, cluster_nodes
from cachesim.topology import production

ONLINE = {"state": "online", "lag": 0}
PRIMARY = {"role": "master", "slave0": ONLINE, "slave1": ONLINE}
REPLICA = {"role": "slave", "master_link_status": "up"}
OK = {"cluster_state": "ok"}
SLOTS = [[0, 16383, ["", 1, "a"], ["", 2, "b"], ["", 3, "c"]]]


class Node:
    """A client and its pipeline at once, which gives made-up answers."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.answers: dict[str, Any] = {"CLUSTER INFO": OK, "CLUSTER SLOTS": SLOTS, "INFO": info}
        self._queued: list[Any] = []

    @contextmanager
    def pipeline(self, *, transaction: bool) -> Iterator["Node"]:
        """Queue what is asked for."""
        assert not transaction
        self._queued = []
        yield self

    def execute_command(self, command: str) -> Any:
        """Return the made-up answer."""
        answer = self.answers[command]
        if isinstance(answer, Exception):
            raise answer
        self._queued.append(answer)
        return answer

    def info(self, _section: str) -> Any:
        """Return the made-up INFO."""
        return self.execute_command("INFO")

    def execute(self) -> list[Any]:
        """Return what was queued."""
        return self._queued


class Shard:
    """Three nodes, of which the first is the primary."""

    def __init__(self) -> None:
        self.nodes = {"redis-a": Node(PRIMARY), "redis-b": Node(REPLICA), "redis-c": Node(REPLICA)}
        self.health = RedisHealth(production().shards[0], cast(NodeClients, self))

    def redis(self, node: str) -> Node:
        """See `NodeClients.redis`."""
        return self.nodes[node]


@pytest.fixture
def shard() -> Shard:
    """Return a healthy shard."""
    return Shard()


def test_healthy(shard: Shard) -> None:
    """A shard whose nodes are all healthy has no problem, and is not waited for."""
    assert shard.health.first_problem("redis-a") is None
    shard.health.wait_healthy("redis-a", Deadline(0))


@pytest.mark.parametrize(
    ("node", "command", "answer", "problem"),
    [
        ("redis-b", "CLUSTER INFO", {"cluster_state": "fail"}, "cluster_state is fail"),
        ("redis-b", "CLUSTER SLOTS", [], "CLUSTER SLOTS lists 0 of 3 nodes"),
        ("redis-c", "CLUSTER SLOTS", [[16384, *SLOTS[0][1:]]], "CLUSTER SLOTS lists 0 of 3 nodes"),
        ("redis-c", "CLUSTER SLOTS", [SLOTS[0][:4]], "CLUSTER SLOTS lists 2 of 3 nodes"),
        ("redis-b", "INFO", PRIMARY, "is not a replica"),
        (
            "redis-b",
            "INFO",
            {**REPLICA, "master_link_status": "down"},
            "its link to the primary is down",
        ),
        ("redis-a", "INFO", REPLICA, "is not the primary"),
        ("redis-a", "INFO", {"role": "master", "slave0": ONLINE}, "has 1 of 2 replicas online"),
        (
            "redis-a",
            "INFO",
            {**PRIMARY, "slave1": {"state": "online", "lag": 2}},
            "has 1 of 2 replicas online",
        ),
        (
            "redis-a",
            "INFO",
            {**PRIMARY, "slave1": {"state": "wait_bgsave", "lag": 0}},
            "has 1 of 2 replicas online",
        ),
        ("redis-c", "INFO", ConnectionError("refused"), "does not answer: refused"),
    ],
)
def test_problems(shard: Shard, node: str, command: str, answer: object, problem: str) -> None:
    """A problem is found, and the error at the deadline names its node."""
    shard.nodes[node].answers[command] = answer
    found = shard.health.first_problem("redis-a")
    assert found is not None
    assert (str(found), found.node) == (f"{node}: {problem}", node)
    with pytest.raises(NotReady, match=f"^{node}: {problem}$") as raised:
        shard.health.wait_healthy("redis-a", Deadline(0))
    assert raised.value.node == node


@pytest.mark.parametrize(
    ("connected", "problem"), [(2, None), (1, "has 1 of 2 replicas"), (0, "has 0 of 2 replicas")]
)
def test_connections(shard: Shard, connected: int, problem: str | None) -> None:
    """The connections of a primary's replicas are counted; a replica needs none."""
    for node in shard.nodes.values():
        node.answers["INFO"] = {"connected_slaves": connected}
    assert shard.health.connections("redis-a", "redis-a") == problem
    assert shard.health.connections("redis-b", "redis-a") is None


@pytest.mark.parametrize(
    ("flags", "slots", "state", "problem"),
    [
        ("myself,master", [["0", "16383"]], "ok", None),
        ("myself,slave", [], "ok", "redis-b: is not the primary"),
        ("myself,master", [], "ok", "redis-b: has no slots"),
        ("myself,master", [["0", "16383"]], "fail", "redis-b: cluster_state is fail"),
    ],
)
def test_writable(
    shard: Shard, flags: str, slots: list[Any], state: str, problem: str | None
) -> None:
    """A primary accepts writes if it is one, has slots and its state is ok."""
    known = {"2": {"flags": flags, "slots": slots}, "1": {"flags": "master", "slots": []}}
    shard.nodes["redis-b"].answers |= {
        "CLUSTER NODES": known,
        "CLUSTER INFO": {"cluster_state": state},
    }
    if problem is None:
        shard.health.wait_writable("redis-b", Deadline(0))
        return
    with pytest.raises(NotReady, match=f"^{problem}$"):
        shard.health.wait_writable("redis-b", Deadline(0))


def test_cluster_nodes(shard: Shard) -> None:
    """A node's report has itself and the others."""
    known = {id_: {"flags": flags} for id_, flags in {"1": "master", "2": "myself,slave"}.items()}
    shard.nodes["redis-b"].answers["CLUSTER NODES"] = known
    assert cluster_nodes(cast(Any, shard.nodes["redis-b"])) == (known["2"], [known["1"]])
