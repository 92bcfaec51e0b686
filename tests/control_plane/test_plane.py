"""Draws, restarts, the thread, and several shards."""

import dataclasses

import pytest

from cachesim.control_plane.states import State
from cachesim.topology import SLOTS, Node, Role, Service, Shard, Topology, production
from tests.control_plane.play import DETECTION, GROUP, PROMOTION, REPLACEMENT, Play


def drawn(play: Play) -> tuple[float, float]:
    """Lose the primary, and see how long its failover is to take."""
    play.down(play.plane.shard().primary)
    return play.detecting().data["detection"], play.detecting().data["promotion"]


def test_same_seed_same_draws() -> None:
    """The durations of a failover depend on the seed alone."""
    assert drawn(Play(seed="7")) == drawn(Play(seed="7"))
    assert drawn(Play(seed="7")) != drawn(Play(seed="8"))


def test_draws_are_independent() -> None:
    """Draws for the replacement of other nodes do not change those for a failover."""
    undisturbed, disturbed = Play(), Play()
    disturbed.down("memcached-b", "redis-c")
    disturbed.run(DETECTION[1] + REPLACEMENT[1] + 1)
    assert ("replace", "memcached-b") in disturbed.shard.calls
    assert drawn(undisturbed) == drawn(disturbed)


def test_restart_forgets(play: Play) -> None:
    """After a restart nothing that was in progress continues, and the draws begin anew."""
    first = drawn(play)
    play.until_state(State.REPLACING)
    for node in play.shard.nodes.values():
        node.up, node.role = True, Role.REPLICA
    play.shard.nodes["redis-a"].role = Role.PRIMARY
    play.shard.calls.clear()
    mark = play.events.mark()
    play.plane.restart("redis-a", "7")
    assert (play.state(), play.plane.shard().primary) == (State.AVAILABLE, "redis-a")
    assert play.plane.shard().failovers == 0
    play.run(REPLACEMENT[1] + 30)
    assert not play.shard.calls
    assert not play.events.since(mark)
    assert drawn(play) == first


def test_conditions_after_a_restart(play: Play) -> None:
    """A condition that lasts over a restart is reported again."""
    play.shard.unpowered.add("c")
    for _ in range(2):
        play.down("memcached-c")
        play.run(DETECTION[1] + REPLACEMENT[1] + 1)
        play.plane.restart("redis-a", "7")
    assert [event.source for event in play.events.of("waiting")] == ["memcached-c"] * 2


def test_restart_during_a_failover(play: Play) -> None:
    """A failover that was under way is given up."""
    play.plane.failover()
    play.plane.restart("redis-a", "7")
    play.run(PROMOTION[1] + 5)
    assert play.plane.shard().primary == "redis-a"
    assert not play.shard.calls


def test_error_in_the_thread_is_told() -> None:
    """A control plane whose tick fails says so in the event log, once, and goes on."""
    play = Play()

    def fail(node: str) -> None:
        raise RuntimeError(f"no {node}")

    play.shard.probe = fail  # type: ignore[method-assign]
    play.plane.start()
    assert play.events.wait(lambda: bool(play.events), timeout=10)
    play.plane.stop()
    (event,) = play.events
    assert (event.kind, event.source) == ("error", GROUP)
    assert "no redis-a" in event.message


def test_suspended(play: Play) -> None:
    """While it is suspended nothing is decided, and afterwards it is."""
    with play.plane.suspended():
        play.down("redis-a")
        play.run(60)
        assert play.state() is State.AVAILABLE
        assert not play.events
    play.until_failover()


def test_suspended_by_several(play: Play) -> None:
    """It decides nothing until the last one that has suspended it resumes."""
    for holder in ("one", "one", "other"):
        play.plane.suspend(holder)
    with play.plane.suspended(), play.plane.suspended():
        pass
    play.down("redis-a")
    for holder in ("nobody", "one", "one"):
        play.plane.resume(holder)
        play.run(60)
        assert play.state() is State.AVAILABLE
    play.plane.resume("other")
    play.until_failover()


def test_suspended_by_an_error(play: Play) -> None:
    """A context that ends in an error suspends it no longer."""
    with pytest.raises(LookupError), play.plane.suspended():
        raise LookupError
    play.down("redis-a")
    play.until_failover()


# --- several shards -------------------------------------------------------------------------


def two_shards() -> Topology:
    """Return production's topology with a second shard, whose first primary is in another zone."""
    topology = production()
    (first,) = topology.shards
    nodes = tuple(Node(f"second-{zone}", Service.REDIS, zone, 1) for zone in "abc")
    second = Shard("0002", nodes, range(SLOTS // 2, SLOTS), first_primary="second-b")
    return dataclasses.replace(
        topology, shards=(dataclasses.replace(first, slots=range(SLOTS // 2)), second)
    )


@pytest.fixture
def both() -> Play:
    """Return a control plane over two healthy shards."""
    return Play(topology=two_shards())


@pytest.mark.parametrize(
    ("lost", "replica", "kept"),
    [("redis-a", "redis-b", "second-b"), ("second-b", "second-a", "redis-a")],
)
def test_one_of_two_shards_fails_over(both: Play, lost: str, replica: str, kept: str) -> None:
    """The loss of a shard's primary is a failover of that shard; the other is left alone."""
    failing, other = sorted(both.plane.shards.values(), key=lambda shard: shard.primary != lost)
    both.down(lost)
    for state in (State.DETECTING, State.PROMOTING, State.REPLACING, State.AVAILABLE):
        while failing.state is not state:
            both.tick()
            assert other.state is State.AVAILABLE
    assert (failing.primary, failing.failovers) == (replica, 1)
    assert (other.primary, other.failovers) == (kept, 0)
    assert both.shard.calls == [("promote", replica), ("replace", lost), ("unfence", lost)]


def test_both_shards_fail_over(both: Play) -> None:
    """Two shards that lose their primaries at the same time both fail over, each by its draws."""
    both.down("redis-a", "second-b")
    drawn_for = {e.source: e.data["detection"] for e in both.events.of("detecting")}
    assert drawn_for.keys() == {"redis-a", "second-b"}
    assert drawn_for["redis-a"] != drawn_for["second-b"]
    both.run(DETECTION[1] + PROMOTION[1] + REPLACEMENT[1] + 1)
    assert [shard.primary for shard in both.plane.shards.values()] == ["redis-b", "second-a"]
    assert {shard.state for shard in both.plane.shards.values()} == {State.AVAILABLE}


def test_majority_is_of_the_shard(both: Play) -> None:
    """A primary that both replicas of its shard do not hear is lost; other shards have no say."""
    both.cut_off("second-a", "second-c")
    both.cut_off("second-a", "second-b", "second-c", "redis-b", speaker="redis-a")
    both.run(60)
    assert not both.events
    both.cut_off("redis-c", speaker="redis-a")
    both.tick(1)
    assert [event.source for event in both.events.of("detecting")] == ["redis-a"]


def test_first_shard_draws_the_same_beside_others(play: Play, both: Play) -> None:
    """A seed draws the same for the first shard, whether there are others or not."""
    first = []
    for each in (play, both):
        each.down("redis-a")
        first.append([each.detecting().data[phase] for phase in ("detection", "promotion")])
    assert first[0] == first[1]


def test_requested_failover_of_a_shard(both: Play) -> None:
    """With several shards, a failover is requested by the shard's id."""
    both.plane.failover(shard="0002", to="c")
    assert both.events.of("failover-call")[0].message.endswith("for node group 0002")
    both.run(PROMOTION[1] + 1)
    assert [shard.primary for shard in both.plane.shards.values()] == ["redis-a", "second-c"]


@pytest.mark.parametrize("verb", ["shard", "failover"])
def test_which_of_several_shards(both: Play, verb: str) -> None:
    """With several shards, what is asked of the only one is an error that names them."""
    with pytest.raises(ValueError, match=r"^there are several shards: .*0001, 0002"):
        getattr(both.plane, verb)()


def test_failover_of_an_unknown_shard(play: Play) -> None:
    """An unknown shard is an error that names the shards there are."""
    with pytest.raises(ValueError, match=r"^no shard '2': there are 0001$"):
        play.plane.failover(shard="2")


def test_restart_with_each_shards_primary(both: Play) -> None:
    """After a restart each shard has the primary that was given for it, in any order."""
    both.plane.restart(("second-c", "redis-b"), "8")
    assert [shard.primary for shard in both.plane.shards.values()] == ["redis-b", "second-c"]
    with pytest.raises(ValueError, match="no primary is given for shard 0002"):
        both.plane.restart("redis-a", "8")
