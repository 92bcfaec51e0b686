"""A primary that is to be replaced is succeeded by a replica, without lost writes."""

import pytest

from cachesim.control_plane.failover import _SUCCESSION_LIMIT
from cachesim.control_plane.states import State
from cachesim.errors import FaultError
from tests.control_plane.play import Play


@pytest.fixture
def play() -> Play:
    """A healthy shard."""
    return Play()


def test_at_once(play: Play) -> None:
    """Writes wait, a replica in sync is promoted, and the writes go on; the event says so."""
    play.plane.hand_over("0001")
    play.tick()
    assert play.plane.shard().primary == "redis-b"
    calls = [call[:2] for call in play.shard.calls]
    order = [("pause_writes", "redis-a"), ("promote", "redis-b"), ("resume_writes", "redis-a")]
    assert [call for call in calls if call in order] == order
    (event,) = play.events.of("handing-over")
    assert event.source == "redis-a"
    assert "Test Failover" not in str(play.events)


def test_waits_for_all_writes(play: Play) -> None:
    """A replica that lags is not promoted before it has all writes."""
    play.shard.unsynced |= {"redis-b", "redis-c"}
    play.plane.hand_over("0001")
    play.run(1.0)
    assert play.plane.shard().primary == "redis-a"
    play.shard.unsynced.clear()
    play.tick()
    assert play.plane.shard().primary == "redis-b"


def test_gives_up(play: Play) -> None:
    """If no replica gets all writes in time, the primary stays, and takes writes again."""
    play.shard.unsynced |= {"redis-b", "redis-c"}
    play.plane.hand_over("0001")
    play.run(_SUCCESSION_LIMIT + 1)
    assert (play.plane.shard().primary, play.state()) == ("redis-a", State.AVAILABLE)
    assert play.shard.calls[-1] == ("resume_writes", "redis-a")


def test_gives_up_after_a_fence(play: Play) -> None:
    """If no replica can be promoted, the primary is not left fenced."""
    play.shard.unpromotable |= {"redis-b", "redis-c"}
    play.plane.hand_over("0001")
    play.run(_SUCCESSION_LIMIT + 1)
    assert (play.plane.shard().primary, play.state()) == ("redis-a", State.AVAILABLE)
    assert ("fence", "redis-a") in play.shard.calls
    assert play.shard.calls[-2:] == [("resume_writes", "redis-a"), ("unfence", "redis-a")]


def test_primary_that_dies_after_a_fence(play: Play) -> None:
    """If the primary of a succession that is given up is dead, it is failed over as any other."""
    play.shard.unpromotable |= {"redis-b", "redis-c"}
    play.plane.hand_over("0001")
    play.run(1.0)
    assert ("fence", "redis-a") in play.shard.calls
    play.down("redis-a")
    play.run(_SUCCESSION_LIMIT)
    assert play.state() is State.DETECTING
    play.shard.unpromotable.clear()
    play.until_failover()


def test_primary_that_comes_back_fenced(play: Play) -> None:
    """If it is back before it is held for dead, it is not left fenced."""
    play.shard.unpromotable |= {"redis-b", "redis-c"}
    play.plane.hand_over("0001")
    play.run(_SUCCESSION_LIMIT - 0.5)
    play.down("redis-a")
    play.run(1.0)
    assert play.state() is State.DETECTING
    play.shard.calls.clear()
    play.up("redis-a")
    assert play.state() is State.AVAILABLE
    assert ("unfence", "redis-a") in play.shard.calls
    play.run(1.0)
    assert play.shard.calls.count(("unfence", "redis-a")) == 1


def test_during_a_failover(play: Play) -> None:
    """It can't begin while a failover is in progress."""
    play.plane.failover()
    with pytest.raises(FaultError, match="in progress"):
        play.plane.hand_over("0001")


def test_recovery_of_what_others_replaced(play: Play) -> None:
    """A node that was replaced by hand is reported as recovering, then as recovered."""
    for node in ("redis-b", "memcached-a"):
        play.plane.replaced(node)
        play.tick()
        assert [e.kind for e in play.events if e.source == node] == ["recovering", "recovered"]
