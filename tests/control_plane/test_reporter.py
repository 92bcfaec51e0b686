"""Which events of the control plane are recorded, and how often."""

import pytest

from cachesim.control_plane.reporter import Reporter
from cachesim.events import EventLog


@pytest.fixture
def events() -> EventLog:
    """Return an empty log."""
    return EventLog()


@pytest.fixture
def reporter(events: EventLog) -> Reporter:
    """Return a reporter of a group, with one standing condition."""
    reporter = Reporter(events, "sessions")
    for _ in range(3):
        reporter.record_once("waiting", "redis-a", "no power")
    return reporter


def test_condition_is_recorded_once(events: EventLog, reporter: Reporter) -> None:
    """A condition that lasts is recorded once; the same of another node is another one."""
    reporter.record_once("waiting", "redis-b", "no power")
    reporter.record_once("waiting", "redis-a", "no replica")
    assert [(event.source, event.message) for event in events] == [
        ("redis-a", "no power"),
        ("redis-b", "no power"),
        ("redis-a", "no replica"),
    ]


def test_condition_is_recorded_again_after_an_event(events: EventLog, reporter: Reporter) -> None:
    """When something else has happened, a condition that still lasts is recorded again."""
    reporter.record("recovering", "redis-b", "it recovers", why="test")
    reporter.record_once("waiting", "redis-a", "no power")
    assert [event.kind for event in events] == ["waiting", "recovering", "waiting"]
    assert events.of("recovering")[0].data == {"why": "test"}


def test_condition_is_recorded_again_after_a_reset(events: EventLog, reporter: Reporter) -> None:
    """After a reset, a condition that still lasts is recorded again."""
    reporter.reset()
    reporter.record_once("waiting", "redis-a", "no power")
    assert [event.kind for event in events] == ["waiting"] * 2
