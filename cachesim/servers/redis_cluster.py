"""The Redis cluster as its nodes tell it: forming it, its health, promotions."""

import contextlib
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from cachesim.clock import Deadline
from cachesim.errors import NotReady
from cachesim.servers.admin import NodeClients, errors
from cachesim.topology import Topology

PREDECESSOR = "0" * 40
"""The id of the node from which the primary of a new cluster takes over; see `redis_server`."""

_FORMING_NODE_TIMEOUT_MS = 200  # while a cluster forms: gossip goes as quickly as it allows
_POLL = 0.005  # seconds
_UNTIL_BUSY = 7.0  # seconds: a script keeps its node from answering for 5 s
_PATIENCE = 0.5  # seconds for a step to take effect before it is tried again

Ailment = str | None
"""What is not as it should be, or None."""


class Cluster:
    """The cluster behind the admin addresses."""

    def __init__(self, topology: Topology, admin: NodeClients) -> None:
        self._admin = admin
        self._nodes = [node.name for node in topology.redis]

    def form(self, primary: str, node_timeout_ms: int, deadline: Deadline) -> None:
        """Make servers that were started with their `nodes.conf` one healthy cluster.

        See `cachesim.servers.redis_config` for the way and its reasons.

        Raises:
            NotReady: a node was not ready at the deadline.
        """
        self._until(primary, partial(self._succeed, primary), deadline)
        self.wait_writable(primary, deadline)
        for node in self._nodes:
            self._until(node, partial(self._prepare, node), deadline)
        # As soon as it counts: the gossip that carries it is what takes longest.
        self._mend(primary, self._connections, deadline)
        self._give_an_offset(primary)
        self._mend(primary, self._replication, deadline)
        for node in self._nodes:
            self._until(node, partial(self._strangers, node), deadline)
        self._mend(primary, self.ailment, deadline)
        self.set_node_timeout(node_timeout_ms)

    def _mend(
        self, primary: str, ailment: Callable[[str, str], Ailment], deadline: Deadline
    ) -> None:
        """Wait until no node has that ailment, and let all follow the primary meanwhile.

        A node has two connections to each other one. What was sent by one before the takeover may
        come after what was sent by the other: it follows the predecessor again then, for good.
        """

        def reason(node: str) -> Ailment:
            ailing = ailment(node, primary)
            if ailing:
                self._let_follow(primary)
            return ailing

        for node in self._nodes:
            self._until(node, partial(reason, node), deadline)

    def _succeed(self, primary: str) -> Ailment:
        """Take over from the predecessor."""
        me, _ = self._told(primary)
        # ROLE says `master` for the first moments of any node.
        if "slave" in me["flags"]:
            self.take_over(primary)
        return None

    def _strangers(self, node: str) -> Ailment:
        """Forget the predecessor. Redis tells other nodes of it: they may have done so already."""
        client = self._admin.redis(node)
        known = int(client.execute_command("CLUSTER INFO")["cluster_known_nodes"])
        if known == len(self._nodes):
            return None
        client.execute_command("CLUSTER FORGET", PREDECESSOR)
        return "knows a node that is not there"

    def _let_follow(self, primary: str) -> None:
        """Tell the replicas that follow another node whom to follow."""
        slots = self._admin.redis(primary).execute_command("CLUSTER SLOTS")
        if not slots:
            return
        _, port, id_ = slots[0][2][:3]
        for node in self._nodes:
            with contextlib.suppress(*errors()):
                client = self._admin.redis(node)
                role, *details = client.role()
                if role == "slave" and int(details[1]) != int(port):
                    client.execute_command("CLUSTER REPLICATE", id_)

    def set_node_timeout(self, milliseconds: int) -> None:
        """Set `cluster-node-timeout` everywhere: gossip goes as quickly as it allows."""
        for node in self._nodes:
            self._admin.redis(node).config_set("cluster-node-timeout", milliseconds)

    def wait_writable(self, primary: str, deadline: Deadline) -> None:
        """Wait until a primary takes writes.

        Raises:
            NotReady: it did not in time.
        """

        def ailment() -> Ailment:
            me, _ = self._told(primary)
            if "master" not in me["flags"]:
                return "is not the primary"
            # One that took over from a node without slots would send all clients away.
            return self._state(primary) if me["slots"] else "has no slots"

        self._until(primary, ailment, deadline)

    def follows(self, node: str, primary: str) -> bool:
        """Whether a node has as a replica all that the primary had when this was called."""
        wanted = self._admin.redis(primary).info("replication")["master_repl_offset"]
        info = self._admin.redis(node).info("replication")
        if info["role"] != "slave" or info["master_link_status"] != "up":
            return False
        return bool(info["slave_repl_offset"] >= wanted)

    def converge(self, primary: str, node_timeout_ms: int, deadline: Deadline) -> None:
        """Bring a cluster whose servers all run to health under that primary, whatever its state.

        Raises:
            NotReady: it was not healthy at the deadline.
        """
        for node in self._nodes:
            self._until(node, partial(self._prepare, node), deadline)
        patience = Deadline(0)
        while (sick := self._first_ailment(primary)) is not None:
            if deadline.expired:
                raise NotReady(*sick)
            if patience.expired:
                with contextlib.suppress(*errors()):
                    if self._step(primary):
                        patience = Deadline(_PATIENCE)
            time.sleep(_POLL)
        self.set_node_timeout(node_timeout_ms)

    def find_primary(self) -> str:
        """The node that is the primary now, by what the nodes say of themselves."""

        def followers(node: str) -> int:
            try:
                info = self._admin.redis(node).info("replication")
            except errors():
                return -1
            return int(info["connected_slaves"]) if info["role"] == "master" else -1

        return max(self._nodes, key=followers)

    def end_script(self, node: str) -> bool:
        """End the script or the function that a node runs, if there is one.

        Returns:
            Whether that could be done: what has written something ends with the node alone.
        """
        from redis.exceptions import ResponseError, TimeoutError

        with contextlib.suppress(*errors()):
            self._admin.redis(node).ping()
            return True  # as nearly always: it runs nothing
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
            return True  # it has just been started: there is nothing to end
        finally:
            client.close()
        return True

    def flush(self, primary: str, deadline: Deadline) -> None:
        """Delete all data and functions, on the replicas too.

        Raises:
            NotReady: not all replicas had done so at the deadline.
        """
        replicas = len(self._nodes) - 1

        def delete() -> Ailment:
            with self._admin.redis(primary).pipeline(transaction=False) as pipeline:
                pipeline.flushall()
                pipeline.execute_command("FUNCTION FLUSH")
                pipeline.wait(replicas, 1000)
                *_, reached = pipeline.execute()
            return None if reached == replicas else f"reached {reached} of {replicas} replicas"

        self._until(primary, delete, deadline)

    def _prepare(self, node: str) -> Ailment:
        client = self._admin.redis(node)
        client.config_set("cluster-node-timeout", _FORMING_NODE_TIMEOUT_MS)
        client.config_set("min-replicas-to-write", 0)
        return None

    def _step(self, primary: str) -> bool:
        """Do the next thing towards health, if there is one to do."""
        infos = {node: self._admin.redis(node).info("replication") for node in self._nodes}
        if any(self._unrest(node) for node in self._nodes):
            return False
        if self._lead_back():
            return True
        present = [node for node, info in infos.items() if info["role"] == "master"]
        if infos[primary]["role"] == "slave":
            # Without an election: Redis lets a replica stand for one every few seconds only.
            if infos[primary]["master_link_status"] == "up" or not present:
                self.take_over(primary)
                return True
        elif self._state(primary):
            # A primary refuses writes for 2 s after its start. A replica does not: let one take
            # over, and the primary come back as its replica first.
            for node, info in infos.items():
                if info["role"] == "slave" and not self._state(node):
                    self.take_over(node)
                    return True
        elif infos[primary]["connected_slaves"] < len(self._nodes) - 1:
            self._let_follow(primary)
            return True
        elif any(self._slots(node) for node in self._nodes):
            self._give_an_offset(primary)
            return True
        return False

    def _lead_back(self) -> bool:
        """Let all follow the one node that has the slots; whether one had to be told so.

        A primary that has lost its slots is one of them: nobody writes there any more.
        """
        told = {node: self._told(node)[0] for node in self._nodes}
        owners = [node for node, me in told.items() if me["slots"]]
        if len(owners) != 1:
            return False
        id_ = told[owners[0]]["node_id"]
        astray = [n for n, me in told.items() if n not in owners and me["master_id"] != id_]
        for node in astray:
            client = self._admin.redis(node)
            if "master" in told[node]["flags"]:
                client.flushall()  # Redis takes no other for a replica
            client.execute_command("CLUSTER REPLICATE", id_)
        return bool(astray)

    def _give_an_offset(self, primary: str) -> None:
        # Redis 7.0 leaves replicas at offset 0 out of CLUSTER SLOTS for 11 s.
        client = self._admin.redis(primary)
        client.set("cachesim", 1)
        client.delete("cachesim")

    def _first_ailment(self, primary: str) -> tuple[str, str] | None:
        for node in self._nodes:
            reason = self._ailment_or_error(partial(self.ailment, node, primary))
            if reason is not None:
                return f"{node} {reason}", node
        return None

    def take_over(self, node: str) -> None:
        """Make a replica the primary without asking anyone.

        What it takes over are the slots of the node that it follows. If those have gone to another
        one, it has to follow that first.
        """
        client = self._admin.redis(node)
        me, others = self._told(node)
        owner = next((other for other in others if other["slots"]), None)
        if owner is not None and owner["node_id"] != me["master_id"]:
            client.execute_command("CLUSTER REPLICATE", owner["node_id"])
        client.execute_command("CLUSTER FAILOVER", "TAKEOVER")

    def _told(self, node: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """What a node tells of itself in CLUSTER NODES, and what of the others."""
        told = self._admin.redis(node).execute_command("CLUSTER NODES").values()
        me = next(other for other in told if "myself" in other["flags"])
        return me, [other for other in told if other is not me]

    def wait_healthy(self, primary: str, deadline: Deadline) -> None:
        """Wait until every node is healthy.

        Raises:
            NotReady: one was not at the deadline.
        """
        for node in self._nodes:
            self._until(node, partial(self.ailment, node, primary), deadline)

    def ailment(self, node: str, primary: str) -> Ailment:
        """What keeps a node from being healthy under that primary.

        Healthy is: its state is ok, it lists the primary with all replicas, and every replica is
        online without a lag.
        """
        # Together, as every reset between two tests asks for it.
        with self._admin.redis(node).pipeline(transaction=False) as pipeline:
            pipeline.execute_command("CLUSTER INFO")
            pipeline.execute_command("CLUSTER SLOTS")
            pipeline.info("replication")
            cluster, slots, info = pipeline.execute()
        return (
            self._state_in(cluster)
            or self._slots_in(slots)
            or self._replication_in(info, is_primary=node == primary)
        )

    def _state(self, node: str) -> Ailment:
        return self._state_in(self._admin.redis(node).execute_command("CLUSTER INFO"))

    def _state_in(self, cluster: dict[str, str]) -> Ailment:
        state = cluster["cluster_state"]
        return None if state == "ok" else f"cluster_state is {state}"

    def _unrest(self, node: str) -> Ailment:
        """What keeps a node from following a takeover at once.

        Valkey 8.1 loops for ever, in the walk from a node to its primary, if it hears of the old
        primary that it follows the new one before it hears from the new one that it took over: each
        is the other's replica then. A node that is busy when both speak hears them in any order.
        To wait for its rest makes that rare (2 of 220 starts), and does not rule it out.
        """
        client = self._admin.redis(node)
        role, *details = client.role()
        if role == "slave" and details[2] not in ("connect", "connected"):
            return f"is connecting to its primary: {details[2]}"
        persistence: dict[str, Any] = client.info("persistence")
        if persistence["aof_rewrite_in_progress"] or persistence["aof_rewrite_scheduled"]:
            return "is rewriting its append-only file"
        return None

    def _slots(self, node: str) -> Ailment:
        return self._slots_in(self._admin.redis(node).execute_command("CLUSTER SLOTS"))

    def _slots_in(self, slots: list[Any]) -> Ailment:
        # [[first slot, last slot, primary, replica, replica]]
        listed = len(slots[0]) - 2 if slots else 0
        if listed == len(self._nodes):
            return None
        return f"CLUSTER SLOTS lists {listed} of {len(self._nodes)} nodes"

    def _connections(self, node: str, primary: str) -> Ailment:
        if node != primary:
            return None
        connected = self._admin.redis(node).info("replication")["connected_slaves"]
        if connected == len(self._nodes) - 1:
            return None
        return f"has {connected} of {len(self._nodes) - 1} replicas"

    def _replication(self, node: str, primary: str) -> Ailment:
        info: dict[str, Any] = self._admin.redis(node).info("replication")
        return self._replication_in(info, is_primary=node == primary)

    def _replication_in(self, info: dict[str, Any], *, is_primary: bool) -> Ailment:
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

    def _until(self, node: str, ailment: Callable[[], Ailment], deadline: Deadline) -> None:
        while True:
            reason = self._ailment_or_error(ailment)
            if reason is None:
                return
            if deadline.expired:
                raise NotReady(f"{node} {reason}", node)
            time.sleep(_POLL)

    @staticmethod
    def _ailment_or_error(ailment: Callable[[], Ailment]) -> Ailment:
        try:
            return ailment()
        except errors() as error:
            return f"does not answer: {error}"
