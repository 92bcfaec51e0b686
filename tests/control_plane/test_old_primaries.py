"""How old primaries are fenced, and which losses are reported."""

import pytest

from cachesim.control_plane.actions import Branch
from cachesim.control_plane.states import State
from cachesim.topology import Role
from tests.control_plane.play import Play


def test_lost_bytes_of_a_fenced_primary(play: Play) -> None:
    """An event has the bytes that the fenced primary accepted and its successor never received."""
    play.cut_off("redis-b", "redis-c")
    play.tick(1)
    play.shard.nodes["redis-a"].offset = 1250
    play.until_failover()
    assert [event.data["lost_bytes"] for event in play.events.of("failover")] == [250, 250]
    (lost,) = play.events.of("lost")
    assert lost.source == "redis-a"
    assert lost.data["lost_bytes"] == 250
    assert lost.message == (
        "accepted 250 bytes of writes that redis-b never received: they are lost"
    )


def test_lost_bytes_of_a_dead_primary(play: Play) -> None:
    """Of a dead primary counts what it last said that it had."""
    play.shard.nodes["redis-a"].offset = 1030
    play.tick()
    play.fail_over()
    (lost,) = play.events.of("lost")
    assert lost.data["lost_bytes"] == 30


def test_nothing_lost(play: Play) -> None:
    """If the replica had received everything, there is no loss."""
    play.fail_over()
    assert [event.data["lost_bytes"] for event in play.events.of("failover")] == [0, 0]
    assert not play.events.of("lost")


def test_zombie_is_fenced(play: Play) -> None:
    """An old primary that slept through its replacement is fenced as soon as it answers."""
    play.fail_over()
    play.shard.calls.clear()
    play.shard.nodes["redis-a"].offset = 1400
    play.up("redis-a")
    assert play.shard.calls == [("fence", "redis-a")]
    (lost,) = play.events.of("lost")
    assert (lost.source, lost.data["lost_bytes"]) == ("redis-a", 400)
    assert play.state() is State.REPLACING


def test_zombie_is_fenced_once(play: Play) -> None:
    """While it goes on answering it is not fenced again; after another absence it is."""
    play.fail_over()
    play.shard.calls.clear()
    play.up("redis-a")
    play.run(1)
    assert play.shard.calls == [("fence", "redis-a")]
    play.down("redis-a")
    play.up("redis-a")
    assert play.shard.calls == [("fence", "redis-a")] * 2


def test_failed_fence_of_a_zombie_is_tried_again(play: Play) -> None:
    """A zombie that could not be fenced is fenced later, and its losses are reported then."""
    play.fail_over()
    play.shard.nodes["redis-a"].offset = 1400
    play.shard.unfenceable.add("redis-a")
    play.up("redis-a")
    assert not play.events.of("lost")
    play.shard.unfenceable.clear()
    play.shard.calls.clear()
    play.run(1)
    assert play.shard.calls == [("fence", "redis-a")]
    assert [event.data["lost_bytes"] for event in play.events.of("lost")] == [400]


@pytest.mark.parametrize(
    ("offset", "told"),
    [pytest.param(1100, [100], id="no-surplus"), pytest.param(1140, [100, 40], id="surplus")],
)
def test_loss_is_told_once(play: Play, offset: int, told: list[int]) -> None:
    """When a primary comes back, only those losses are reported that were not before."""
    play.shard.nodes["redis-a"].offset = 1100
    play.tick()
    play.fail_over()
    play.shard.nodes["redis-a"].offset = offset
    play.up("redis-a")
    assert [event.data["lost_bytes"] for event in play.events.of("lost")] == told
    play.down("redis-a")
    play.up("redis-a")
    assert len(play.events.of("lost")) == len(told)


def test_fenced_at_the_promotion_is_not_fenced_again(play: Play) -> None:
    """An old primary that was fenced before the promotion and has answered since is fenced."""
    play.shard.nodes["redis-a"].knows = False
    play.cut_off("redis-b", "redis-c")
    play.until_failover()
    play.run(5)
    assert play.shard.calls.count(("fence", "redis-a")) == 1


def test_loss_of_a_zombie_that_was_told_by_its_peers(play: Play) -> None:
    """If it became a replica before it could be fenced, its log has what it had accepted."""
    play.fail_over()
    play.shard.nodes["redis-a"].role = Role.REPLICA
    play.shard.asked["redis-a", play.shard.history] = 1381
    play.up("redis-a")
    (lost,) = play.events.of("lost")
    assert (lost.source, lost.data["lost_bytes"]) == ("redis-a", 381)
    assert lost.data["offsets"] == (1000, 1381)
    assert play.kinds()[-2:] == ["lost", "recovered"]


def test_loss_of_a_zombie_that_is_promoted_again(play: Play) -> None:
    """What it dropped is reported, though it is not an old primary any more."""
    play.fail_over()
    play.shard.nodes["redis-a"].role = Role.REPLICA
    play.shard.nodes["redis-a"].offset = 5000
    play.shard.asked["redis-a", play.shard.history] = 1381
    play.shard.unsynced.add("redis-a")
    play.up("redis-a")
    assert not play.events.of("lost")
    play.fail_over()
    assert play.plane.shard().primary == "redis-a"
    (lost,) = play.events.of("lost")
    assert (lost.source, lost.data["lost_bytes"]) == ("redis-a", 381)
    assert "redis-b never received" in lost.message


def test_two_that_took_over_unseen_by_each_other(play: Play) -> None:
    """Where peers decide for a former primary, it is the primary again, without its fence.

    What the other one took meanwhile is lost, and told.
    """
    play.fail_over()
    play.shard.branches["redis-a"] = Branch("shared", 990, "of redis-a")
    play.up("redis-a")
    assert play.shard.calls[-1] == ("fence", "redis-a")
    play.shard.nodes["redis-b"].role = Role.REPLICA
    play.shard.asked["redis-b", "of redis-b"] = 1250
    play.tick()
    play.tick()
    assert play.plane.shard().primary == "redis-a"
    assert ("unfence", "redis-a") in play.shard.calls
    assert play.state() is State.AVAILABLE
    (lost,) = play.events.of("lost")
    assert (lost.source, lost.data["lost_bytes"]) == ("redis-b", 250)


def test_change_of_roles_loses_nothing_that_the_other_had(play: Play) -> None:
    """One that went on from where the former primary was has all that it took."""
    play.fail_over()
    play.shard.nodes["redis-a"].role = Role.REPLICA
    play.up("redis-a")
    play.until_state(State.AVAILABLE)
    play.shard.branches["redis-c"] = Branch("of redis-b", 1250, "of redis-c")
    play.shard.nodes["redis-b"].role = Role.REPLICA
    play.shard.nodes["redis-c"].role = Role.PRIMARY
    play.shard.asked["redis-b", "of redis-b"] = 1250
    play.tick()
    play.until_state(State.AVAILABLE)
    assert play.plane.shard().primary == "redis-c"
    assert not play.events.of("lost")


def test_ping_is_no_loss(play: Play) -> None:
    """A primary that went on alone sends its replicas a PING in the stream: no write is lost."""
    play.fail_over()
    play.shard.nodes["redis-a"].offset = 1014
    play.up("redis-a")
    assert not play.events.of("lost")


def test_loss_of_another_failover_is_not_told_again(play: Play) -> None:
    """What a log has on another history than the old primary's is not part of this failover."""
    play.fail_over()
    play.shard.nodes["redis-a"].role = Role.REPLICA
    play.shard.asked["redis-a", "another"] = 1381
    play.up("redis-a")
    assert not play.events.of("lost")


def test_zombie_without_a_surplus(play: Play) -> None:
    """A zombie that accepted no more than its successor had has lost nothing."""
    play.fail_over()
    play.up("redis-a")
    assert not play.events.of("lost")
