"""The workers of a pod, with calls that do what a test says."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Queue

import pytest

from cachesim.history.rows import GeneratorReading, Operation, Outcome
from cachesim.workload.calls import Asked, Call
from cachesim.workload.generator import Generator
from cachesim.workload.readings import Readings
from cachesim.workload.schedule import Schedule, Stream
from cachesim.workload.values import Version

LIMIT = 20.0
"""Seconds, for a slow machine."""


class Scripted(Call):
    """A call that does what it is told.

    Attributes:
        ended: the outcomes that it was told; `told` counts them.
    """

    __slots__ = ("_act", "_following", "ended", "told")
    service = "sessions"
    kind = "write"

    def __init__(
        self, key: str, act: Callable[[], Version | None], following: Call | None = None
    ) -> None:
        super().__init__(key, Version("pod-0", 5), 60.0, 1)
        self._act = act
        self._following = following
        self.ended: list[Outcome] = []
        self.told = threading.Semaphore(0)

    def send(self) -> Version | None:
        """Do it."""
        return self._act()

    def outcome_of(self, error: Exception) -> Outcome:
        """Return what an error says."""
        return "info" if isinstance(error, TimeoutError) else "fail"

    def after(self, outcome: Outcome, read: Version | None) -> Call | None:  # noqa: ARG002
        """Take note of the end."""
        self.ended.append(outcome)
        self.told.release()
        return self._following if outcome == "ok" else None


class Rows:
    """What is recorded, in its order."""

    def __init__(self) -> None:
        self._queue: Queue[Operation] = Queue()

    def put(self, row: Operation) -> None:
        """Take a row."""
        self._queue.put(row)

    def next(self) -> Operation:
        """Wait for a row."""
        return self._queue.get(timeout=LIMIT)

    def rest(self) -> list[Operation]:
        """Return what is there."""
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]


@contextmanager
def generator(
    draw: Callable[[], Call],
    rows: Rows,
    *,
    rate: float = 100,
    workers: int = 3,
    deadline: float = LIMIT,
    asked: Asked | None = None,
) -> Iterator[Generator]:
    """A generator that has not begun."""
    schedule = Schedule([Stream(rate, 0.0, draw)], 0, 1)
    made = Generator(
        "pod-0", schedule, asked or Asked(), workers=workers, deadline=deadline, record=rows.put
    )
    yield made
    made.stop(0)


def test_records_what_was_done() -> None:
    """A row tells who did what, when it was due, what was asked, written and read."""
    rows, asked = Rows(), Asked()

    def act() -> Version:
        asked.node, asked.connection, asked.attempts = "redis-b", "c1", 2
        return Version("pod-1", 4)

    with generator(lambda: Scripted("k", act), rows, asked=asked) as it:
        begin = time.monotonic() + 0.02
        it.begin(begin)
        row = rows.next()
    assert row.start >= row.due == begin
    assert row.end is not None
    assert row.end >= row.start
    assert row._replace(worker=0, due=0, start=0, end=0) == Operation(
        *("pod-0", 0, "sessions", "write", "k", 0, 0, 0, "ok", "redis-b", "c1"),
        *("pod-0", 5, "pod-1", 4, 2, 60.0, None, 1),
    )


@pytest.mark.parametrize(("error", "outcome"), [(TimeoutError, "info"), (ValueError, "fail")])
def test_records_errors(error: type[Exception], outcome: Outcome) -> None:
    """An error has a name and an outcome; the call is told, and nothing follows."""
    rows = Rows()

    def act() -> None:
        raise error

    call = Scripted("k", act, Scripted("never", lambda: None))
    with generator(lambda: call, rows) as it:
        it.begin(time.monotonic())
        row = rows.next()
    assert (row.outcome, row.error, row.key) == (outcome, error.__name__, "k")
    assert call.ended[0] == outcome
    assert all(other.key == "k" for other in rows.rest())


def test_what_follows_is_due_at_once() -> None:
    """A call that follows from another is due at its end, and recorded for itself."""
    rows = Rows()
    with generator(lambda: Scripted("k", lambda: None, Scripted("next", lambda: None)), rows) as it:
        it.begin(time.monotonic())
        first = rows.next()
        second = rows.next()
    assert (first.key, second.key) == ("k", "next")
    assert second.due == second.start == first.end


def test_sheds_what_no_worker_began() -> None:
    """With all workers busy, operations are shed when one gets free, and the call is told."""
    rows, blocked = Rows(), threading.Event()
    calls: list[Scripted] = []
    arrived = threading.Semaphore(0)

    def act() -> None:
        arrived.release()
        blocked.wait(LIMIT)

    def draw() -> Call:
        calls.append(Scripted(str(len(calls)), act))
        return calls[-1]

    with generator(draw, rows, workers=2, deadline=0.05) as it:
        it.begin(time.monotonic())
        assert all(arrived.acquire(timeout=LIMIT) for _ in range(2))
        assert it.idle == 0
        begun = time.monotonic()
        while time.monotonic() < begun + 0.3:  # operations become due
            blocked.wait(0.01)
        blocked.set()
        first = [rows.next() for _ in range(50)]
    shed = [row for row in first if row.outcome == "shed"]
    assert {row.key for row in first} >= {"0", "1"}
    assert shed
    assert all(row.end is None and row.start - row.due > 0.05 for row in shed)
    assert all(calls[int(row.key)].ended == ["shed"] for row in shed)


def test_what_never_ends_is_recorded_at_the_end() -> None:
    """After its patience, what is under way never ended; what could not begin was shed."""
    rows, blocked, arrived = Rows(), threading.Event(), threading.Semaphore(0)

    def act() -> None:
        arrived.release()
        blocked.wait(LIMIT)

    call = Scripted("k", act)
    with generator(lambda: call, rows, workers=2, deadline=0.05) as it:
        it.begin(time.monotonic())
        assert all(arrived.acquire(timeout=LIMIT) for _ in range(2))
        begun = time.monotonic()
        while time.monotonic() < begun + 0.2:
            blocked.wait(0.01)
        it.stop(0)
        found = rows.rest()
        blocked.set()
        assert all(call.told.acquire(timeout=LIMIT) for _ in range(len(found)))
    never = [row for row in found if row.outcome == "info"]
    assert len(never) == 2
    assert all(row.end is None for row in never)
    assert len({row.worker for row in never}) == 2
    shed = [row for row in found if row.outcome == "shed"]
    assert len(shed) >= 10
    assert len(found) == len(shed) + 2
    assert not rows.rest(), "what ends later is not recorded again"


def test_idle_workers_and_a_stop_at_rest() -> None:
    """All workers are idle between operations; a stop ends a pod that never began."""
    rows = Rows()
    with generator(lambda: Scripted("k", lambda: None), rows, workers=4) as it:
        assert it.idle == 4
    assert not rows.rest()


def test_readings_tell_how_late_and_how_busy() -> None:
    """A look has the pod, its idle workers, and by how much the thread woke late since the last."""
    found: Queue[GeneratorReading] = Queue()

    def record(reading: GeneratorReading) -> None:
        found.put(reading)
        time.sleep(0.05)  # so the thread wakes late

    readings = Readings("pod-1", lambda: 7, record)
    try:
        first, second = found.get(timeout=LIMIT), found.get(timeout=LIMIT)
    finally:
        readings.close()
    assert (first.pod, first.idle) == ("pod-1", 7)
    assert second.at - first.at >= 0.09
    assert second.lag >= 0.035
    assert 0 <= second.cpu < 64
