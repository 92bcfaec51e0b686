"""Decides whether a primary is lost, from evidence alone: it does not know the faults."""

from collections.abc import Sequence
from dataclasses import dataclass

from cachesim.control_plane.evidence import (
    MISSED,
    Evidence,
    RedisProbe,
    Silence,
    is_outdated,
    redis_answer,
)


@dataclass(frozen=True)
class Loss:
    """A primary is lost.

    Attributes:
        since: when it was lost, in monotonic seconds.
        until: the last moment for which the evidence shows it, in monotonic seconds.
        why: a text for the event log.
    """

    since: float
    until: float
    why: str


def find_loss(
    primary: str, nodes: Sequence[str], evidence: Evidence, settled_at: float
) -> Loss | None:
    """Return the loss of a shard's primary, or None if it is not lost.

    Args:
        primary: the name of the primary.
        nodes: the names of all nodes of the shard.
        settled_at: when the primary became one; evidence from before does not count.
    """
    probe = evidence.probe(primary)
    if probe is None:
        return None
    if not probe.answered:
        if is_outdated(probe, settled_at, evidence):
            return None
        since = max(probe.since, settled_at)
        return Loss(since, max(probe.at, probe.until), "does not answer")
    if isinstance(probe, RedisProbe) and probe.is_loading:
        return None  # no replica can follow it yet
    # A majority of the shard's nodes, so both replicas of three nodes: otherwise a partition
    # between two zones would fail over a primary that its clients still reach.
    needed = len(nodes) // 2 + 1
    deaf = [s for n in nodes if n != primary and (s := _deafness(n, primary, evidence))]
    if len(deaf) < needed:
        return None
    since = max(settled_at, sorted(silence.since for silence in deaf)[needed - 1])
    until = min(silence.until for silence in deaf)
    if until - since <= MISSED * evidence.interval:
        return None
    return Loss(since, until, f"is not heard by {len(deaf)} replicas")


def _deafness(replica: str, primary: str, evidence: Evidence) -> Silence | None:
    """Return for how long a replica that answers has not heard the primary.

    The cluster bus tells. A replication link that is down does not: on a slow link a handshake
    takes seconds, and a replica that can't connect is no reason to give up a primary that lives.
    """
    if redis_answer(evidence, replica) is None:
        return None
    return evidence.silence(replica, primary)
