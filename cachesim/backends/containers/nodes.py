"""What the backends on a container engine share: the engine, and nodes that are containers."""

import contextlib
import io
import tarfile
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cachesim.backends.address_plan import FILES, Plan, pod_name, server_uid
from cachesim.backends.base import NodeState
from cachesim.backends.containers.engine import archive_of, host_of, side_by_side
from cachesim.clock import Deadline
from cachesim.errors import CachesimError, StartError, ToxiproxyError
from cachesim.servers.redis_config import random_node_ids
from cachesim.topology import Endpoint
from cachesim.toxiproxy.client import ToxiproxyClient

if TYPE_CHECKING:
    from docker.models.containers import Container
    from testcontainers.core.docker_client import DockerClient

_AOF_FOLDER = "/data/appendonlydir"
_TOXIPROXY_TIMEOUT = 10.0  # seconds until it answers in a container that runs
_POLL = 0.005  # seconds


class ContainerNodes:
    """Nodes in containers, whoever makes those: where they are, and the verbs of `Backend`.

    Args:
        client: the engine that the containers are on.
    """

    def __init__(self, client: "DockerClient") -> None:
        self._client = client
        self._host = host_of(client)
        self._containers: dict[str, Container] = {}
        self._plan: Plan

    # --- where things are -------------------------------------------------------------------

    @property
    def host(self) -> str:
        """Where published ports are reached: 127.0.0.1, or a remote engine's address."""
        return self._host

    def endpoint(self, node: str) -> Endpoint:
        """The node's announced address."""
        return self._plan.endpoint(node)

    def admin(self, node: str) -> Endpoint:
        """The published port of the server itself."""
        return self._plan.admin(node)

    def toxiproxy(self, zone: str) -> str:
        """The URL of the pod holder's API."""
        return self._plan.toxiproxy(zone)

    def toxiproxy_client(self, zone: str) -> ToxiproxyClient:
        """A client for it."""
        return ToxiproxyClient(self.toxiproxy(zone))

    def renew_toxiproxy(self, zone: str) -> None:
        """Start a pod's containers anew: its holder's end takes the others' network away.

        Redis nodes keep what is on their disks, Memcached nodes come back empty. Those that were
        stopped or paused are so again.

        Raises:
            CachesimError: the engine refused.
        """
        from docker.errors import APIError

        nodes = [node.name for node in self._plan.topology.nodes if node.zone == zone]
        try:
            before = {node: self.state(node) for node in nodes}
            up = [node for node, state in before.items() if state is not NodeState.STOPPED]
            self.kill(*up)
            self._containers[pod_name(zone)].restart(timeout=0)
            self._populate(zone)
            side_by_side(self.start_node, up)
            self.pause(*(node for node in up if before[node] is NodeState.PAUSED))
        except APIError as error:
            raise CachesimError(f"the engine refused: {error.explanation or error}") from error

    def _populate(self, zone: str) -> None:
        """Give a zone's Toxiproxy its proxies, as soon as it answers."""
        deadline = Deadline(_TOXIPROXY_TIMEOUT)
        with contextlib.closing(ToxiproxyClient(self.toxiproxy(zone))) as server:
            while True:
                try:
                    server.populate(self._plan.proxies(zone))
                    return
                except ToxiproxyError as error:
                    if error.status or deadline.expired:
                        raise StartError(
                            f"the proxies of zone {zone} can't be made: {error}"
                        ) from error
                    time.sleep(_POLL)

    # --- node verbs -------------------------------------------------------------------------

    def state(self, node: str) -> NodeState:
        """What the engine says of the container."""
        container = self._containers[node]
        container.reload()
        if container.status == "paused":
            return NodeState.PAUSED
        return NodeState.RUNNING if container.status == "running" else NodeState.STOPPED

    def kill(self, *nodes: str) -> None:
        """SIGKILL to the containers, side by side."""
        side_by_side(lambda n: self._tolerate("not running", self._containers[n].kill), nodes)

    def shut_down(self, node: str) -> None:
        """SIGTERM, and SIGKILL after 5 s."""
        self._containers[node].stop(timeout=5)

    def pause(self, *nodes: str) -> None:
        """Freeze the containers, side by side."""

        def pause(node: str) -> None:
            from docker.errors import APIError

            try:
                self._tolerate("already paused", self._containers[node].pause)
            except APIError as error:
                # runc may fail to freeze a process that is busy, and succeeds the next time.
                if "unable to freeze" not in str(error.explanation):
                    raise
                self._tolerate("already paused", self._containers[node].pause)

        side_by_side(pause, nodes)

    def resume(self, node: str) -> None:
        """Let a frozen container go on."""
        self._tolerate("not paused", self._containers[node].unpause)

    def start_node(self, node: str) -> None:
        """Start the container again, with its volume."""
        self._containers[node].start()

    def truncate_aof(self, node: str, size: int) -> None:
        """Cut the last part of the append-only file in the container's volume."""
        with self._aof_of(node) as archive:
            parts = {m.name: m for m in archive if m.name.endswith((".aof", ".rdb"))}
            growing = [m for name, m in parts.items() if name.endswith(".incr.aof")]
            lost = sum(m.size for m in parts.values()) - size
            if lost <= 0 or not growing:
                return
            last = max(growing, key=lambda m: m.mtime)
            content = archive.extractfile(last)
            kept = content.read(max(0, last.size - lost)) if content else b""
        self._containers[node].put_archive("/data", archive_of({last.name: (last.uid, kept)}))

    def renew_redis(self) -> None:
        """Empty the append-only files, and let the nodes know each other as at the first start."""
        topology = self._plan.topology
        for node in topology.redis:
            with self._aof_of(node.name) as archive:
                parts = [m for m in archive if m.name.endswith((".aof", ".rdb"))]
            empty = archive_of({part.name: (part.uid, b"") for part in parts})
            self._containers[node.name].put_archive("/data", empty)
        uids = {node.name: server_uid(node) for node in topology.redis}
        known = self._plan.initial_nodes_conf(random_node_ids(topology))
        files = {path: (uids[path.partition("/")[0]], text) for path, text in known.items()}
        # The volume is one for all.
        self._containers[topology.shards[0].first_primary].put_archive(FILES, archive_of(files))

    def _aof_of(self, node: str) -> tarfile.TarFile:
        """The parts of a node's append-only file, with the folder that they are in."""
        stream, _ = self._containers[node].get_archive(_AOF_FOLDER)
        return tarfile.open(fileobj=io.BytesIO(b"".join(stream)))

    def logs(self, node: str, lines: int = 50) -> str:
        """The tail of the container's output."""
        return self._containers[node].logs(tail=lines).decode(errors="replace")

    @staticmethod
    def _tolerate(message: str, verb: Callable[[], object]) -> None:
        from docker.errors import APIError

        try:
            verb()
        except APIError as error:
            # Repeating a verb is harmless.
            if message not in str(error.explanation):
                raise
