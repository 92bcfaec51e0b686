"""What becomes of the operations while they are recorded."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from cachesim.history.reader import Span
from cachesim.history.recorder import Recorder
from cachesim.scenarios.running.traffic import Traffic
from tests.scenarios.histories import load

BASELINE = Span(0, 10)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """A history that grows."""
    with Recorder(tmp_path / "history.sqlite", interval=3600) as it:
        yield it


@pytest.fixture
def traffic(recorder: Recorder, tmp_path: Path) -> Iterator[Traffic]:
    """What follows it."""
    recorder.flush()
    with closing(Traffic(tmp_path / "history.sqlite", deadline=1, since=0)) as it:
        yield it


def test_counts_as_it_grows(recorder: Recorder, traffic: Traffic) -> None:
    """What was recorded later counts too, once."""
    for begin, outcome in ((0, "ok"), (10, "fail")):
        recorder.add(*load(begin, begin + 10, outcome=outcome))  # type: ignore[arg-type]
        recorder.flush()
        traffic.update()
    traffic.update()
    found = traffic.within("sessions.write", 5, 14.5)
    assert (found.due, found.bad) == (200, 100)
    assert traffic.within("sessions", 5, 14.5) == found
    assert traffic.within("sessions.read", 5, 14.5).due == 0


def test_a_service_with_a_dot(recorder: Recorder, traffic: Traffic) -> None:
    """A service of a user's may have a dot in its name; what is before it is another one."""
    recorder.add(*load(0, 10, service="shop.basket"), *load(0, 10, service="shop"))
    recorder.flush()
    traffic.update()
    for name in ("shop.basket", "shop", "shop.basket.write"):
        assert traffic.within(name, 0, 9.5).due == 200


def test_late_answers_are_bad(recorder: Recorder, traffic: Traffic) -> None:
    """Good is what was answered within the deadline of its due time."""
    recorder.add(*load(0, 5, took=0.6), *load(5, 10, took=0.6, late=0.5))
    recorder.flush()
    traffic.update()
    assert traffic.within("sessions", 0, 4.9).bad == 0
    assert traffic.within("sessions", 5, 9.9).share == 1


def test_unavailable(recorder: Recorder, traffic: Traffic) -> None:
    """A class that mostly fails is not served; what is not due is not told."""
    recorder.add(*load(0, 10), *load(10, 12, outcome="fail"), *load(0, 12, kind="read"))
    recorder.flush()
    traffic.update()
    assert traffic.unavailable(10, 11.9) == ["sessions.write"]
    assert traffic.unavailable(5, 9.4) == []
    assert traffic.unavailable(20, 21) == []


@pytest.mark.parametrize(("end", "calm"), [(40.0, True), (30.0, False)])
def test_as_before(recorder: Recorder, traffic: Traffic, end: float, calm: bool) -> None:
    """All of a time is as in the baseline, also the rate."""
    recorder.add(*load(0, 20), *load(20, 22, outcome="fail"), *load(22, end))
    recorder.flush()
    traffic.update()
    assert traffic.is_as_before(BASELINE, 23, 38) == calm
    assert not traffic.is_as_before(BASELINE, 15, 28)


def test_nothing_is_reported(traffic: Traffic) -> None:
    """A command that reports no operations may be in the middle of what it tries."""
    traffic.update()
    assert not traffic.is_as_before(BASELINE, 15, 75)


def test_what_pods_load_before(recorder: Recorder, traffic: Traffic) -> None:
    """It is no traffic of the baseline, though it may come right before: later there is less."""
    recorder.add(*load(-0.2, 0, 0.001), *load(0, 80))
    recorder.flush()
    traffic.update()
    assert traffic.is_as_before(BASELINE, 15, 75)


@pytest.mark.parametrize(("gap", "calm"), [(0.5, True), (0.1, False)])
def test_what_is_rare(recorder: Recorder, traffic: Traffic, gap: float, calm: bool) -> None:
    """The few writes of a cache may be those that meet a dead node, while its reads are served."""
    recorder.add(*load(0, 80, 0.02, kind="read"), *load(0, 30, gap))
    recorder.add(*load(30, 35, gap, "fail"), *load(35, 80, gap))
    recorder.flush()
    traffic.update()
    assert traffic.is_as_before(BASELINE, 15, 75) == calm


@pytest.mark.parametrize(
    ("dips", "length", "calm"),
    [((30,), 0.2, True), ((30,), 0.4, False), (range(20, 60, 5), 0.2, False)],
)
def test_dips(
    recorder: Recorder, traffic: Traffic, dips: Sequence[float], length: float, calm: bool
) -> None:
    """A few bad ones now and then are a client's steady state, if they are no outage."""
    begin = 0.0
    for dip in dips:
        recorder.add(*load(begin, dip), *load(dip, dip + length, outcome="fail"))
        begin = dip + length
    recorder.add(*load(begin, 80))
    recorder.flush()
    traffic.update()
    assert traffic.is_as_before(BASELINE, 15, 75) == calm
