"""Forms a shard's Redis cluster, brings it back to health, and promotes its nodes."""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from cachesim.clock import Deadline
from cachesim.errors import NotReady
from cachesim.servers.admin import NodeClients, errors
from cachesim.servers.redis_health import (
    POLL,
    Problem,
    RedisHealth,
    cluster_nodes,
    first_error,
)
from cachesim.topology import Shard

PLACEHOLDER_PRIMARY = "0" * 40
"""The id of the node that the primary of a new cluster takes over from; see `redis_config`."""

_FORMING_NODE_TIMEOUT_MS = 200  # while a cluster forms: it sets how frequent gossip is
_UNTIL_BUSY = 7.0  # seconds: a script keeps its node from answering for 5 s
_PATIENCE = 0.5  # seconds for a step to take effect before the next one


class Cluster:
    """The nodes of one shard, at their admin addresses.

    Attributes:
        health: their health.
        is_hurried: whether nodes may still have the short `cluster-node-timeout` with which they
            get well sooner, as it was to no avail.
    """

    def __init__(self, shard: Shard, admin: NodeClients) -> None:
        self._admin = admin
        self._nodes = [node.name for node in shard.nodes]
        self._slots = shard.slots
        self.health = RedisHealth(shard, admin)
        self.is_hurried = False

    # --- forming ----------------------------------------------------------------------------

    def form(self, primary: str, node_timeout_ms: int, deadline: Deadline) -> None:
        """Make one healthy cluster of servers that were started with their `nodes.conf`.

        `cachesim.servers.redis_config` has the steps and the reasons for them.

        Raises:
            NotReady: a node was not ready at the deadline.
        """
        wait = self.health.wait
        wait(primary, partial(self._take_over_from_placeholder, primary), deadline)
        self.health.wait_writable(primary, deadline)
        for node in self._nodes:
            wait(node, partial(self._prepare, node), deadline)
        # As early as it has an effect: the gossip about the offset takes longest.
        self._wait_healed(primary, self.health.connections, deadline)
        self._give_an_offset(primary)
        self._wait_healed(primary, self.health.replication, deadline)
        for node in self._nodes:
            wait(node, partial(self._forget_placeholder, node), deadline)
        self._wait_healed(primary, self.health.problem, deadline)
        self.set_node_timeout(node_timeout_ms)

    def _take_over_from_placeholder(self, primary: str) -> Problem:
        self.take_over(primary)
        return None

    def _prepare(self, node: str) -> Problem:
        client = self._admin.redis(node)
        self.is_hurried = True
        client.config_set("cluster-node-timeout", _FORMING_NODE_TIMEOUT_MS)
        client.config_set("min-replicas-to-write", 0)
        client.client_unpause()
        return None

    def _wait_healed(
        self, primary: str, problem: Callable[[str, str], Problem], deadline: Deadline
    ) -> None:
        """Wait until no node has that problem. Meanwhile, make all replicas follow the primary.

        A node has two connections to each other node. A message sent over one before the takeover
        may arrive after a message sent over the other: then the node follows the placeholder again,
        for good.
        """

        def reason(node: str) -> Problem:
            found = problem(node, primary)
            if found:
                self._redirect_replicas(primary)
            return found

        for node in self._nodes:
            self.health.wait(node, partial(reason, node), deadline)

    def _redirect_replicas(self, primary: str) -> None:
        """Tell the replicas that follow another node to follow the primary."""
        slots = self._admin.redis(primary).execute_command("CLUSTER SLOTS")
        owner = next((entry[2] for entry in slots if entry[0] in self._slots), None)
        if owner is None:
            return
        _, port, id_ = owner[:3]
        for node in self._nodes:
            with contextlib.suppress(*errors()):
                client = self._admin.redis(node)
                role, *details = client.role()
                if role == "slave" and int(details[1]) != int(port):
                    client.execute_command("CLUSTER REPLICATE", id_)

    def _forget_placeholder(self, node: str) -> Problem:
        """Tell a node to forget the placeholder, unless another node has told it so already."""
        client = self._admin.redis(node)
        known = int(client.execute_command("CLUSTER INFO")["cluster_known_nodes"])
        if known == len(self._nodes):
            return None
        client.execute_command("CLUSTER FORGET", PLACEHOLDER_PRIMARY)
        return "knows a node that does not exist"

    def _give_an_offset(self, primary: str) -> None:
        # Redis 7.0 leaves replicas at offset 0 out of CLUSTER SLOTS for 11 s.
        client = self._admin.redis(primary)
        client.set("cachesim", 1)
        client.delete("cachesim")

    def set_node_timeout(self, milliseconds: int) -> None:
        """Set `cluster-node-timeout` on all nodes."""
        for node in self._nodes:
            self._admin.redis(node).config_set("cluster-node-timeout", milliseconds)
        self.is_hurried = False

    # --- looking and promoting --------------------------------------------------------------

    def follows(self, node: str, primary: str, timeout: float) -> bool:
        """Return whether a node is a replica that has caught up with the primary.

        Args:
            timeout: seconds for the answer of each.
        """
        offset = self._admin.redis(primary, timeout).info("replication")["master_repl_offset"]
        info = self._admin.redis(node, timeout).info("replication")
        if info["role"] != "slave" or info["master_link_status"] != "up":
            return False
        return bool(info["slave_repl_offset"] >= offset)

    def find_primary(self) -> str:
        """Return the name of the primary, as the nodes report it: the one with most replicas."""

        def followers(node: str) -> int:
            try:
                info = self._admin.redis(node).info("replication")
            except errors():
                return -1
            return int(info["connected_slaves"]) if info["role"] == "master" else -1

        return max(self._nodes, key=followers)

    def take_over(self, node: str) -> None:
        """Make a replica the primary, without an election; one that is a primary already stays so.

        It takes over the slots of the node that it follows. If another node has the slots, it
        follows that node first.
        """
        client = self._admin.redis(node)
        me, others = cluster_nodes(client)
        # Not by ROLE, which is `master` for the first moments of any node.
        if "slave" not in me["flags"]:
            return
        owner = next((other for other in others if self._serves(other)), None)
        if owner is not None and owner["node_id"] != me["master_id"]:
            client.execute_command("CLUSTER REPLICATE", owner["node_id"])
        client.execute_command("CLUSTER FAILOVER", "TAKEOVER")

    def knows_owner(self, node: str) -> bool:
        """Return whether a node knows of one that has the slots, be it itself.

        A replica whose primary was succeeded does not, until it has heard of the successor: it
        would take over nothing, and stay a primary without slots.
        """
        me, others = cluster_nodes(self._admin.redis(node))
        return any(self._serves(it) for it in (me, *others))

    def _serves(self, node: dict[str, Any]) -> bool:
        """Return whether a node of CLUSTER NODES has slots of this shard."""
        return any(int(first) in self._slots for first, *_ in node["slots"])

    # --- back to health ---------------------------------------------------------------------

    def converge(self, primary: str, node_timeout_ms: int, deadline: Deadline) -> None:
        """Make a cluster healthy under that primary, whatever its state. All servers must run.

        Raises:
            NotReady: it was not healthy at the deadline.
        """
        for node in self._nodes:
            self.health.wait(node, partial(self._prepare, node), deadline)
        patience = Deadline(0)
        while (problem := self.health.first_problem(primary)) is not None:
            if deadline.expired:
                raise problem
            if patience.expired:
                with contextlib.suppress(*errors()):
                    if self._step(primary):
                        patience = Deadline(_PATIENCE)
            time.sleep(POLL)
        self.set_node_timeout(node_timeout_ms)

    def _step(self, primary: str) -> bool:
        """Do the next step towards health; return whether there was one to do."""
        infos = {node: self._admin.redis(node).info("replication") for node in self._nodes}
        if any(self.health.unrest(node) for node in self._nodes):
            return False
        if self._follow_slot_owner():
            return True
        present = [node for node, info in infos.items() if info["role"] == "master"]
        if infos[primary]["role"] == "slave":
            # Without an election: Redis lets a replica begin one only every few seconds.
            if infos[primary]["master_link_status"] == "up" or not present:
                self.take_over(primary)
                return True
        elif self.health.state(primary):
            # A primary refuses writes for 2 s after its start, a replica does not. So one takes
            # over, the primary becomes its replica, and takes over from it in a later step.
            for node, info in infos.items():
                if info["role"] == "slave" and not self.health.state(node):
                    self.take_over(node)
                    return True
        elif infos[primary]["connected_slaves"] < len(self._nodes) - 1:
            self._redirect_replicas(primary)
            return True
        elif any(self.health.slots(node) for node in self._nodes):
            self._give_an_offset(primary)
            return True
        return False

    def _follow_slot_owner(self) -> bool:
        """Make all nodes follow the one that has the slots; return whether any did not yet.

        A primary without slots has to follow too: no client writes to it any more.
        """
        reports = {node: cluster_nodes(self._admin.redis(node))[0] for node in self._nodes}
        owners = [node for node, me in reports.items() if me["slots"]]
        if len(owners) != 1:
            return False
        id_ = reports[owners[0]]["node_id"]
        astray = [n for n, me in reports.items() if n not in owners and me["master_id"] != id_]
        for node in astray:
            client = self._admin.redis(node)
            if "master" in reports[node]["flags"]:
                client.flushall()  # only an empty primary can become a replica
            client.execute_command("CLUSTER REPLICATE", id_)
        return bool(astray)

    # --- scripts and data -------------------------------------------------------------------

    def end_script(self, node: str) -> bool:
        """End the script or the function that a node runs, if it runs one.

        Returns:
            Whether no script runs any more. One that has written data ends only with the node.
        """
        from redis.exceptions import ResponseError, TimeoutError

        with contextlib.suppress(*errors()):
            self._admin.redis(node).ping()
            return True  # as nearly always: it runs none
        client = self._admin.new_redis(node, timeout=_UNTIL_BUSY)
        try:
            for kind in ("SCRIPT", "FUNCTION"):
                try:
                    client.execute_command(f"{kind} KILL")
                except ResponseError as error:
                    if str(error).startswith("UNKILLABLE"):
                        return False
        except TimeoutError:
            return False
        except errors():
            return True  # it has just been started, so it runs none
        finally:
            client.close()
        return True

    def resume_writes(self, node: str) -> None:
        """End a pause of the writes of clients; a node that does not answer is left alone."""
        with contextlib.suppress(*errors()):
            self._admin.redis(node).client_unpause()

    def flush(self, primary: str) -> NotReady | None:
        """Delete all data, functions and scripts, on the replicas too.

        Returns:
            What keeps a node from it, or from being healthy; None: nothing does.
        """
        replicas = [node for node in self._nodes if node != primary]

        def delete(node: str) -> Problem:
            # In one request: every reset between two tests does this.
            with self._admin.redis(node).pipeline(transaction=False) as pipeline:
                pipeline.execute_command("SCRIPT FLUSH")  # replicas are not told of it
                if node == primary:
                    pipeline.client_unpause()  # it may be about to be succeeded
                    pipeline.flushall()
                    pipeline.execute_command("FUNCTION FLUSH")
                    pipeline.wait(len(replicas), 1000)
                self.health.ask(pipeline)
                *done, cluster, slots, info = pipeline.execute()
            if node == primary and done[-1] != len(replicas):
                return f"reached {done[-1]} of {len(replicas)} replicas"
            return self.health.problem_in(node, primary, cluster, slots, info)

        # The replicas first: the primary would wait for one that is ill.
        return first_error((*replicas, primary), delete)
