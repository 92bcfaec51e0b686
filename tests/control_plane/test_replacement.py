"""When dead nodes are replaced, and how their recovery is reported."""

import pytest

from cachesim.control_plane.states import State
from cachesim.control_plane.timing import INTERVAL
from cachesim.topology import Role
from tests.control_plane.play import DETECTION, MOMENT, REPLACEMENT, Play


def test_replacement_after_time_that_does_not_count(play: Play) -> None:
    """A silent node is replaced later by the time that did not count."""
    play.down("memcached-a")
    play.shard.postpone("memcached-a", 70.0)
    play.run(DETECTION[1] + REPLACEMENT[1])
    assert not play.shard.calls
    play.run(70.0)
    assert play.shard.calls == [("replace", "memcached-a")]


def test_one_that_can_not_be_started(play: Play) -> None:
    """It is told, and keeps no other one from being replaced."""
    play.shard.unstartable.add("memcached-a")
    play.down("memcached-a", "memcached-b")
    play.run(DETECTION[1] + REPLACEMENT[1] + 20)
    assert {event.source for event in play.events.of("waiting")} == {"memcached-a"}
    assert play.shard.nodes["memcached-b"].up


def test_error_in_a_replacement(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody expected is told once and keeps nothing else waiting; it is tried again."""
    replace = play.shard.replace

    def refuse(node: str) -> None:
        if node == "redis-b":
            raise OSError("no engine")
        replace(node)

    with monkeypatch.context() as patch:
        patch.setattr(play.plane.shard().replacement, "_replace_node", refuse)
        play.down("redis-b", "memcached-c")
        play.run(DETECTION[1] + REPLACEMENT[1] + 20)
        assert play.shard.nodes["memcached-c"].up
        (told,) = (e.message for e in play.events.of("waiting") if e.source == "redis-b")
        assert "no engine" in told
        play.fail_over()
    play.tick()
    assert play.shard.nodes["redis-b"].up


def test_old_primary_recovers(play: Play) -> None:
    """The old primary comes back as a replica, with ElastiCache's events, and all is well."""
    play.fail_over()
    play.until_state(State.AVAILABLE)
    recovery = [e for e in play.events if e.kind in ("recovering", "recovered")]
    assert [(e.source, e.message) for e in recovery] == [
        ("redis-a", "Recovering cache nodes redis-a"),
        ("redis-a", "Finished recovery for cache nodes redis-a"),
    ]
    assert play.shard.calls[-2:] == [("replace", "redis-a"), ("unfence", "redis-a")]


def test_not_available_before_the_old_primary_is_in_sync(play: Play) -> None:
    """An old primary that lags behind is not recovered, and keeps its fence."""
    play.shard.unsynced.add("redis-a")
    play.fail_over()
    play.run(REPLACEMENT[1] + 20)
    assert play.state() is State.REPLACING
    assert not play.events.of("recovered")
    assert ("unfence", "redis-a") not in play.shard.calls
    play.shard.unsynced.clear()
    play.tick()
    assert play.state() is State.AVAILABLE


def test_recovery_while_the_new_primary_does_not_answer(play: Play) -> None:
    """It is not asked whether the old one lags: all waits for its answer, its failover too."""
    play.fail_over()
    play.shard.nodes["redis-a"].role = Role.REPLICA
    play.shard.unsynced.add("redis-a")
    play.up("redis-a")
    play.down("redis-b")
    play.until_failover()
    assert not play.shard.unanswered


def test_old_primary_that_comes_back_by_itself(play: Play) -> None:
    """An old primary that answers as a replica recovers without a new process."""
    play.fail_over()
    play.shard.nodes["redis-a"].role = Role.REPLICA
    play.up("redis-a")
    assert play.state() is State.AVAILABLE
    assert [e.kind for e in play.events][-2:] == ["recovering", "recovered"]
    assert ("replace", "redis-a") not in play.shard.calls


def test_old_primary_is_replaced_after_the_drawn_time(play: Play) -> None:
    """A dead old primary gets a new process some time after the promotion, not before."""
    play.fail_over()
    promoted_at = play.clock.now
    while ("replace", "redis-a") not in play.shard.calls:
        play.tick()
    took = play.clock.now - promoted_at
    assert REPLACEMENT[0] <= took <= REPLACEMENT[1] + INTERVAL + MOMENT


@pytest.mark.parametrize("node", ["redis-b", "memcached-c"])
def test_dead_node_is_replaced(play: Play, node: str) -> None:
    """Any dead node is found after the time of a detection and replaced after another."""
    play.down(node)
    died_at = play.clock.now
    while ("replace", node) not in play.shard.calls:
        play.tick()
    took = play.clock.now - died_at
    assert DETECTION[0] + REPLACEMENT[0] <= took
    assert took <= DETECTION[1] + REPLACEMENT[1] + INTERVAL + MOMENT
    play.run(1)
    assert play.kinds() == ["recovering", "recovered"]
    assert play.state() is State.AVAILABLE


def test_node_that_comes_back_is_not_replaced(play: Play) -> None:
    """A node that answers again in time is left alone, and the count begins anew."""
    play.down("memcached-a")
    play.run(35)
    play.up("memcached-a")
    play.down("memcached-a")
    play.run(35)
    assert not play.shard.calls


def test_dead_primary_is_not_replaced_before_a_promotion(play: Play) -> None:
    """A dead primary gets no new process while a replica can take over from it."""
    play.shard.unpromotable.update(("redis-b", "redis-c"))
    play.down("redis-a")
    play.run(DETECTION[1] + REPLACEMENT[1] + 30)
    assert ("replace", "redis-a") not in play.shard.calls


def test_all_nodes_dead(play: Play) -> None:
    """With no replica left the primary gets a new process like any other node."""
    play.down("redis-b", "redis-c", "redis-a")
    play.run(DETECTION[1] + REPLACEMENT[1] + 1)
    assert {("replace", f"redis-{zone}") for zone in "abc"} <= set(play.shard.calls)


def test_recovery_of_the_primary(play: Play) -> None:
    """A primary that got a new process, with no replica left, has the events of a recovery."""
    play.shard.unpowered.update("bc")
    play.down("redis-b", "redis-c", "redis-a")
    play.until_state(State.AVAILABLE)
    play.tick()
    assert play.plane.shard().primary == "redis-a"
    recovery = [e for e in play.events if e.source == "redis-a" and e.kind.startswith("recover")]
    assert [event.kind for event in recovery] == ["recovering", "recovered"]
    assert recovery[-1].message == "Finished recovery for cache nodes redis-a"


def test_no_power(play: Play) -> None:
    """A node in a zone without power has one event, and is replaced when the power is back."""
    play.shard.unpowered.add("c")
    play.down("memcached-c")
    play.run(DETECTION[1] + REPLACEMENT[1] + 30)
    assert [(e.kind, e.source) for e in play.events] == [("waiting", "memcached-c")]
    assert "no power" in play.events.of("waiting")[0].message
    play.shard.unpowered.clear()
    play.tick()
    play.tick()
    assert play.kinds()[-2:] == ["recovering", "recovered"]


def test_new_process_gets_its_time(play: Play) -> None:
    """A node that was silent before its replacement is not replaced again before it was probed."""
    play.down("memcached-c")
    while not play.events.of("recovering"):
        play.tick()
    play.shard.nodes["memcached-c"].up = False
    replaced = play.shard.calls.count(("replace", "memcached-c"))
    for _ in range(10):
        play.plane.tick()
    play.run(DETECTION[0] + REPLACEMENT[0] - 1)
    assert play.shard.calls.count(("replace", "memcached-c")) == replaced == 1
    play.run(DETECTION[1] + REPLACEMENT[1])
    assert play.shard.calls.count(("replace", "memcached-c")) == 2


def test_nothing_is_replaced_for_what_was_before_a_restart(play: Play) -> None:
    """After a reset, silence from before it does not count."""
    play.down("memcached-c")
    play.run(DETECTION[0] + REPLACEMENT[0] - 1)
    play.plane.restart("redis-a", "8")
    play.clock.advance(REPLACEMENT[1] + DETECTION[1])
    play.plane.tick()
    assert not play.shard.calls


def test_node_that_hangs_while_it_is_probed(play: Play) -> None:
    """It is replaced, though its probe began before a reset: it is asked no more."""
    play.shard.hung["memcached-c"] = play.clock.now
    play.clock.advance(MOMENT)
    play.plane.restart("redis-a", "8")
    play.run(DETECTION[0] + REPLACEMENT[0] - 1)
    assert not play.shard.calls
    play.run(DETECTION[1] + REPLACEMENT[1])
    assert play.shard.calls == [("replace", "memcached-c")]


def test_replacement_draws_are_independent() -> None:
    """When a node is replaced does not depend on which others are dead too."""

    def replaced_after(play: Play) -> float:
        died_at = play.clock.now
        while ("replace", "memcached-a") not in play.shard.calls:
            play.tick()
        return play.clock.now - died_at

    alone, together = Play(), Play()
    together.shard.unpowered.add("b")
    together.down("memcached-a", "memcached-b", "redis-b")
    alone.down("memcached-a")
    assert replaced_after(alone) == pytest.approx(replaced_after(together))
