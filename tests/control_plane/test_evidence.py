"""When silence counts, with made-up time and answers."""

import pytest

from cachesim.clock import ManualClock
from cachesim.control_plane.evidence import Observations, Probe
from cachesim.control_plane.timing import INTERVAL, PROBE_TIMEOUT

QUICK = 0.002  # seconds
MOMENT = 0.001


class Prober:
    """The observations of three nodes, while `standstill` seconds do not count."""

    def __init__(self) -> None:
        self.clock = ManualClock(100.0)
        self.noted: list[tuple[float, float]] = []
        self.evidence = Observations(self.clock, self.standstills)

    def standstills(self, since: float, until: float) -> list[float]:
        """See `Metronome.standstills`."""
        overlaps = (min(until, end) - max(since, begin) for begin, end in self.noted)
        return [seconds for seconds in overlaps if seconds > 0]

    def stand_still(self, seconds: float) -> None:
        """Let time pass that does not count."""
        self.noted.append((self.clock.now, self.clock.now + seconds))
        self.clock.advance(seconds)

    def answer(self, *nodes: str, seconds: float = QUICK) -> None:
        """Let nodes answer a probe, all after the same time."""
        for node in nodes:
            self.evidence.asked(node)
        self.clock.advance(seconds)
        for node in nodes:
            self.evidence.answered(node, Probe(True, 0.0, 0.0))
        self.clock.advance(INTERVAL)

    def missed(self, node: str) -> Probe:
        """Return the probe of a node that counts as unreachable."""
        probe = self.evidence.probe(node)
        assert probe is not None
        assert not probe.answered
        return probe

    def answers(self, node: str) -> bool:
        """Return whether a node counts as reachable."""
        probe = self.evidence.probe(node)
        assert probe is not None
        return probe.answered


@pytest.fixture
def prober() -> Prober:
    """All three have answered quickly."""
    prober = Prober()
    prober.answer("a", "b", "c")
    return prober


def test_unknown() -> None:
    """A node that was never probed has no probe."""
    assert Prober().evidence.probe("a") is None


def test_answering_since(prober: Prober) -> None:
    """A node answers since its first answer, and was asked last when its last probe began."""
    first = prober.evidence.probe("a")
    prober.answer("a", "b", "c")
    last = prober.evidence.probe("a")
    assert first is not None
    assert last is not None
    assert last.since == first.since == first.at < last.at


def test_silence(prober: Prober) -> None:
    """A silent node is unreachable after the timeout, since it was asked."""
    asked = prober.evidence.asked("a")
    prober.clock.advance(PROBE_TIMEOUT - MOMENT)
    assert prober.answers("a")
    prober.clock.advance(2 * MOMENT)
    probe = prober.missed("a")
    assert probe.since == pytest.approx(asked)
    assert probe.until == prober.clock.now


def test_timeout(prober: Prober) -> None:
    """At a high speed the timeout is a shorter one."""
    prober.evidence.timeout = 0.05
    prober.evidence.asked("a")
    prober.clock.advance(0.05 + MOMENT)
    assert not prober.answers("a")


def test_certain(prober: Prober) -> None:
    """A node that refuses is missed at once, since it was asked."""
    asked = prober.evidence.asked("a")
    prober.clock.advance(QUICK)
    prober.evidence.failed("a", asked)
    probe = prober.missed("a")
    assert probe.since == pytest.approx(asked)


@pytest.mark.parametrize("has_answered", [False, True])
def test_closed_long_before_it_is_noticed(prober: Prober, has_answered: bool) -> None:
    """It shows nothing of the time after the probe began, when another process may have come."""
    asked = prober.evidence.asked("a")
    if has_answered:  # all but the heartbeat
        prober.evidence.answered("a", Probe(True, 0.0, 0.0))
    prober.clock.advance(PROBE_TIMEOUT - MOMENT)
    prober.evidence.failed("a", asked)
    probe = prober.missed("a")
    assert (probe.at, probe.until) == (asked, asked)


def test_closed_after_silence(prober: Prober) -> None:
    """A node that was silent, and closes connections then, was not there all the time."""
    asked = prober.evidence.asked("a")
    prober.clock.advance(2 * PROBE_TIMEOUT)
    prober.evidence.failed("a", asked)
    assert prober.missed("a").until == prober.clock.now


def test_never_there() -> None:
    """A node that has never answered is unreachable too, whether it refuses or is silent."""
    prober = Prober()
    for node in ("a", "b"):
        prober.evidence.asked(node)
    begun = prober.clock.now
    prober.clock.advance(MOMENT)
    prober.evidence.failed("a", begun)
    prober.clock.advance(PROBE_TIMEOUT)
    for node in ("a", "b"):
        probe = prober.missed(node)
        assert probe.since == pytest.approx(begun)


def test_standstill(prober: Prober) -> None:
    """Time that does not count is no silence."""
    prober.evidence.asked("a")
    prober.stand_still(10.0)
    assert prober.answers("a")
    prober.clock.advance(PROBE_TIMEOUT + MOMENT)
    probe = prober.missed("a")
    assert probe.since == pytest.approx(prober.clock.now - PROBE_TIMEOUT - MOMENT)


def test_standstill_after_silence(prober: Prober) -> None:
    """Since when a silent node is missed comes later by time that does not count."""
    asked = prober.evidence.asked("a")
    prober.clock.advance(1.0)
    prober.stand_still(10.0)
    probe = prober.missed("a")
    assert probe.since == pytest.approx(asked + 10.0)


def test_refused_and_then_silent(prober: Prober) -> None:
    """A node that was dead and is silent then is unreachable since it was dead."""
    asked = prober.evidence.asked("a")
    prober.evidence.failed("a", asked)
    prober.clock.advance(1.0)
    prober.evidence.asked("a")
    prober.clock.advance(1.0)
    probe = prober.missed("a")
    assert probe.since == pytest.approx(asked)
    assert probe.until == prober.clock.now


def test_slow_nodes(prober: Prober) -> None:
    """Where a node was slow of late, another is missed after four times as long only."""
    prober.answer("b", seconds=0.2)
    prober.evidence.asked("a")
    prober.clock.advance(0.8 - MOMENT)
    assert prober.answers("a")
    prober.clock.advance(2 * MOMENT)
    assert not prober.answers("a")


def test_slow_long_ago(prober: Prober) -> None:
    """An answer that was slow more than 5 s ago does not count any more."""
    prober.answer("b", seconds=0.2)
    prober.clock.advance(5.0)
    prober.answer("b")
    prober.evidence.asked("a")
    prober.clock.advance(PROBE_TIMEOUT + MOMENT)
    assert not prober.answers("a")


def test_slowest(prober: Prober) -> None:
    """Of several answers the slowest counts, whatever comes after it."""
    for seconds in (0.1, 0.2, 0.05, 0.01):
        prober.answer("b", seconds=seconds)
    assert prober.evidence.slowest() == pytest.approx(0.2)


def test_last_answer_was_long_ago(prober: Prober) -> None:
    """If no node has answered since, the last answers count, however old they are."""
    prober.answer("a", "b", "c", seconds=0.2)
    prober.evidence.asked("a")
    prober.stand_still(10.0)
    prober.clock.advance(0.8 - MOMENT)
    assert prober.answers("a")


def test_answer_over_a_standstill(prober: Prober) -> None:
    """An answer that a standstill has held up is no slow one."""
    prober.evidence.asked("a")
    prober.stand_still(2.0)
    prober.clock.advance(QUICK)
    prober.evidence.answered("a", Probe(True, 0.0, 0.0))
    assert prober.evidence.slowest() == pytest.approx(QUICK)


def test_answer_over_many_standstills(prober: Prober) -> None:
    """If standstills follow each other, an answer takes as long as they do."""
    prober.evidence.asked("a")
    for _ in range(4):
        prober.stand_still(0.05)
        prober.clock.advance(QUICK)
    prober.evidence.answered("a", Probe(True, 0.0, 0.0))
    assert prober.evidence.slowest() == pytest.approx(3 * 0.05 + 4 * QUICK)


def test_all_get_slow(prober: Prober) -> None:
    """When all nodes get slow at once, their answers tell, even those that came too late."""
    for seconds in (0.5, 1.0, 1.0):
        prober.answer("a", "b", "c", seconds=seconds)
    prober.evidence.asked("a")
    prober.clock.advance(2.0)
    assert prober.answers("a")


def test_one_stood_still(prober: Prober) -> None:
    """A node that stood still while others answered does not tell how slow answers are."""
    prober.evidence.asked("a")
    for _ in range(20):
        prober.answer("b", "c")
    prober.evidence.answered("a", Probe(True, 0.0, 0.0))
    prober.evidence.asked("b")
    prober.clock.advance(PROBE_TIMEOUT + MOMENT)
    assert not prober.answers("b")


def test_answering_again(prober: Prober) -> None:
    """A node that was missed answers since it was asked for that answer, as a new one would."""
    asked = prober.evidence.asked("a")
    prober.clock.advance(1.0)
    prober.evidence.answered("a", Probe(True, 0.0, 0.0))
    probe = prober.evidence.probe("a")
    assert probe is not None
    assert probe.since == asked


def test_answer_after_a_closed_connection(prober: Prober) -> None:
    """It is that of a new process, from whose answers those of the former one tell nothing."""
    prober.evidence.asked("a")
    prober.clock.advance(PROBE_TIMEOUT - MOMENT)
    prober.evidence.closed("a", 0.0)
    closed = prober.clock.now
    prober.evidence.asked("a")
    prober.clock.advance(QUICK)
    prober.evidence.answered("a", Probe(True, 0.0, 0.0))
    probe = prober.evidence.probe("a")
    assert probe is not None
    assert (probe.answered, probe.since, probe.at) == (True, closed, closed)
    assert prober.evidence.slowest() == pytest.approx(QUICK)
    prober.answer("a")
    later = prober.evidence.probe("a")
    assert later is not None
    assert later.since == closed


@pytest.mark.parametrize("is_answered", [False, True])
def test_nobody_after_a_closed_connection(prober: Prober, is_answered: bool) -> None:
    """A node that has closed a connection, and refuses the next, is missed since it was asked.

    It may have answered all but the heartbeat.
    """
    asked = prober.clock.now
    if not is_answered:
        prober.evidence.asked("a")
    prober.clock.advance(QUICK)
    prober.evidence.closed("a", asked)
    prober.evidence.asked("a")
    prober.clock.advance(QUICK)
    prober.evidence.failed("a", prober.clock.now)
    assert prober.missed("a").since == pytest.approx(asked)
    prober.clock.advance(1.0)
    again = prober.evidence.asked("a")
    prober.evidence.answered("a", Probe(True, 0.0, 0.0))
    probe = prober.evidence.probe("a")
    assert probe is not None
    assert probe.since == again


def test_new_process_that_answers_and_dies(prober: Prober) -> None:
    """It is missed since it was asked, not since its predecessor was."""
    first = prober.evidence.asked("a")
    prober.clock.advance(QUICK)
    prober.evidence.closed("a", first)
    closed = prober.clock.now
    prober.evidence.asked("a")
    prober.evidence.answered("a", Probe(True, 0.0, 0.0))
    prober.evidence.failed("a", first)
    assert prober.missed("a").since == pytest.approx(closed)


def test_connecting_is_no_answer(prober: Prober) -> None:
    """The time that connecting took does not tell how slow answers are."""
    prober.evidence.asked("a")
    prober.clock.advance(0.2)
    begun = prober.clock.now
    prober.clock.advance(QUICK)
    prober.evidence.answered("a", Probe(True, 0.0, 0.0), begun)
    assert prober.evidence.slowest() == pytest.approx(QUICK)


def test_nothing_learnt(prober: Prober) -> None:
    """When this process could not ask, what is known stays, and no silence begins."""
    prober.evidence.asked("a")
    prober.evidence.unknown("a")
    prober.clock.advance(10.0)
    assert prober.answers("a")


# --- over the cluster bus -------------------------------------------------------------------


def hear(prober: Prober, *pairs: tuple[str, str]) -> None:
    """Let each node's heartbeat reach the node itself, and others over those links."""
    for node in ("a", "b", "c"):
        prober.evidence.published(node, prober.clock.now)
        prober.evidence.heard(node, node)
    for listener, speaker in pairs:
        prober.evidence.heard(listener, speaker)


def hear_for(prober: Prober, seconds: float, *pairs: tuple[str, str]) -> None:
    """Let some time pass with heartbeats as always."""
    end = prober.clock.now + seconds
    while prober.clock.now < end:
        prober.clock.advance(INTERVAL)
        hear(prober, *pairs)


def test_deaf(prober: Prober) -> None:
    """A node that hears itself but not another is deaf to it since it last heard it."""
    hear(prober, ("b", "a"))
    heard_at = prober.clock.now
    hear_for(prober, PROBE_TIMEOUT + MOMENT)
    silence = prober.evidence.silence("b", "a")
    assert silence is not None
    assert silence.since == pytest.approx(heard_at)
    assert silence.until == prober.clock.now


def test_not_deaf(prober: Prober) -> None:
    """A node that has missed little of another, or was never listening, is not deaf."""
    hear(prober, ("b", "a"))
    prober.clock.advance(PROBE_TIMEOUT - MOMENT)
    hear(prober)
    assert prober.evidence.silence("b", "a") is None
    assert prober.evidence.silence("c", "a") is None


def test_deaf_to_itself(prober: Prober) -> None:
    """A node that does not even hear itself is none that others could tell to be deaf."""
    hear(prober, ("b", "a"))
    prober.clock.advance(10.0)
    prober.evidence.published("a", prober.clock.now)
    assert prober.evidence.silence("b", "a") is None


def test_deaf_while_nothing_ran(prober: Prober) -> None:
    """Time that does not count is no silence between nodes either."""
    hear(prober, ("b", "a"))
    prober.stand_still(10.0)
    hear(prober)
    assert prober.evidence.silence("b", "a") is None


def test_deaf_after_an_absence(prober: Prober) -> None:
    """A replica that was away has not missed its primary: its silence begins with its return."""
    hear(prober, ("b", "a"))
    for _ in range(100):
        prober.clock.advance(INTERVAL)
        prober.evidence.published("a", prober.clock.now)
    hear(prober)
    back_at = prober.clock.now
    assert prober.evidence.silence("b", "a") is None
    hear_for(prober, PROBE_TIMEOUT + MOMENT)
    silence = prober.evidence.silence("b", "a")
    assert silence is not None
    assert silence.since == pytest.approx(back_at)


def test_deaf_to_one_that_was_away(prober: Prober) -> None:
    """A primary that was away and is back was not mute meanwhile: it is told by its probes."""
    hear(prober, ("b", "a"))
    for _ in range(100):
        prober.clock.advance(INTERVAL)
        prober.evidence.heard("b", "b")
    hear(prober)
    assert prober.evidence.silence("b", "a") is None
    hear_for(prober, PROBE_TIMEOUT + MOMENT)
    assert prober.evidence.silence("b", "a") is not None


def test_deaf_after_a_quick_restart(prober: Prober) -> None:
    """So it is if it was away for less than a silence takes: somebody listens anew."""
    hear(prober, ("b", "a"))
    hear_for(prober, 4 * INTERVAL)
    prober.evidence.listens("b", "a")
    hear_for(prober, 2 * INTERVAL)
    assert prober.evidence.silence("b", "a") is None


def test_deaf_on_a_slow_machine(prober: Prober) -> None:
    """Heartbeats that are as late as answers are do not make a silence begin anew."""
    hear(prober, ("b", "a"))
    heard_at = prober.clock.now
    for _ in range(4):
        prober.answer("a", "b", "c", seconds=0.5)
        hear(prober)
    silence = prober.evidence.silence("b", "a")
    assert silence is not None
    assert silence.since == pytest.approx(heard_at)
