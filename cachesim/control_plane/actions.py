"""The control plane's actions on the nodes of a shard, as a protocol."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Branch:
    """The point at which a promoted node left its predecessor's replication history.

    Attributes:
        history: the replication ID of the predecessor (`master_replid2`).
        offset: the last offset that both share, in bytes (`second_repl_offset` - 1).
        own_history: the node's own replication ID since then (`master_replid`).
    """

    history: str
    offset: int
    own_history: str


class ShardActions(Protocol):
    """The control plane's actions on a shard's nodes. Nodes are given by name."""

    def fence(self, node: str) -> int | None:
        """Make a primary refuse writes.

        Returns:
            Its replication offset, which no write moves any more. None if it is not a primary or
            does not answer.
        """
        ...

    def unfence(self, node: str) -> None:
        """Let a node accept writes again.

        Raises:
            FaultError: it does not answer.
        """
        ...

    def pause_writes(self, node: str, seconds: float) -> None:
        """Let the writes of clients wait, at most that long.

        Raises:
            FaultError: it does not answer.
        """
        ...

    def resume_writes(self, node: str) -> None:
        """End what `pause_writes` began; one that does not answer is left alone."""
        ...

    def branch(self, primary: str) -> Branch:
        """Return the point at which a primary left its predecessor's history.

        Raises:
            FaultError: it does not answer.
        """
        ...

    def promote(self, node: str) -> Branch:
        """Make a replica the primary.

        Returns:
            The point at which it left its predecessor's history.

        Raises:
            FaultError: it did not become a primary that serves the slots.
        """
        ...

    def psync_offset(self, node: str, history: str) -> int | None:
        """Return the offset from which a node asked a new primary to continue a history (PSYNC).

        The node itself had come so far, as a primary. None if it never asked.
        """
        ...

    def in_sync(self, node: str, primary: str) -> bool:
        """Return whether a node is a replica of that primary without a lag."""
        ...
