"""`sim.metrics`, and the topology's process that answers it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cachesim.daemon.monitoring_calls import monitoring_calls
from cachesim.monitoring.monitor import HISTORY
from cachesim.runs.calls import MINUTES
from cachesim.simulator.connection import Connection
from cachesim.simulator.monitoring import Metrics
from tests.monitoring.play import minute


class FakeMonitor(SimpleNamespace):
    """A monitor that has some minutes."""

    def start(self) -> None:
        """See `Monitor.start`."""

    def minutes(self, after: int = 0) -> list[Any]:
        """See `Monitor.minutes`."""
        return [it for it in self.ended if it.number > after]


class Answered:
    """A connection to a process with a monitor; it keeps how many minutes each answer had."""

    def __init__(self, count: int) -> None:
        ended = [minute(number, redis_a={"CurrItems": number}) for number in range(1, count + 1)]
        monitor = FakeMonitor(ended=ended, since=0.0, metrics={"redis-a": ()})
        self.calls = monitoring_calls(cast(Any, SimpleNamespace(monitor=monitor)))
        self.lengths: list[int] = []

    def call(self, operation: str, **arguments: Any) -> Any:
        """See `Connection.call`."""
        found = cast(Any, self.calls[operation](cast(Any, None), **arguments))
        self.lengths.append(len(found["minutes"]))
        return found


@pytest.mark.parametrize("count", [0, 1, MINUTES - 1, MINUTES, MINUTES + 1, HISTORY])
def test_minutes_in_parts(count: int) -> None:
    """All minutes are there, and no answer is so long that emulated nodes would wait for it."""
    connection = Answered(count)
    metrics = Metrics(cast(Connection, connection))
    numbers = list(range(1, count + 1))
    assert [it.number for it in metrics.minutes()] == numbers
    assert [it.number for it in metrics.minutes(after=count - 1)] == numbers[-1:]
    assert max(connection.lengths) <= MINUTES


@pytest.mark.parametrize("count", [0, 1, HISTORY])
def test_last_minute(count: int) -> None:
    """It comes alone."""
    connection = Answered(count)
    metrics = Metrics(cast(Connection, connection))
    found = metrics.latest().get("redis-a", {})
    assert [it.value for it in found.values()] == ([count] if count else [])
    assert connection.lengths == [min(1, count)]
