"""Which time counts: that in which nodes could have answered."""

import threading

import pytest

from cachesim.clock import ManualClock
from cachesim.control_plane.metronome import INTERVAL, Metronome
from cachesim.errors import CachesimError
from cachesim.events import EventLog


class Surroundings:
    """A metronome whose time and witness are the test's."""

    def __init__(self, *, witnesses: int = 1) -> None:
        self.clock = ManualClock(100.0)
        self.events = EventLog(self.clock)
        self.tolerance = 0.0
        self.answer_takes = 0.001
        self.gone: set[int] = set()
        self.asked: list[int] = []
        self.metronome = Metronome(
            [lambda number=number: self.answer(number) for number in range(witnesses)],  # type: ignore[misc]
            self.events,
            "sessions",
            lambda: self.tolerance,
            self.clock,
        )

    def answer(self, number: int) -> None:
        """Answer as a witness does."""
        self.asked.append(number)
        if number in self.gone:
            raise CachesimError("gone")
        self.clock.advance(self.answer_takes)

    def beat(self, count: int = 1) -> None:
        """Beat on schedule."""
        for _ in range(count):
            self.clock.advance(INTERVAL)
            self.metronome.beat()

    def uncounted(self, since: float) -> float:
        """Seconds that do not count, until now."""
        return sum(self.metronome.standstills(since, self.clock.now))


@pytest.fixture
def around() -> Surroundings:
    """All is quick, until the test says otherwise."""
    return Surroundings()


def test_all_counts(around: Surroundings) -> None:
    """As long as it beats on schedule, all time counts."""
    around.beat(100)
    assert around.uncounted(100.0) == 0
    assert not around.events


def test_standstill(around: Surroundings) -> None:
    """The time in which nothing ran does not count."""
    around.beat(10)
    begun = around.clock.now
    around.clock.advance(2.0)
    around.metronome.beat()
    around.beat(10)
    assert around.uncounted(begun) == pytest.approx(2.0 + around.answer_takes)


def test_standstill_that_nobody_has_noted(around: Surroundings) -> None:
    """The first thread that runs after a standstill learns that it does not count."""
    around.beat()
    begun = around.clock.now
    around.clock.advance(2.0)
    assert around.uncounted(begun) == pytest.approx(2.0)


def test_part_of_a_standstill(around: Surroundings) -> None:
    """Of a standstill no more is left out than lies between the two moments."""
    around.beat()
    around.clock.advance(2.0)
    around.metronome.beat()
    now = around.clock.now
    assert around.metronome.standstills(now - 1.0, now - 0.5) == [pytest.approx(0.5)]
    assert around.metronome.standstills(now, now + 1.0) == []


def test_slow_witness(around: Surroundings) -> None:
    """Time in which not even the witness answered does not count."""
    around.beat()
    begun = around.clock.now
    around.answer_takes = 0.5
    around.beat()
    assert around.uncounted(begun) == pytest.approx(0.5 + INTERVAL)


def test_somewhat_late(around: Surroundings) -> None:
    """A beat that is a little late is none too late."""
    around.beat()
    begun = around.clock.now
    around.answer_takes = 0.04
    around.beat()
    assert around.uncounted(begun) == 0


def test_beat_that_is_somewhat_overdue(around: Surroundings) -> None:
    """Nor is one that has not come yet, but is not overdue by much."""
    around.beat()
    begun = around.clock.now
    around.clock.advance(INTERVAL + 0.04)
    assert around.uncounted(begun) == 0


def test_tolerance(around: Surroundings) -> None:
    """Where answers are slow anyway, a beat may be as late as they are."""
    around.beat()
    begun = around.clock.now
    around.answer_takes, around.tolerance = 0.5, 0.6
    around.beat()
    assert around.uncounted(begun) == 0


def test_another_witness() -> None:
    """While one witness is gone another one will do, and is asked first from then on."""
    around = Surroundings(witnesses=3)
    around.gone = {0}
    around.beat(3)
    assert around.asked == [0, 1, 1, 1]
    assert around.uncounted(100.0) == 0


def test_no_witness() -> None:
    """Without any witness no time counts."""
    around = Surroundings(witnesses=2)
    around.beat()
    begun = around.clock.now
    around.gone = {0, 1}
    around.beat(40)
    assert around.uncounted(begun) == pytest.approx(40 * INTERVAL)


@pytest.mark.parametrize(
    ("late", "slow", "message"),
    [
        (1.2, 0.0, "this process stood still for 1.2 s"),
        (0.1, 2.0, "nothing answered for 2.1 s, not even Toxiproxy"),
    ],
)
def test_event(around: Surroundings, late: float, slow: float, message: str) -> None:
    """A standstill has an event, which says whose it was."""
    around.beat()
    around.clock.advance(late)
    around.answer_takes = slow
    around.beat()
    (event,) = around.events
    assert (event.kind, event.source) == ("standstill", "sessions")
    assert event.message == f"{message}: that time does not count for failovers"
    assert event.data["seconds"] == pytest.approx(late + slow)


def test_thread() -> None:
    """It beats by itself from its start to its end."""
    beats = threading.Semaphore(0)
    metronome = Metronome([beats.release], EventLog(), "sessions", lambda: 0.0)
    metronome.start()
    for _ in range(2):
        assert beats.acquire(timeout=10)
    metronome.stop()
    while beats.acquire(blocking=False):
        pass
    assert not beats.acquire(timeout=3 * INTERVAL)


def test_events_of_many_standstills(around: Surroundings) -> None:
    """Standstills that follow each other have one event, and none is left out."""
    around.beat()
    for _ in range(4):
        around.clock.advance(0.5)
        around.metronome.beat()
    around.beat(100)
    first, rest = around.events
    assert first.data["seconds"] == pytest.approx(0.45, abs=0.01)
    assert rest.data["seconds"] == pytest.approx(3 * 0.45, abs=0.01)


def test_short_standstills_are_not_told(around: Surroundings) -> None:
    """A standstill that is too short to matter has no event."""
    around.beat()
    around.clock.advance(0.2)
    around.metronome.beat()
    assert not around.events
