"""When operations are due."""

from itertools import pairwise

import pytest

from cachesim.workload.calls import Call
from cachesim.workload.schedule import Schedule, Stream


def nothing() -> Call:
    """Draw nothing: no test here needs it."""
    raise AssertionError


def due_times(streams: list[Stream], pods: int, until: float) -> list[list[float]]:
    """When the operations of each pod are due."""
    found = []
    for pod in range(pods):
        schedule, times = Schedule(streams, pod, pods), []
        while (due := schedule.next()[0]) < until:
            times.append(due)
        found.append(times)
    return found


@pytest.mark.parametrize("pods", [1, 3, 10])
def test_even_over_all_pods(pods: int) -> None:
    """All pods together make the rate, evenly, and each makes its share."""
    found = due_times([Stream(40, 0.3, nothing)], pods, 10)
    every = sorted(due for times in found for due in times)
    assert len(every) == 400
    assert all(after - before == pytest.approx(1 / 40) for before, after in pairwise(every))
    assert all(abs(len(times) - 400 / pods) < 1 for times in found)


def test_does_not_drift() -> None:
    """The hundred thousandth operation is due when the rate says."""
    schedule = Schedule([Stream(30, 0.0, nothing)], 0, 1)
    last = [schedule.next()[0] for _ in range(100_001)][-1]
    assert last == pytest.approx(100_000 / 30, abs=1e-6)


def test_streams_are_merged() -> None:
    """A pod gets the operations of several streams in the order of their due times."""

    def other() -> Call:
        raise AssertionError

    schedule = Schedule([Stream(10, 0.5, nothing), Stream(5, 0.1, other)], 0, 1)
    found = [schedule.next() for _ in range(300)]
    assert [due for due, _ in found] == sorted(due for due, _ in found)
    assert sum(draw is other for _, draw in found) == 100
