"""How long the phases take."""

import json

import pytest

from cachesim.control_plane.timing import Timing
from cachesim.settings import Settings
from tests.control_plane.play import DETECTION, PROMOTION, REPLACEMENT, Play


def test_longest_failover() -> None:
    """The longest failover is the longest detection and the longest promotion, at that speed."""
    assert Timing(DETECTION, PROMOTION, REPLACEMENT, 15.0, 10.0).longest_failover == 3.0


@pytest.mark.parametrize(("speed", "timeout"), [(1, 0.25), (20, 0.25), (100, 0.05)])
def test_probe_timeout(speed: float, timeout: float) -> None:
    """A probe's timeout is a quarter of a second, or half of the shortest detection."""
    assert Timing(DETECTION, PROMOTION, REPLACEMENT, 15.0, speed).probe_timeout == timeout


def test_detection_at_speed() -> None:
    """At a speed of 30 the same draws take a thirtieth."""
    play, fast = Play(), Play(speed=30)
    play.down("redis-a")
    fast.down("redis-a")
    for phase in ("detection", "promotion"):
        slow = play.detecting().data[phase]
        assert fast.detecting().data[phase] == pytest.approx(slow / 30)


@pytest.mark.parametrize(("speed", "interval"), [(1, 0.25), (10, 0.15), (20, 0.075), (100, 0.05)])
def test_probe_interval(speed: float, interval: float) -> None:
    """Nodes are probed ten times in the shortest failover, within bounds."""
    timing = Timing(DETECTION, PROMOTION, REPLACEMENT, 15.0, speed)
    assert timing.probe_interval == pytest.approx(interval)


def test_timing_of_settings() -> None:
    """Each duration is that of its setting."""
    settings = Settings(
        detection_seconds=(1, 2),
        promotion_seconds=(3, 4),
        replacement_seconds=(5, 6),
        node_timeout_seconds=7,
        speed=8,
    )
    assert Timing.of(settings) == Timing((1, 2), (3, 4), (5, 6), 7, 8)


def test_timing_as_json() -> None:
    """A timing is the same after it has been JSON."""
    timing = Timing((1, 2), (3, 4), (5, 6), 7, 8)
    data = json.loads(json.dumps(timing.as_dict()))
    assert data["promotion"] == [3, 4]
    assert Timing.from_dict(data) == timing
    assert hash(Timing.from_dict(data)) == hash(timing)
