"""Fences former primaries until they are back as replicas, and reports the writes they lose.

A primary that lives through its failover accepts writes that its successor never receives. It drops
them when it becomes a replica. The number of bytes is the difference of two replication
offsets.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cachesim.control_plane.actions import ShardActions
from cachesim.control_plane.evidence import Evidence, redis_answer
from cachesim.control_plane.reporter import Reporter
from cachesim.topology import Role

_PING_BYTES = 14
"""The size of a PING in the replication stream, sent every 10 s. No write is as short."""


def lost_bytes(offset: int, shared: int) -> int:
    """Return the bytes of writes that an old primary loses.

    Args:
        offset: its replication offset.
        shared: the offset up to which the new primary has the same writes.
    """
    return offset - shared if offset > shared + _PING_BYTES else 0


@dataclass
class _OldPrimary:
    """A former primary that is not back yet.

    Attributes:
        history: the id of its replication history.
        reported_offset: the replication offset up to which its losses were reported.
        fenced_since: `Probe.since` of the answers during which it was fenced.
    """

    history: str
    reported_offset: int
    fenced_since: float | None = None


class OldPrimaries:
    """The former primaries of one shard, by name, until they are back."""

    def __init__(self, actions: ShardActions, evidence: Evidence, reporter: Reporter) -> None:
        self._actions = actions
        self._evidence = evidence
        self._reporter = reporter
        self._old: dict[str, _OldPrimary] = {}

    def add(
        self, node: str, history: str, reported_offset: int, fenced_since: float | None = None
    ) -> None:
        """Add a node that another has replaced as the primary.

        Args:
            history: the id of its replication history.
            reported_offset: the replication offset up to which its losses were reported.
            fenced_since: `Probe.since` of the answers during which it was fenced, if it was.
        """
        self._old[node] = _OldPrimary(history, reported_offset, fenced_since)

    def remove(self, node: str, primary: str) -> None:
        """Remove a node that is back, if it is in here, and report what it lost meanwhile."""
        old = self._old.pop(node, None)
        if old is not None and old.fenced_since is None:
            # It may have become a replica before it could be fenced. Then it has dropped the
            # writes that it had accepted.
            offset = self._actions.psync_offset(node, old.history) or 0
            self._report_more(node, old, offset, primary)

    def clear(self) -> None:
        """Forget all."""
        self._old.clear()

    def fence(self, primary: str) -> None:
        """Fence those that answer as a primary: they do not know of their successor yet."""
        for node, old in self._old.items():
            probe = redis_answer(self._evidence, node)
            if probe is None or probe.role is not Role.PRIMARY or old.fenced_since == probe.since:
                continue
            offset = self._actions.fence(node)
            if offset is not None:
                old.fenced_since = probe.since
                self._report_more(node, old, offset, primary)

    def report_loss(self, node: str, offset: int, primary: str, shared: int) -> None:
        """Report the writes that an old primary loses.

        Args:
            offset: its replication offset.
            primary: the present primary.
            shared: the offset up to which the present primary has the same writes.
        """
        self._reporter.record(
            "lost",
            node,
            f"accepted {offset - shared} bytes of writes that {primary} never received: "
            "they are lost",
            lost_bytes=offset - shared,
            offsets=(shared, offset),
        )

    def _report_more(self, node: str, old: _OldPrimary, offset: int, primary: str) -> None:
        """Report what an old primary lost beyond what was reported already."""
        if lost_bytes(offset, old.reported_offset):
            self.report_loss(node, offset, primary, old.reported_offset)
            old.reported_offset = offset

    def __contains__(self, node: object) -> bool:
        return node in self._old

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._old))

    def __len__(self) -> int:
        return len(self._old)
