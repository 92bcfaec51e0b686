"""`sim.metrics` and `sim.alarms`, and the topology's process that answers it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cachesim.daemon.monitoring_calls import monitoring_calls
from cachesim.errors import AlarmTimeout
from cachesim.monitoring import architecture
from cachesim.monitoring.alarms import Watch
from cachesim.monitoring.monitor import HISTORY
from cachesim.runs.calls import MINUTES, Call
from cachesim.simulator.connection import Connection
from cachesim.simulator.monitoring import Metrics
from tests.monitoring.play import TOPOLOGY, minute


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


@pytest.mark.parametrize(
    ("alarm", "words"),
    [
        ("redis-cpu-high", "It can't fire: CPUUtilization is of the whole host"),
        ("redis-cpu-warning", "It can't fire: emulated nodes have no EngineCPUUtilization"),
        ("redis-memory-high", "Unchecked: Initial alarm creation"),
    ],
)
def test_an_alarm_that_does_not_come(alarm: str, words: str) -> None:
    """The error tells what keeps it from firing."""
    every = (*architecture.alarms(TOPOLOGY), *architecture.thresholds(TOPOLOGY))
    watches = {it.name: Watch(it) for it in every}
    monitor = FakeMonitor(watches=lambda: watches, wait=lambda *_: False, is_over=False)
    backend = SimpleNamespace(name="embedded")
    calls = monitoring_calls(cast(Any, SimpleNamespace(monitor=monitor, backend=backend)))
    caller = cast(Any, SimpleNamespace(has_hung_up=False))
    with pytest.raises(AlarmTimeout) as caught:
        calls[Call.WAIT_FOR_ALARM](caller, alarm, "ALARM", 0.0)
    assert words in str(caught.value)
    assert ("can't fire" in str(caught.value)) == (alarm != "redis-memory-high")
