"""Draws, restarts, the thread, and several shards."""

from cachesim.control_plane.states import State
from cachesim.topology import Role
from tests.control_plane.play import DETECTION, GROUP, PROMOTION, REPLACEMENT, Play


def drawn(play: Play) -> tuple[float, float]:
    """Lose the primary, and see how long its failover is to take."""
    play.down(play.plane.primary)
    return play.detecting().data["detection"], play.detecting().data["promotion"]


def test_same_seed_same_draws() -> None:
    """What a failover takes depends on the seed, and on nothing else."""
    assert drawn(Play(seed="7")) == drawn(Play(seed="7"))
    assert drawn(Play(seed="7")) != drawn(Play(seed="8"))


def test_draws_are_independent() -> None:
    """What was drawn for other nodes' replacements changes nothing for a failover."""
    undisturbed, disturbed = Play(), Play()
    disturbed.down("memcached-b", "redis-c")
    disturbed.run(DETECTION[1] + REPLACEMENT[1] + 1)
    assert ("replace", "memcached-b") in disturbed.shard.calls
    assert drawn(undisturbed) == drawn(disturbed)


def test_restart_forgets(play: Play) -> None:
    """After a restart nothing that was under way goes on, and the draws begin anew."""
    first = drawn(play)
    play.until_state(State.REPLACING)
    for node in play.shard.nodes.values():
        node.up, node.role = True, Role.REPLICA
    play.shard.nodes["redis-a"].role = Role.PRIMARY
    play.shard.calls.clear()
    mark = play.events.mark()
    play.plane.restart("redis-a", "7")
    assert (play.state(), play.plane.primary) == (State.AVAILABLE, "redis-a")
    assert play.plane.failovers == 0
    play.run(REPLACEMENT[1] + 30)
    assert not play.shard.calls
    assert not play.events.since(mark)
    assert drawn(play) == first


def test_restart_during_a_failover(play: Play) -> None:
    """A failover that was under way is given up."""
    play.plane.failover()
    play.plane.restart("redis-a", "7")
    play.run(PROMOTION[1] + 5)
    assert play.plane.primary == "redis-a"
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
    play.plane.start()
    with play.plane.suspended():
        play.shard.nodes["redis-a"].up = False
        play.clock.advance(1)
        play.shard.look()
        assert play.state() is State.AVAILABLE
    assert play.events.wait(lambda: bool(play.events.of("detecting")), timeout=10)
    play.plane.stop()
