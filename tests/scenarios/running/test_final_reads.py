"""What each node has in the end."""

from typing import Any

from cachesim.errors import CachesimError
from cachesim.history.rows import FinalRead
from cachesim.runs.calls import Readings
from cachesim.scenarios.running.final_reads import final_reads
from cachesim.workload import values
from tests.scenarios.histories import history_of, operation

REDIS = ("redis-a", "redis-b")
TTL = values.SESSION_TTL


class Servers:
    """Two nodes, of which one lacks the newest write, and is slow at first."""

    def __init__(self) -> None:
        self._slow = 3

    def readings(self) -> Readings:
        """See `final_reads`."""
        values: dict[str, dict[str, float]] = {
            "redis-a": {"role": 1, "offset": 7},
            "redis-b": {"role": 0, "offset": 7},
            "memcached-a": {},
        }
        nodes: dict[str, Any] = {
            name: {"at": 0.0, "took": 0.0, "own_connections": 0, "values": it}
            for name, it in values.items()
        }
        self._slow -= 1
        if self._slow > 0:
            del nodes["redis-b"]
        return {"nodes": nodes, "heard": {}}

    def stored(self, node: str, keys: Any, length: int) -> list[str | None]:
        """See `final_reads`."""
        self._slow -= 1
        if self._slow == -1:
            raise CachesimError("it did not answer")
        number = 5 if node == "redis-a" else 4
        value = values.session("u", "2026", values.Version("pod-0", number))
        found = {"session:1": value[:length], "session:4": "a value of somebody else's code"}
        return [found.get(key) for key in keys]


def test_version_of_a_prefix() -> None:
    """The begin of a session tells its version; nothing, and another's value, have none."""
    value = values.session("u", "2026", values.Version("pod-3", 12))
    assert values.version_in(value[:512]) == ("pod-3", 12)
    assert values.version_in("") is values.version_in("x") is None


def test_every_written_key() -> None:
    """Each key that was written is read from each Redis node; others are not.

    Of a value without a version nothing is known, not even that it is missing. What a user's own
    code wrote tells no TTL: it may have expired, or have another key in Redis.
    """
    rows = [
        operation(1, key="session:1", written=5, ttl=TTL),
        operation(2, key="session:1", written=6, ttl=TTL, outcome="info"),
        operation(3, key="session:2", written=1, ttl=TTL),
        operation(4, key="session:3", kind="read"),
        operation(4, key="session:4", written=1, ttl=TTL),
        operation(5, key="basket:5", written=1),
        operation(5, key="api:1", service="api_cache", written=1, ttl=60),
    ]
    with history_of(rows) as history:
        found = sorted(it._replace(at=0.0) for it in final_reads(history, Servers(), REDIS))
    assert found == [
        FinalRead("session:1", "redis-a", "primary", 0.0, "pod-0", 5),
        FinalRead("session:1", "redis-b", "replica", 0.0, "pod-0", 4),
        FinalRead("session:2", "redis-a", "primary", 0.0, None, None),
        FinalRead("session:2", "redis-b", "replica", 0.0, None, None),
    ]


def test_a_node_that_does_not_answer() -> None:
    """A node that is gone is left out; what it has can't be told."""
    with history_of([operation(1, key="session:1", written=5, ttl=TTL)]) as history:
        nodes = (*REDIS, "redis-c")
        found = {it.node for it in final_reads(history, Servers(), nodes, patience=0.5)}
    assert found == set(REDIS)
