"""When a primary is lost."""

import pytest

from cachesim.control_plane.states import State
from cachesim.control_plane.timing import PROBE_TIMEOUT
from tests.control_plane.play import DETECTION, MOMENT, PROMOTION, Play


def test_all_is_well(play: Play) -> None:
    """While every node answers, nothing is done and no event recorded."""
    play.run(60)
    assert play.state() is State.AVAILABLE
    assert not play.events
    assert not play.shard.calls


def test_detection_begins_at_once(play: Play) -> None:
    """When a primary does not answer, an event has the durations drawn for its failover."""
    play.down("redis-a")
    event = play.detecting()
    assert play.state() is State.DETECTING
    assert event.source == "redis-a"
    assert event.data["lost_at"] == play.clock.now
    assert DETECTION[0] <= event.data["detection"] <= DETECTION[1]
    assert PROMOTION[0] <= event.data["promotion"] <= PROMOTION[1]
    total = event.data["detection"] + event.data["promotion"]
    assert event.data["promised_at"] == pytest.approx(play.clock.now + total)


def test_detection_takes_the_drawn_time(play: Play) -> None:
    """A primary is considered dead when it has not answered for the drawn time, not earlier."""
    play.down("redis-a")
    detected_at = play.clock.now + play.detecting().data["detection"]
    play.until(detected_at - MOMENT)
    assert play.state() is State.DETECTING
    play.until(detected_at + MOMENT)
    assert play.state() is State.PROMOTING
    assert play.events.of("promoting")[0].source == "redis-a"


def test_both_replicas_deaf(play: Play) -> None:
    """A primary that answers the control plane but neither replica is lost, since it fell mute."""
    play.cut_off("redis-b", "redis-c")
    mute_since = play.clock.now
    play.tick(1)
    assert play.state() is State.DETECTING
    assert play.detecting().data["lost_at"] == mute_since


def test_one_deaf_replica(play: Play) -> None:
    """A primary that one of two replicas hears is not lost."""
    play.cut_off("redis-b")
    play.run(60)
    assert play.state() is State.AVAILABLE
    assert not play.events


def test_loading_primary(play: Play) -> None:
    """A primary that loads its data is not lost, though no replica can follow it."""
    play.shard.nodes["redis-a"].is_loading = True
    play.cut_off("redis-b", "redis-c")
    play.run(60)
    assert play.state() is State.AVAILABLE


def test_silence_that_shrinks(play: Play) -> None:
    """Since when a silent primary is lost comes later by time that does not count."""
    play.down("redis-a")
    detected_at = play.clock.now + play.detecting().data["detection"]
    play.shard.postpone("redis-a", 7.0)
    play.until(detected_at + 7.0 - MOMENT)
    assert play.state() is State.DETECTING
    play.until(detected_at + 7.0 + MOMENT)
    assert play.kinds()[:2] == ["detecting", "promoting"]


def test_lost_since_the_majority_is_deaf(play: Play) -> None:
    """With replicas deaf one after the other, the primary is lost since the later one is."""
    play.cut_off("redis-b")
    play.run(5)
    play.cut_off("redis-c")
    deaf_since = play.clock.now
    play.tick(1)
    assert play.detecting().data["lost_at"] == deaf_since


def test_dead_replicas_are_no_witnesses(play: Play) -> None:
    """Replicas that do not answer themselves are no evidence against the primary."""
    play.cut_off("redis-b", "redis-c")
    play.down("redis-b", "redis-c")
    play.run(5)
    assert play.state() is State.AVAILABLE


def test_hearing_again_while_detecting(play: Play) -> None:
    """A primary that a replica hears again in time stays the primary."""
    play.cut_off("redis-b", "redis-c")
    play.tick(1)
    del play.shard.silent["redis-b", "redis-a"]
    play.tick()
    assert play.state() is State.AVAILABLE


def test_machine_that_stood_still(play: Play) -> None:
    """Time in which nothing was probed does not count for detection."""
    play.down("redis-a")
    play.tick(1000, look=False)
    assert play.state() is State.DETECTING
    play.tick()
    assert play.state() is not State.DETECTING


def test_machine_that_stood_still_with_a_live_primary(play: Play) -> None:
    """After a long standstill one answer of the primary is enough to go on as before."""
    play.down("redis-a")
    play.tick(1000, look=False)
    play.up("redis-a")
    assert play.state() is State.AVAILABLE
    assert not play.shard.calls


def test_evidence_from_before_a_restart(play: Play) -> None:
    """Probes from before a restart do not count after it."""
    play.down("redis-a")
    play.clock.advance(1)
    play.plane.restart("redis-a", "7")
    play.tick(look=False)
    assert play.state() is State.AVAILABLE


def test_probe_from_before_a_restart_that_is_never_answered(play: Play) -> None:
    """A primary that hangs while it is probed is asked no more, and is lost since the restart."""
    play.shard.hung["redis-a"] = play.clock.now
    play.clock.advance(MOMENT)
    restarted_at = play.clock.now
    play.plane.restart("redis-a", "7")
    play.tick(PROBE_TIMEOUT - MOMENT / 2)
    assert not play.events
    play.tick(MOMENT)
    assert play.detecting().data["lost_at"] == restarted_at
    play.until_failover()
    assert play.clock.now - restarted_at >= DETECTION[0] + PROMOTION[0]


def test_silence_from_before_a_restart(play: Play) -> None:
    """Silence from before a restart does not count after it."""
    play.cut_off("redis-b", "redis-c")
    play.tick(1)
    play.plane.restart("redis-a", "7")
    play.tick(look=False)
    assert play.state() is State.AVAILABLE


def test_evidence_from_before_a_promotion(play: Play) -> None:
    """A new primary is not lost because its replicas did not hear it before its promotion."""
    play.cut_off("redis-a", "redis-c", speaker="redis-b")
    play.plane.failover(to="b")
    play.until_failover()
    play.tick(look=False)
    assert not play.events.of("detecting")
