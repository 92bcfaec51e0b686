"""The schedule of an observation: operations count from when they were due."""

import pytest

from cachesim.clock import ManualClock
from cachesim.history.rows import Operation
from cachesim.simulator.observing.streams import Stream, Turn

EVERY, DEADLINE = 1.0, 10.0


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands at the begin."""
    return ManualClock(100.0)


@pytest.fixture
def stream(clock: ManualClock) -> Stream:
    """Writes, one a second from now on, with ten seconds for each."""
    found = Stream("write", "redis", "k:", EVERY, DEADLINE, clock)
    found.begin = clock.now
    return found


def taken(stream: Stream, worker: int = 0) -> Turn:
    """A worker's next turn."""
    turn = stream.take(worker, 0)
    assert turn is not None
    return turn


def made(stream: Stream, clock: ManualClock, takes: float = 0, worker: int = 0) -> None:
    """Make the next operation, as soon as it is due."""
    turn = taken(stream, worker)
    clock.now = max(clock.now, turn.due)
    if stream.begins(turn):
        with stream.under_way(turn):
            clock.advance(takes)


def told(stream: Stream) -> list[tuple[float, str]]:
    """What is known: when operations were due, and how they ended."""
    return [(it.due - 100, it.outcome) for it in stream.known()[0]]


def test_times_are_fixed(stream: Stream, clock: ManualClock) -> None:
    """A call that takes long puts off none of the others: they are due when they were."""
    made(stream, clock, takes=3.5)
    for _ in range(4):
        made(stream, clock)
    found, until = stream.known()
    assert [(it.due, it.start, it.end) for it in found] == [
        (100, 100, 103.5),
        (101, 103.5, 103.5),
        (102, 103.5, 103.5),
        (103, 103.5, 103.5),
        (104, 104, 104),
    ]
    assert until == 105


def test_each_write_has_a_key_and_a_version(stream: Stream, clock: ManualClock) -> None:
    """So a lost one is not overwritten; the newest one that was acknowledged is read."""
    for _ in range(2):
        made(stream, clock)
    assert [(it.key, it.written, it.ledger) for it in stream.known()[0]] == [
        ("k:1", 1, 1),
        ("k:2", 2, 1),
    ]
    reads = Stream("read", "redis", "k:", EVERY, DEADLINE, clock)
    turn = reads.take(0, stream.newest)
    assert turn is not None
    assert turn.key == "k:2"
    with reads.under_way(turn):
        turn.read = 2
    read = reads.known()[0][0]
    assert (read.read, read.written, read.ledger) == (2, None, 0)


def test_an_error_is_no_acknowledgement(stream: Stream) -> None:
    """It may have been applied; it is named, and not raised."""
    turn = taken(stream)
    stream.begins(turn)
    with stream.under_way(turn):
        raise ConnectionResetError
    found = stream.known()[0][0]
    assert (found.outcome, found.error) == ("info", "ConnectionResetError")
    assert stream.newest == 0


def test_shed(stream: Stream, clock: ManualClock) -> None:
    """What could not begin within its deadline is not made any more."""
    made(stream, clock, takes=11.5)
    made(stream, clock)  # it was due at 1, which was 10.5 s ago
    made(stream, clock)
    assert told(stream) == [(0, "ok"), (1, "shed"), (2, "ok")]


def test_known_until_the_first_that_is_not_decided(stream: Stream, clock: ManualClock) -> None:
    """A call under way may still end well: all that was due after it waits for it."""
    slow = taken(stream)
    stream.begins(slow)
    clock.advance(1)
    made(stream, clock, worker=1)
    assert stream.known() == ([], 100)
    clock.advance(9.5)  # 10.5 s after the slow one was due
    found, until = stream.known()
    assert [(it.due, it.outcome, it.end) for it in found] == [
        (100, "info", None),
        (101, "ok", 101),
    ]
    assert until == 102


def test_what_no_worker_could_take(stream: Stream, clock: ManualClock) -> None:
    """While all workers hang, the operations that are due are bad all the same."""
    stream.begins(taken(stream))
    clock.advance(12.5)
    assert told(stream) == [(0, "info"), (1, "shed"), (2, "shed")]


def test_the_end(stream: Stream, clock: ManualClock) -> None:
    """None is due after it, one that waits for its time does not begin, and all is known."""
    made(stream, clock)
    waiting = taken(stream)
    clock.advance(0.5)
    stream.stop()
    assert not stream.begins(waiting)
    assert stream.take(0, 0) is None
    clock.advance(100)
    assert told(stream) == [(0, "ok")]


def test_the_end_before_the_begin(clock: ManualClock) -> None:
    """Nothing is due if the begin never came."""
    stream = Stream("read", "redis", "k:", EVERY, DEADLINE, clock)
    stream.stop()
    assert stream.take(0, 0) is None
    assert stream.known()[0] == []


def test_a_stall_is_that_of_an_idle_worker(stream: Stream, clock: ManualClock) -> None:
    """Whoever was busy in a call is late by the call; whoever had nothing to do, by the process."""
    made(stream, clock, takes=3)
    made(stream, clock)
    assert stream.stall == 0
    for _ in range(2):
        made(stream, clock)
    turn = taken(stream)
    clock.now = turn.due + 0.7
    stream.begins(turn)
    assert stream.stall == pytest.approx(0.7)


def test_rows_are_those_of_a_history(stream: Stream, clock: ManualClock) -> None:
    """Checkers read them."""
    made(stream, clock)
    assert all(isinstance(it, Operation) for it in stream.known()[0])
