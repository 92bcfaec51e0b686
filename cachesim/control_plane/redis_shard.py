"""The control plane's actions on the nodes of a Redis shard, over their admin addresses."""

import contextlib
import re
from collections.abc import Callable, Iterator

from cachesim.clock import Deadline
from cachesim.control_plane.actions import Branch
from cachesim.errors import FaultError, NotReady
from cachesim.servers.admin import NodeClients, errors
from cachesim.servers.redis_cluster import Cluster
from cachesim.servers.redis_config import FENCED

_PROMOTION_LIMIT = 8.0  # seconds: a node that was cut off refuses writes for up to 5 s
_LOG_LINES = 500  # since it came back
_LOOK = 1.0  # seconds for what is asked again and again, while nothing else is decided


class RedisShard:
    """The actions on one shard; `ShardActions` describes each.

    Args:
        logs: returns the last lines of a node's log, by its name and their number.
    """

    def __init__(
        self, admin: NodeClients, cluster: Cluster, logs: Callable[[str, int], str]
    ) -> None:
        self._admin = admin
        self._cluster = cluster
        self._logs = logs

    def fence(self, node: str) -> int | None:
        """See `ShardActions.fence`. It sets `min-replicas-to-write`."""
        client = self._admin.redis(node)
        with contextlib.suppress(*errors()):
            client.config_set("min-replicas-to-write", FENCED)
            info = client.info("replication")
            return int(info["master_repl_offset"]) if info["role"] == "master" else None
        return None

    def unfence(self, node: str) -> None:
        """See `ShardActions.unfence`."""
        with _as_fault_error():
            self._admin.redis(node).config_set("min-replicas-to-write", 0)

    def pause_writes(self, node: str, seconds: float) -> None:
        """See `ShardActions.pause_writes`."""
        with _as_fault_error():
            self._admin.redis(node).client_pause(int(seconds * 1000), all=False)

    def resume_writes(self, node: str) -> None:
        """See `ShardActions.resume_writes`."""
        self._cluster.resume_writes(node)

    def branch(self, primary: str) -> Branch:
        """See `ShardActions.branch`."""
        with _as_fault_error():
            info = self._admin.redis(primary).info("replication")
        return Branch(
            str(info["master_replid2"]),
            int(info["second_repl_offset"]) - 1,
            str(info["master_replid"]),
        )

    def promote(self, node: str) -> Branch:
        """See `ShardActions.promote`. It takes over, and waits until the node accepts writes."""
        with _as_fault_error():
            if not self._cluster.knows_owner(node):
                raise NotReady(f"{node}: knows no node that has the slots", node)
            self._admin.redis(node).config_set("min-replicas-to-write", 0)
            self._cluster.take_over(node)
            self._cluster.health.wait_writable(node, Deadline(_PROMOTION_LIMIT))
        # Only now: until the takeover, an old primary that lives may have sent more.
        return self.branch(node)

    def psync_offset(self, node: str, history: str) -> int | None:
        """See `ShardActions.psync_offset`. Only the node's log has it."""
        offsets = re.findall(rf"request {history}:(\d+)", self._logs(node, _LOG_LINES))
        return max(map(int, offsets)) - 1 if offsets else None

    def in_sync(self, node: str, primary: str) -> bool:
        """See `ShardActions.in_sync`."""
        with contextlib.suppress(*errors()):
            return self._cluster.follows(node, primary, _LOOK)
        return False


@contextlib.contextmanager
def _as_fault_error() -> Iterator[None]:
    """Raise a FaultError where a node does not answer or is not ready."""
    unreachable: tuple[type[Exception], ...] = (*errors(), NotReady)
    try:
        yield
    except unreachable as error:
        raise FaultError(str(error)) from error
