"""What is recorded of the servers' readings and of the topology's log."""

from types import SimpleNamespace
from typing import Any, cast

from cachesim.history.rows import Row, Sample
from cachesim.runs.calls import Readings
from cachesim.scenarios.running.sampling import Received, Sampler, roles_in
from cachesim.scenarios.targets import Roles


def readings(**nodes: dict[str, float]) -> Readings:
    """Return readings of nodes, from their values."""
    every: dict[str, Any] = {
        name.replace("_", "-"): {"at": 5.0, "took": 0.002, "own_connections": 3, "values": values}
        for name, values in nodes.items()
    }
    return {"nodes": every, "heard": {}}


def test_received() -> None:
    """Connections of cachesim do not count; a new process counts from 0 again."""
    it = Received()
    assert it.others(10, 4) == 6
    assert it.others(13, 5) == 8
    assert it.others(13, 6) == 8  # the server has not accepted the last one yet
    assert it.others(2, 8) == 0  # a new process: both are cachesim's
    assert it.others(9, 8) == 7


def test_received_while_others_of_ours_come_and_go() -> None:
    """Of those that stay open it is known how many there are: only what is more was opened."""
    it = Received()
    assert it.others(10, 2, 4) == 4
    assert it.others(10, 2, 3) == 4  # one was closed
    assert it.others(12, 2, 4) == 5  # opened again, and one of others
    assert it.others(1, 2, 1) == 0  # a new process, with one of ours so far
    assert it.others(8, 3, 4) == 3


def test_received_after_a_link_refused() -> None:
    """What of ours never reached the server does not hide as many of others."""
    it = Received()
    assert it.others(100, 10) == 90
    for own in range(12, 52, 2):
        assert it.others(100, own) == 90
    assert it.others(120, 52) == 106  # but for those of this reading and the last


def test_samples() -> None:
    """Values are recorded without cachesim's own connections; what stays is recorded once."""
    rows: list[Row] = []

    def record(*some: Row) -> None:
        rows.extend(some)

    beats = cast(Any, SimpleNamespace(opened={"redis-a": 2}, open=lambda _node: 1))
    it = Sampler(lambda: readings(), record, beats)
    values = {"role": 1.0, "noeviction": 1.0, "connections": 9.0, "connections_received": 20.0}
    for _ in range(2):
        it.take(readings(redis_a=values))
    assert rows == [
        Sample(5.0, "redis-a", "role", 1.0),
        Sample(5.0, "redis-a", "noeviction", 1.0),
        Sample(5.0, "redis-a", "connections", 5.0),
        Sample(5.0, "redis-a", "connections_received", 15.0),
        Sample(5.0, "redis-a", "role", 1.0),
        Sample(5.0, "redis-a", "connections", 5.0),
        Sample(5.0, "redis-a", "connections_received", 15.0),
    ]
    assert it.fastest == 0.002


def test_roles() -> None:
    """The primary is the control plane's, if it says so itself; the others tell their offsets."""
    primary = {"role": 1.0, "offset": 9.0}
    replica = {"role": 0.0, "offset": 7.0}
    found = readings(redis_a=primary, redis_b=replica, memcached_a={"connections": 1.0})
    assert roles_in(found, "redis-a") == Roles("redis-a", {"redis-b": 7})
    assert roles_in(found, "redis-b") == Roles(None, {"redis-b": 7})
    assert roles_in(readings(redis_b=replica), "redis-a") == Roles(None, {"redis-b": 7})
