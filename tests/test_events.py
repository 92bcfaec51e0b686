"""The event log: order, marks, and waiting for what is to come."""

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from cachesim.clock import ManualClock
from cachesim.errors import InvalidArgument, NotRunning
from cachesim.events import Event, EventLog


@pytest.fixture
def clock() -> ManualClock:
    """The log's clock."""
    return ManualClock(100.0)


@pytest.fixture
def log(clock: ManualClock) -> EventLog:
    """A log without an event."""
    return EventLog(clock)


def test_record(log: EventLog) -> None:
    """An event has the log's time, the date, and all that it was recorded with."""
    event = log.record("fault", "az-a", "az-power", lost_bytes=7)
    assert (event.at, event.kind, event.source, event.message) == (
        100.0, "fault", "az-a", "az-power",
    )  # fmt: skip
    assert event.data == {"lost_bytes": 7}
    assert event.date.tzinfo is UTC
    assert abs(datetime.now(UTC) - event.date) < timedelta(minutes=1)
    assert list(log) == [event]


def test_source_as_text(log: EventLog) -> None:
    """The source of an event is recorded as text."""
    assert log.record("fault", 7, "message").source == "7"


def test_order(log: EventLog, clock: ManualClock) -> None:
    """Events are in the order in which they were recorded."""
    for number in range(3):
        log.record("fault", "source", str(number))
        clock.advance(1)
    assert [(event.at, event.message) for event in log] == [(100, "0"), (101, "1"), (102, "2")]
    assert len(log) == 3


def test_since_a_mark(log: EventLog) -> None:
    """A mark separates the events before it from those after it."""
    log.record("fault", "source", "before")
    mark = log.mark()
    assert log.since(mark) == []
    log.record("fault", "source", "after")
    assert [event.message for event in log.since(mark)] == ["after"]


def test_of_a_kind(log: EventLog) -> None:
    """Events are found by their kind, all of them or those after a mark."""
    log.record("fault", "a", "1")
    log.record("heal", "a", "2")
    mark = log.mark()
    log.record("fault", "b", "3")
    assert [event.message for event in log.of("fault")] == ["1", "3"]
    assert [event.message for event in log.of("fault", mark)] == ["3"]


def test_of_no_kind(log: EventLog) -> None:
    """A kind that does not exist is an error: a test for its absence would always pass."""
    with pytest.raises(InvalidArgument, match=r"kind 'failed-over'\. .*failover, lost"):
        log.of("failed-over")


def test_iterating_while_recording(log: EventLog) -> None:
    """Who iterates sees the log as it was at the beginning."""
    log.record("fault", "source", "message")
    for _ in log:
        log.record("fault", "source", "message")
    assert len(log) == 2


def test_wait_for_what_is_there(log: EventLog) -> None:
    """A condition that holds already is not waited for."""
    assert log.wait(lambda: True, timeout=0)


def test_wait_for_what_comes(log: EventLog) -> None:
    """A waiter is woken by the event that it waits for."""
    waiting = threading.Event()

    def there_are_two() -> bool:
        waiting.set()
        return len(log.of("failover")) == 2

    def record() -> None:
        waiting.wait()
        for _ in range(2):
            log.record("failover", "source", "message")

    thread = threading.Thread(target=record)
    thread.start()
    assert log.wait(there_are_two, timeout=10)
    thread.join()


def test_wait_in_vain(log: EventLog) -> None:
    """A wait ends at its timeout, and says that it was in vain."""
    assert not log.wait(lambda: False, timeout=0.01)


@pytest.mark.parametrize("timeout", [math.nan, math.inf, -1, 1e300])
def test_wait_for_no_time(log: EventLog, timeout: float) -> None:
    """A timeout that would wait for ever, or is before now, is an error that names its bounds."""
    with pytest.raises(ValueError, match=r"timeout must be from 0 to [0-9]+ seconds, got"):
        log.wait(lambda: False, timeout)


def test_end_of_the_topology(log: EventLog) -> None:
    """Who waits gets an error as soon as there is no more to come, and so does who begins to."""
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(log.wait, lambda: False, 60)
        log.end("it was stopped")
        assert isinstance(error := waiting.exception(10), NotRunning)
        assert str(error) == "it was stopped"
    with pytest.raises(NotRunning, match="it was stopped"):
        log.next(log.mark(), 60)
    log.record("fault", "source", "all the same")
    assert log.wait(lambda: len(log) == 1, 60)


def test_recorded_by_many(log: EventLog) -> None:
    """No event is lost when several threads record."""

    def record(name: str) -> None:
        for number in range(200):
            log.record("fault", name, str(number))

    threads = [threading.Thread(target=record, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in "abcd":
        messages = [event.message for event in log if event.source == name]
        assert messages == [str(number) for number in range(200)]


def test_event_as_json(log: EventLog) -> None:
    """An event is the same after it has been JSON, to the microsecond."""
    event = log.record("failover", "redis-a", "text", source_type="node", lost_bytes=7)
    data = event.as_dict()
    assert data == {
        "date": event.date.isoformat(timespec="microseconds"),
        "monotonic_seconds": 100.0,
        "kind": "failover",
        "source": "redis-a",
        "message": "text",
        "data": {"source_type": "node", "lost_bytes": 7},
    }
    assert Event.from_dict(json.loads(json.dumps(data))) == event
    whole = Event(1.5, datetime(2026, 1, 2, tzinfo=UTC), "kind", "source", "")
    assert whole.as_dict()["date"] == "2026-01-02T00:00:00.000000+00:00"
    assert Event.from_dict(whole.as_dict()) == whole


def test_event_as_text() -> None:
    """An event is a line with the time to the millisecond and aligned columns."""
    date = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    event = Event(1.0, date, "fault", "az-a", "az-power")
    assert str(event) == "03:04:05.678  fault       az-a           az-power"


def test_log_as_text(log: EventLog) -> None:
    """A log is printed with a line for each event."""
    events = [log.record("fault", "a", "kill"), log.record("heal", "a", "kill")]
    assert str(log).splitlines() == [str(event) for event in events]
    assert str(EventLog()) == ""
