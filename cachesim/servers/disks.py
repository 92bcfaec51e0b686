"""What a full disk makes of a Redis server, real or emulated."""

import time
from typing import TYPE_CHECKING

from cachesim.clock import Deadline
from cachesim.errors import FaultError

if TYPE_CHECKING:
    import redis

SPARE = 64 * 1024
"""Bytes that a primary's disk still takes, as clients write until `overflow` does."""
_FILLER = "cachesim:filler"
_LIMIT = 5.0  # seconds; a server tries again each second
_POLL = 0.01  # seconds


def spare(client: "redis.Redis") -> int:
    """Return how many bytes the disk of a server shall still take."""
    return SPARE if _is_primary(client) else 0


def overflow(client: "redis.Redis") -> None:
    """Write more than a full disk takes, so that the server notices. It leaves no key.

    A replica notices with the next write of its primary.

    Raises:
        FaultError: the append-only file could be written nevertheless.
    """
    import redis

    if not _is_primary(client):
        return
    pipeline = client.pipeline(transaction=True)
    pipeline.set(_FILLER, "x" * (2 * SPARE))
    pipeline.delete(_FILLER)
    try:
        pipeline.execute()
    except redis.ResponseError as error:
        if "MISCONF" not in str(error):  # it knows already
            raise
    _wait(client, "its append-only file could be written", aof_last_write_status="err")


def recover(client: "redis.Redis") -> None:
    """Wait until a server has written what a full disk did not take, and write its file anew.

    Redis 7.0 leaves zeros in place of a part that it began to write, if it has opened its file in a
    rewrite. It could not load that file when it starts again.

    Raises:
        FaultError: it did not in time.
    """
    idle = {"aof_rewrite_scheduled": 0, "aof_rewrite_in_progress": 0}
    _wait(client, "its append-only file can't be written", aof_last_write_status="ok", **idle)
    client.bgrewriteaof()
    _wait(client, "its append-only file could not be written anew", **idle)


def _is_primary(client: "redis.Redis") -> bool:
    return bool(client.role()[0] == "master")


def _wait(client: "redis.Redis", problem: str, **wanted: object) -> None:
    deadline = Deadline(_LIMIT)
    while not wanted.items() <= client.info("persistence").items():
        if deadline.expired:
            raise FaultError(problem)
        time.sleep(_POLL)
