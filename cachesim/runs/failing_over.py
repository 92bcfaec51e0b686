"""Fails over, and waits until that is completed: the same for all clients."""

from collections.abc import Callable
from typing import Any

from cachesim.errors import FaultError
from cachesim.runs.calls import Call, Condition, ShardStatus


def fail_over(
    call: Callable[..., Any], to: str | None = None, shard: str | None = None
) -> ShardStatus:
    """Promote a replica, and wait until it is the primary.

    If a failover is in progress, it is waited for. It is the one that was asked for, unless it was
    given up or has promoted a node of another zone than `to`: then another one begins.

    Args:
        call: makes a call, and waits for its answer as long as it takes.
        to: the zone whose replica is promoted; None: the replica with the least lag.
        shard: the shard's id; None: the only one.

    Returns:
        The shard, after it.

    Raises:
        ValueError: the primary is in that zone, or there is no such zone or shard.
        FaultError: the replica does not answer; or it could not be promoted, and another one was.
        FailoverTimeout: it was not completed in time.
    """
    before: ShardStatus = call(Call.SHARD, shard=shard)
    decided: ShardStatus = call(Call.WAIT, what=Condition.DECIDED, shard=shard)
    if decided["failovers"] <= before["failovers"] or not _is_in(call, decided["primary"], to):
        before = call(Call.FAILOVER, to=to, shard=shard)
    done: ShardStatus = call(
        Call.WAIT, what=Condition.FAILOVER, shard=shard, after=before["failovers"]
    )
    if not _is_in(call, done["primary"], to):
        raise FaultError(
            f"{done['primary']} is the primary: the replica in zone {to} could not be promoted. "
            "The event log says why."
        )
    return done


def _is_in(call: Callable[..., Any], node: str, zone: str | None) -> bool:
    return zone is None or zone.removeprefix("az-") == call(Call.NODE, node=node)["zone"]
