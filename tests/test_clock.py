"""Clocks and deadlines."""

import time

import pytest

from cachesim.clock import Deadline, ManualClock, SystemClock


def test_system_clock() -> None:
    """The system's clock is the machine's monotonic one."""
    before = time.monotonic()
    now = SystemClock().monotonic()
    assert before <= now <= time.monotonic()


def test_manual_clock_stands_still() -> None:
    """A manual clock shows the time that it was set to until it is moved."""
    clock = ManualClock(5)
    assert clock.monotonic() == clock.monotonic() == 5
    clock.advance(2.5)
    assert clock.monotonic() == 7.5


def test_manual_clock_does_not_go_back() -> None:
    """A monotonic clock can't be moved back."""
    clock = ManualClock(5)
    with pytest.raises(ValueError, match="does not go back: -1"):
        clock.advance(-1)
    assert clock.monotonic() == 5


def test_deadline() -> None:
    """A deadline comes nearer as its clock goes on, and has expired when it is reached."""
    clock = ManualClock(100)
    deadline = Deadline(10, clock)
    assert (deadline.remaining, deadline.expired) == (10, False)
    clock.advance(9)
    assert (deadline.remaining, deadline.expired) == (1, False)
    clock.advance(1)
    assert (deadline.remaining, deadline.expired) == (0, True)


def test_missed_deadline() -> None:
    """After a deadline nothing remains: never less than that."""
    clock = ManualClock()
    deadline = Deadline(1, clock)
    clock.advance(5)
    assert (deadline.remaining, deadline.expired) == (0, True)


def test_deadline_on_the_system_clock() -> None:
    """Without a clock of its own a deadline counts the machine's time."""
    assert Deadline(0).expired
    assert 3500 < Deadline(3600).remaining <= 3600
