"""What each Redis node has in the end, read over its admin address."""

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Literal, Protocol

from cachesim.clock import Deadline
from cachesim.errors import CachesimError
from cachesim.history.reader import History
from cachesim.history.rows import FinalRead
from cachesim.runs.calls import Readings
from cachesim.workload.sessions import SERVICE
from cachesim.workload.values import PREFIX, version_in

SYNCED = 5.0
"""Seconds that replicas may take to have what the primary has."""
_TOGETHER = 500  # keys of one call
_POLL = 0.1
_TRIES = 10

_KEYS = """
SELECT DISTINCT key FROM operations
WHERE service = ? AND kind = 'write' AND written NOT NULL AND ttl NOT NULL
"""


class Servers(Protocol):
    """The servers of a topology, over their admin addresses."""

    def readings(self) -> Readings:
        """Return what they say now."""
        ...

    def stored(self, node: str, keys: Sequence[str], length: int) -> list[str | None]:
        """Return the first bytes of a node's values."""
        ...


def final_reads(
    history: History, servers: Servers, nodes: Collection[str], patience: float = SYNCED
) -> Iterator[FinalRead]:
    """Yield what each Redis node has under each key that the workload wrote.

    A node that does not answer is left out, and so is a value that has no version: what a user's
    own code writes can't be told from what it wrote before. That code tells no TTL either, so that
    a key which is not there may have expired.

    Args:
        nodes: the Redis nodes.
        patience: seconds that the replicas may take to have what the primary has.
    """
    roles = _settled(servers, nodes, patience)
    keys = (key for (key,) in history.rows(_KEYS, SERVICE))
    while some := list(islice(keys, _TOGETHER)):
        for node, role in roles.items():
            at = time.monotonic()
            for key, text in zip(some, _stored(servers, node, some), strict=False):
                found = version_in(text or "")
                if text is None or found is not None:
                    writer, number = found or (None, None)
                    yield FinalRead(key, node, role, at, writer, number)


def _stored(servers: Servers, node: str, keys: Sequence[str]) -> list[str | None]:
    """Return what a node has under keys; nothing if it does not answer."""
    for _ in range(_TRIES):
        with contextlib.suppress(CachesimError, OSError):
            return servers.stored(node, keys, PREFIX)
        time.sleep(_POLL)
    return []


def _settled(
    servers: Servers, nodes: Collection[str], patience: float
) -> dict[str, Literal["primary", "replica"]]:
    """Wait until the replicas have what the primary has, and return all nodes' roles."""
    limit, found = Deadline(patience), dict[str, dict[str, float]]()
    while True:
        values = {node: it["values"] for node, it in servers.readings()["nodes"].items()}
        found |= {node: values[node] for node in nodes if node in values}
        offsets = {it["offset"] for it in found.values()}
        if (len(found) == len(nodes) and len(offsets) == 1) or limit.expired:
            return {node: "primary" if it["role"] else "replica" for node, it in found.items()}
        time.sleep(_POLL)
