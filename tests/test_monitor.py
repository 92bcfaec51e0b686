"""The monitor's history of append-only files."""

import ssl

import pytest

from cachesim.clients import NodeClients
from cachesim.clock import ManualClock
from cachesim.events import EventLog
from cachesim.monitor import Monitor
from cachesim.topology import Endpoint, production


@pytest.mark.parametrize(
    ("ago", "size"), [(3.5, 101), (3.0, 101), (2.9, 102), (1.0, 103), (0.9, None)]
)
def test_size_some_seconds_ago(ago: float, size: int | None) -> None:
    """A size is told that holds all that was acknowledged by then, however stale the history."""
    clock = ManualClock(4)
    tls = ssl.create_default_context()
    admin = NodeClients(lambda node: Endpoint(node, 1), "user", "password", tls)
    monitor = Monitor(production(), admin, (), EventLog(), "test", clock)
    for second in (1, 2, 3):
        monitor._note_size("redis-a", second, 100 + second)
    assert monitor.aof_size("redis-a", ago) == size
