"""Which replica is promoted, and when."""

import pytest

from cachesim.control_plane.states import State
from cachesim.errors import FaultError
from cachesim.topology import Role
from tests.control_plane.play import GROUP, MOMENT, PROMOTION, REPLACEMENT, Play


def test_primary_back_while_detecting(play: Play) -> None:
    """A primary that answers again in time stays the primary."""
    play.down("redis-a")
    play.run(5)
    play.up("redis-a")
    assert play.state() is State.AVAILABLE
    assert play.kinds() == ["detecting", "available"]
    play.run(60)
    assert play.plane.shard().primary == "redis-a"
    assert not play.shard.calls


def test_primary_back_while_promoting(play: Play) -> None:
    """A primary that answers again before the promotion stays the primary, without a fence."""
    play.down("redis-a")
    play.until_state(State.PROMOTING)
    play.shard.nodes["redis-a"].up = True
    play.until_state(State.AVAILABLE)
    assert play.plane.shard().primary == "redis-a"
    assert play.kinds()[-1] == "available"
    assert not play.shard.calls


@pytest.mark.parametrize("called_off_while", [State.DETECTING, State.PROMOTING])
def test_what_was_called_off_draws_nothing(play: Play, called_off_while: State) -> None:
    """The next failover lasts as long as the first one of the seed, and the one after it not."""
    play.down("redis-a")
    play.until_state(called_off_while)
    play.up("redis-a")
    play.until_state(State.AVAILABLE)
    for _ in range(2):
        play.fail_over()
    first, second, third = (
        (it.data["detection"], it.data["promotion"]) for it in play.events.of("detecting")
    )
    assert first == second != third


def test_loading_replica_is_not_promoted(play: Play) -> None:
    """A replica that loads its data can't take over, whatever offset it says."""
    play.shard.nodes["redis-b"].offset += 1000
    play.shard.nodes["redis-b"].is_loading = True
    play.fail_over()
    assert play.plane.shard().primary == "redis-c"


def test_promotion_at_the_promised_moment(play: Play) -> None:
    """A replica is promoted at the moment promised when the primary was lost, not before."""
    play.down("redis-a")
    promised_at = play.detecting().data["promised_at"]
    play.until_state(State.PROMOTING)
    play.until(promised_at - MOMENT)
    assert play.state() is State.PROMOTING
    assert not play.shard.calls
    play.until(promised_at + MOMENT)
    assert play.state() is State.REPLACING
    assert play.plane.shard().failovers == 1


@pytest.mark.parametrize("ahead", ["redis-b", "redis-c"])
def test_least_lag_is_promoted(play: Play, ahead: str) -> None:
    """The replica that is furthest in the replication stream becomes the primary."""
    play.shard.nodes[ahead].offset += 1
    play.fail_over()
    assert play.plane.shard().primary == ahead
    assert play.shard.calls == [("promote", ahead)]


def test_dead_replica_is_not_promoted(play: Play) -> None:
    """The replica that answers becomes the primary, whatever the other last said."""
    play.shard.nodes["redis-b"].offset += 1000
    play.tick()
    play.down("redis-b")
    play.fail_over()
    assert play.plane.shard().primary == "redis-c"


@pytest.mark.parametrize(
    ("node_timeout", "delay"),
    [
        pytest.param(0.1, 0.5, id="at-least-half-a-second"),
        pytest.param(2.0, 2.0, id="the-node-timeout"),
        pytest.param(15.0, 5.0, id="at-most-five-seconds"),
    ],
)
def test_promised_moment_after_a_rejoin(node_timeout: float, delay: float) -> None:
    """A replica whose cluster_state is fail takes over earlier: it refuses writes at first."""
    play = Play(node_timeout=node_timeout)
    for replica in ("redis-b", "redis-c"):
        play.shard.nodes[replica].state_ok = False
    play.down("redis-a")
    takeover_at = play.detecting().data["promised_at"] - delay
    play.until_state(State.PROMOTING)
    play.until(max(play.clock.now, takeover_at - MOMENT))
    assert play.state() is State.PROMOTING
    play.until(takeover_at + MOMENT)
    assert play.state() is State.REPLACING


def test_fence_before_promotion(play: Play) -> None:
    """An old primary that answers is made to refuse writes before another takes over."""
    play.cut_off("redis-b", "redis-c")
    play.until_failover()
    assert play.shard.calls[:2] == [("fence", "redis-a"), ("promote", "redis-b")]


def test_dead_primary_is_not_fenced(play: Play) -> None:
    """An old primary that does not answer is not waited for."""
    play.fail_over()
    assert play.shard.calls == [("promote", "redis-b")]


def test_failover_is_told_in_elasticaches_words(play: Play) -> None:
    """A failover has two events: of the new primary and of the replication group."""
    play.fail_over()
    message = "Failover from primary node redis-a to replica node redis-b completed"
    told = [(e.source, e.data["source_type"], e.message) for e in play.events.of("failover")]
    assert told == [
        ("redis-b", "cache-cluster", message),
        (GROUP, "replication-group", message),
    ]


def test_no_candidate(play: Play) -> None:
    """Without a replica that answers none is promoted, which is one event."""
    play.down("redis-b", "redis-c", "redis-a")
    play.until_state(State.PROMOTING)
    play.run(5)
    told = [e.message for e in play.events.of("waiting")]
    assert told == ["no replica of shard 0001 can be promoted"]
    assert play.state() is State.PROMOTING


def test_candidate_that_comes_late(play: Play) -> None:
    """A replica that answers only after the promised moment is promoted then."""
    play.shard.unpowered.update("abc")
    play.down("redis-b", "redis-c", "redis-a")
    play.until(play.detecting().data["promised_at"] + 20)
    play.up("redis-c")
    assert play.state() is State.REPLACING
    assert play.plane.shard().primary == "redis-c"


def test_next_replica_after_a_failed_promotion(play: Play) -> None:
    """A replica that could not be promoted has an event, and the next one becomes the primary."""
    play.shard.nodes["redis-b"].offset += 1
    play.shard.unpromotable.add("redis-b")
    play.fail_over()
    assert play.plane.shard().primary == "redis-c"
    assert play.shard.calls == [("promote", "redis-b"), ("promote", "redis-c")]
    assert [event.source for event in play.events.of("waiting")] == ["redis-b"]


def test_failed_promotion_is_tried_again(play: Play) -> None:
    """When no replica could be promoted, each has one event, and all are tried again."""
    play.shard.unpromotable.update(("redis-b", "redis-c"))
    play.down("redis-a")
    play.until(play.detecting().data["promised_at"] - MOMENT)
    play.run(2)
    tried = [node for verb, node in play.shard.calls if verb == "promote"]
    assert tried[:4] == ["redis-b", "redis-c"] * 2
    assert play.state() is State.PROMOTING
    assert play.plane.shard().failovers == 0
    told = [e.source for e in play.events.of("waiting") if e.source != GROUP]
    assert told == ["redis-b", "redis-c"]
    play.shard.unpromotable.clear()
    play.until_failover(limit=1)


def test_takeover_that_takes_long(play: Play) -> None:
    """A replica that took over, but accepts writes late, is the primary when it does."""
    play.shard.unpowered.add("a")
    play.shard.hesitant.add("redis-b")
    play.down("redis-a", "redis-c")
    play.run(60)
    assert play.plane.shard().primary == "redis-a"
    play.shard.hesitant.clear()
    play.until_failover(5)
    assert play.plane.shard().primary == "redis-b"


def test_fenced_zombie_is_no_candidate(play: Play) -> None:
    """An old primary that still says that it is one is not promoted, however far it is."""
    play.shard.nodes["redis-a"].knows = False
    play.cut_off("redis-b", "redis-c")
    play.until_failover()
    play.shard.silent.clear()
    play.shard.nodes["redis-a"].offset = 5000
    play.down("redis-b")
    play.until_failover()
    assert play.plane.shard().primary == "redis-c"
    assert ("promote", "redis-a") not in play.shard.calls


def test_failover_called_off_after_a_fence(play: Play) -> None:
    """A primary that was fenced takes writes again when its failover is called off."""
    play.shard.unpromotable.update(("redis-b", "redis-c"))
    play.cut_off("redis-b", "redis-c")
    while ("fence", "redis-a") not in play.shard.calls:
        play.tick()
    play.shard.silent.clear()
    play.until_state(State.AVAILABLE, limit=1)
    assert play.plane.shard().primary == "redis-a"
    assert play.shard.calls[-1] == ("unfence", "redis-a")
    assert play.shard.calls.count(("unfence", "redis-a")) == 1


def test_failover_called_off_without_a_fence(play: Play) -> None:
    """A primary that was too dead to be fenced needs not be told to accept writes again."""
    play.shard.unpromotable.update(("redis-b", "redis-c"))
    play.down("redis-a")
    while ("promote", "redis-b") not in play.shard.calls:
        play.tick()
    play.up("redis-a")
    assert play.state() is State.AVAILABLE
    assert ("unfence", "redis-a") not in play.shard.calls


def test_second_failover(play: Play) -> None:
    """A new primary that dies while the old one is being replaced is replaced too."""
    play.fail_over()
    play.down("redis-b")
    assert play.state() is State.DETECTING
    play.until_state(State.REPLACING)
    assert play.plane.shard().failovers == 2
    assert play.plane.shard().primary == "redis-c"


def test_detection_called_off_while_an_old_primary_is_away(play: Play) -> None:
    """A new primary that was lost for a moment does not make the old one be forgotten."""
    play.shard.unpowered.add("a")
    play.fail_over()
    play.down("redis-b")
    assert play.state() is State.DETECTING
    play.up("redis-b")
    assert play.state() is State.REPLACING
    play.run(REPLACEMENT[1])
    assert play.state() is State.REPLACING
    play.shard.unpowered.clear()
    play.until_state(State.AVAILABLE)
    assert [event.source for event in play.events.of("recovered")] == ["redis-a"]


def test_requested_failover(play: Play) -> None:
    """A requested failover takes a promotion's time, without a detection."""
    called_at = play.clock.now
    play.plane.failover()
    assert play.state() is State.PROMOTING
    play.until(called_at + PROMOTION[0] - MOMENT)
    assert play.state() is State.PROMOTING
    play.until(called_at + PROMOTION[1] + MOMENT)
    assert play.plane.shard().primary == "redis-b"
    assert play.plane.shard().failovers == 1


def test_requested_failover_is_told_in_elasticaches_words(play: Play) -> None:
    """The events of a TestFailover are ElastiCache's, in its order."""
    play.plane.failover()
    play.until_state(State.AVAILABLE)
    completed = "Failover from primary node redis-a to replica node redis-b completed"
    assert [(event.source, event.message) for event in play.events] == [
        (GROUP, "Test Failover API called for node group 0001"),
        ("redis-b", completed),
        (GROUP, completed),
        ("redis-a", "Recovering cache nodes redis-a"),
        ("redis-a", "Finished recovery for cache nodes redis-a"),
    ]


def test_requested_failover_fences(play: Play) -> None:
    """The old primary of a requested failover is fenced first, and unfenced as a replica."""
    play.plane.failover()
    play.until_state(State.AVAILABLE)
    assert play.shard.calls == [
        ("fence", "redis-a"),
        ("promote", "redis-b"),
        ("unfence", "redis-a"),
    ]


@pytest.mark.parametrize("zone", ["c", "az-c"])
def test_requested_failover_to_a_zone(play: Play, zone: str) -> None:
    """The zone's replica is promoted, though another lags less."""
    play.shard.nodes["redis-b"].offset += 500
    play.plane.failover(to=zone)
    play.until_failover()
    assert play.plane.shard().primary == "redis-c"


def test_requested_failover_to_the_primarys_zone(play: Play) -> None:
    """The primary can't be promoted."""
    with pytest.raises(ValueError, match="redis-a is the primary already"):
        play.plane.failover(to="a")
    assert play.state() is State.AVAILABLE


def test_requested_failover_to_no_zone(play: Play) -> None:
    """An unknown zone is an error that names the zones there are."""
    with pytest.raises(ValueError, match="no zone 'd': there are a, b, c"):
        play.plane.failover(to="d")
    assert not play.events


def test_requested_failover_right_after_a_reset(play: Play) -> None:
    """What a replica did not answer before the reset does not count."""
    play.down("redis-c")
    play.shard.nodes["redis-c"].up = True
    play.clock.advance(0.01)
    play.plane.restart("redis-a", "7")
    play.plane.failover(to="c")
    play.until_failover()
    assert play.plane.shard().primary == "redis-c"


def test_requested_failover_to_a_dead_replica(play: Play) -> None:
    """A replica that does not answer can't be asked for, and no failover begins."""
    play.down("redis-c")
    with pytest.raises(
        FaultError, match="redis-c can't be promoted: it does not answer as a replica"
    ):
        play.plane.failover(to="c")
    assert play.state() is State.AVAILABLE
    assert not play.events


def test_requested_failover_during_a_failover(play: Play) -> None:
    """A failover is refused while another is under way."""
    play.down("redis-a")
    with pytest.raises(FaultError, match="in progress already: the shard is detecting"):
        play.plane.failover()
    play.until_state(State.PROMOTING)
    with pytest.raises(FaultError, match="the shard is promoting"):
        play.plane.failover()


def test_roles_from_before_a_restart(play: Play) -> None:
    """Roles that were probed before a restart are not taken for a change by hand."""
    play.clock.advance(1)
    play.plane.restart("redis-b", "7")
    play.tick(look=False)
    assert play.plane.shard().primary == "redis-b"


def test_roles_changed_by_hand(play: Play) -> None:
    """A primary that someone else has promoted is accepted as the primary."""
    play.shard.nodes["redis-a"].role = Role.REPLICA
    play.shard.nodes["redis-c"].role = Role.PRIMARY
    play.tick()
    assert play.plane.shard().primary == "redis-c"
    assert [(e.kind, e.source) for e in play.events] == [("role", "redis-c")]
    assert not play.shard.calls
