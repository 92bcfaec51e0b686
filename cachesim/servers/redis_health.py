"""The health of a shard's Redis nodes, as they report it themselves, and waiting for it."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from cachesim.clock import Deadline
from cachesim.errors import NotReady
from cachesim.servers.admin import NodeClients, errors
from cachesim.topology import Shard

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

POLL = 0.005
"""Seconds between two checks while waiting."""

Problem = str | None
"""A problem of a node, to be shown after its name; None if there is none."""


class RedisHealth:
    """The health of the nodes of one shard.

    A node is healthy if its `cluster_state` is ok, it lists the primary with all replicas, every
    replica is online without a lag, and it is not fenced.
    """

    def __init__(self, shard: Shard, admin: NodeClients) -> None:
        self._nodes = [node.name for node in shard.nodes]
        self._slots = shard.slots
        self._admin = admin

    # --- one node ---------------------------------------------------------------------------

    def problem(self, node: str, primary: str) -> Problem:
        """Return what keeps a node from being healthy under that primary.

        Raises:
            Exception: one of `admin.errors`; the node does not answer.
        """
        with self._admin.redis(node).pipeline(transaction=False) as pipeline:
            self.ask(pipeline)
            return self.problem_in(node, primary, *pipeline.execute())

    def ask(self, pipeline: "Pipeline") -> None:
        """Add the three commands whose answers `problem_in` takes to a request."""
        pipeline.execute_command("CLUSTER INFO")
        pipeline.execute_command("CLUSTER SLOTS")
        pipeline.info("replication")

    def problem_in(
        self,
        node: str,
        primary: str,
        cluster: dict[str, str],
        slots: list[Any],
        info: dict[str, Any],
    ) -> Problem:
        """Return what keeps a node that gave these answers from being healthy under a primary."""
        return (
            _state_in(cluster)
            or self._slots_in(slots)
            or self._replication_in(info, is_primary=node == primary)
            or _fence_in(info)
        )

    def state(self, node: str) -> Problem:
        """Return a problem if `cluster_state` is not ok."""
        return _state_in(self._admin.redis(node).execute_command("CLUSTER INFO"))

    def slots(self, node: str) -> Problem:
        """Return a problem if CLUSTER SLOTS does not list all nodes."""
        return self._slots_in(self._admin.redis(node).execute_command("CLUSTER SLOTS"))

    def connections(self, node: str, primary: str) -> Problem:
        """Return a problem if the primary lacks replicas."""
        if node != primary:
            return None
        connected = self._admin.redis(node).info("replication")["connected_slaves"]
        if connected == len(self._nodes) - 1:
            return None
        return f"has {connected} of {len(self._nodes) - 1} replicas"

    def replication(self, node: str, primary: str) -> Problem:
        """Return a problem if a node's replication under that primary is not ok."""
        info: dict[str, Any] = self._admin.redis(node).info("replication")
        return self._replication_in(info, is_primary=node == primary)

    def unrest(self, node: str) -> Problem:
        """Return what keeps a node from following a takeover at once.

        A node can hear that the old primary follows the new one before it hears that the new one
        took over. In its table each is then the other's replica, and Valkey 8.1 loops for ever
        in the walk from a node to its primary. A busy node may hear the two in any order. Waiting
        until it is idle makes that rare (2 of 220 starts), but does not rule it out.
        """
        client = self._admin.redis(node)
        role, *details = client.role()
        if role == "slave" and details[2] not in ("connect", "connected"):
            return f"is connecting to its primary: {details[2]}"
        persistence: dict[str, Any] = client.info("persistence")
        if persistence["aof_rewrite_in_progress"] or persistence["aof_rewrite_scheduled"]:
            return "is rewriting its append-only file"
        return None

    def _slots_in(self, slots: list[Any]) -> Problem:
        # [[first slot, last slot, primary, replica, replica], ...]
        listed = next((len(entry) - 2 for entry in slots if entry[0] in self._slots), 0)
        if listed == len(self._nodes):
            return None
        return f"CLUSTER SLOTS lists {listed} of {len(self._nodes)} nodes"

    def _replication_in(self, info: dict[str, Any], *, is_primary: bool) -> Problem:
        if not is_primary:
            if info["role"] != "slave":
                return "is not a replica"
            status = info["master_link_status"]
            return None if status == "up" else f"its link to the primary is {status}"
        if info["role"] != "master":
            return "is not the primary"
        replicas = [v for k, v in info.items() if k.startswith("slave") and isinstance(v, dict)]
        online = [r for r in replicas if r["state"] == "online" and r["lag"] <= 1]
        if len(online) < len(self._nodes) - 1:
            return f"has {len(online)} of {len(self._nodes) - 1} replicas online"
        return None

    # --- waiting ----------------------------------------------------------------------------

    def first_problem(self, primary: str) -> NotReady | None:
        """Return the first problem that a node has, as an error, or None if all are healthy."""
        return first_error(self._nodes, lambda node: self.problem(node, primary))

    def wait(self, node: str, problem: Callable[[], Problem], deadline: Deadline) -> None:
        """Wait until a node answers without that problem.

        Raises:
            NotReady: it had the problem at the deadline, or did not answer.
        """
        while (reason := _problem_or_error(problem)) is not None:
            if deadline.expired:
                raise NotReady(f"{node}: {reason}", node)
            time.sleep(POLL)

    def wait_healthy(self, primary: str, deadline: Deadline) -> None:
        """Wait until every node is healthy.

        Raises:
            NotReady: one was not at the deadline.
        """
        for node in self._nodes:
            self.wait(node, partial(self.problem, node, primary), deadline)

    def wait_writable(self, primary: str, deadline: Deadline) -> None:
        """Wait until a primary accepts writes.

        Raises:
            NotReady: it did not at the deadline.
        """

        def problem() -> Problem:
            me, _ = cluster_nodes(self._admin.redis(primary))
            if "master" not in me["flags"]:
                return "is not the primary"
            # One that took over from a node without slots would redirect all clients.
            return self.state(primary) if me["slots"] else "has no slots"

        self.wait(primary, problem, deadline)


def first_error(nodes: Iterable[str], problem: Callable[[str], Problem]) -> NotReady | None:
    """Return the first problem that one of the nodes has, as an error; None: none has any."""
    for node in nodes:
        if (found := _problem_or_error(partial(problem, node))) is not None:
            return NotReady(f"{node}: {found}", node)
    return None


def cluster_nodes(client: "Redis") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a node's own entry in CLUSTER NODES, and the entries of the others."""
    reported = client.execute_command("CLUSTER NODES").values()
    me = next(other for other in reported if "myself" in other["flags"])
    return me, [other for other in reported if other is not me]


def _state_in(cluster: dict[str, str]) -> Problem:
    state = cluster["cluster_state"]
    return None if state == "ok" else f"cluster_state is {state}"


def _fence_in(replication: dict[str, Any]) -> Problem:
    # The field is there while `min-replicas-to-write` is not 0.
    return "is fenced" if "min_slaves_good_slaves" in replication else None


def _problem_or_error(problem: Callable[[], Problem]) -> Problem:
    try:
        return problem()
    except errors() as error:
        return f"does not answer: {error}"
