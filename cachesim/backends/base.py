"""The small interface between the topology and what carries it."""

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from cachesim.topology import Endpoint

if TYPE_CHECKING:
    from cachesim.toxiproxy.client import ToxiproxyClient

Progress = Callable[[str], None]
"""Called with a short line when a step of the start begins."""


class NodeState(StrEnum):
    """What a node's process does."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Backend(Protocol):
    """A running topology's servers: where they are and how to hurt them.

    A node is named by its name (`redis-a`), a zone by its own (`a`). Verbs return when they are
    done, and repeating one is harmless. All methods are thread-safe after `start`.
    """

    @property
    def name(self) -> str:
        """The backend's name, such as `docker`."""
        ...

    def start(self, progress: Progress) -> None:
        """Bring up servers and links and form the cluster.

        Afterwards all nodes answer on their admin addresses, the wanted primary takes writes, and
        both replicas follow it.

        Raises:
            StartError: it did not work; nothing is left behind.
        """
        ...

    def stop(self) -> None:
        """Remove all of it, whatever state it is in."""
        ...

    def endpoint(self, node: str) -> Endpoint:
        """The node's one address, announced to clients and peers: a link listens there."""
        ...

    def admin(self, node: str) -> Endpoint:
        """The node's admin address, which crosses no link."""
        ...

    def toxiproxy(self, zone: str) -> str:
        """The URL of the Toxiproxy that carries a zone's links."""
        ...

    def toxiproxy_client(self, zone: str) -> "ToxiproxyClient":
        """A client for it, for whoever calls this."""
        ...

    def renew_toxiproxy(self, zone: str) -> None:
        """Give a zone a new Toxiproxy, as at the start, for one whose API stands still.

        Raises:
            CachesimError: it can't be done.
        """
        ...

    def state(self, node: str) -> NodeState:
        """What the node's process does."""
        ...

    def kill(self, *nodes: str) -> None:
        """SIGKILL, side by side. The machine lives on: what was written is not lost."""
        ...

    def shut_down(self, node: str) -> None:
        """An orderly end of the process."""
        ...

    def pause(self, *nodes: str) -> None:
        """SIGSTOP, side by side: connections stay, nothing is answered."""
        ...

    def resume(self, node: str) -> None:
        """SIGCONT."""
        ...

    def start_node(self, node: str) -> None:
        """Start the process if it is not running, anew from what is on its disk."""
        ...

    def truncate_aof(self, node: str, size: int) -> None:
        """Cut a stopped Redis node's append-only file back, as a loss of power does.

        Args:
            size: bytes that had reached the disk, of all the file's parts together.
        """
        ...

    def renew_redis(self) -> None:
        """Give the Redis nodes, all of them stopped, the disks of a first start.

        They are to be formed into a cluster again: see `cachesim.servers.redis_cluster`.
        """
        ...

    def logs(self, node: str, lines: int = 50) -> str:
        """The tail of a node's log."""
        ...
