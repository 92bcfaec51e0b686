"""What the control plane does to the Redis nodes, over their admin addresses."""

import re
from collections.abc import Callable

from cachesim.clock import Deadline
from cachesim.control_plane.actions import Branch
from cachesim.errors import FaultError, NotReady
from cachesim.faults.nodes import Nodes
from cachesim.servers.admin import NodeClients
from cachesim.servers.redis_cluster import Cluster

_PROMOTION_LIMIT = 8.0  # seconds: a node that was cut off refuses writes for up to 5 s
_LOG_LINES = 500  # since it came back
_MORE_THAN_THERE_ARE = 1000


class RedisShard:
    """The one shard; `ShardActions` says what each method does.

    Args:
        logs: gives so many of the last lines of a node's log.
    """

    def __init__(
        self,
        admin: NodeClients,
        cluster: Cluster,
        nodes: Nodes,
        logs: Callable[[str, int], str],
    ) -> None:
        self._logs = logs
        self._admin = admin
        self._cluster = cluster
        self._nodes = nodes

    def fence(self, node: str) -> int | None:
        """Refuse writes, with `min-replicas-to-write`. Then nothing moves the offset any more."""
        from redis.exceptions import RedisError

        client = self._admin.redis(node)
        try:
            client.config_set("min-replicas-to-write", _MORE_THAN_THERE_ARE)
            info = client.info("replication")
        except (RedisError, OSError):
            return None
        return int(info["master_repl_offset"]) if info["role"] == "master" else None

    def unfence(self, node: str) -> None:
        """Take the fence away."""
        from redis.exceptions import RedisError

        try:
            self._admin.redis(node).config_set("min-replicas-to-write", 0)
        except (RedisError, OSError) as error:
            raise FaultError(str(error)) from error

    def branch(self, primary: str) -> Branch:
        """See `ShardActions`."""
        from redis.exceptions import RedisError

        try:
            info = self._admin.redis(primary).info("replication")
        except (RedisError, OSError) as error:
            raise FaultError(str(error)) from error
        return Branch(
            str(info["master_replid2"]),
            int(info["second_repl_offset"]) - 1,
            str(info["master_replid"]),
        )

    def promote(self, node: str) -> Branch:
        """Take over, and wait until the node takes writes."""
        from redis.exceptions import RedisError

        client = self._admin.redis(node)
        try:
            client.config_set("min-replicas-to-write", 0)
            self._cluster.take_over(node)
            self._cluster.wait_writable(node, Deadline(_PROMOTION_LIMIT))
        except (RedisError, OSError, NotReady) as error:
            raise FaultError(str(error)) from error
        # Afterwards: until then, an old primary that lives may have sent more.
        return self.branch(node)

    def psync_offset(self, node: str, history: str) -> int | None:
        """See `ShardActions`. A node keeps nothing of it but what its log says."""
        asked = re.findall(rf"request {history}:(\d+)", self._logs(node, _LOG_LINES))
        return max(map(int, asked)) - 1 if asked else None

    def in_sync(self, node: str, primary: str) -> bool:
        """Whether the node follows the primary without a lag."""
        from redis.exceptions import RedisError

        try:
            return self._cluster.follows(node, primary)
        except (RedisError, OSError):
            return False

    def replace(self, node: str) -> None:
        """Give the node a new process."""
        self._nodes.replace(node)
