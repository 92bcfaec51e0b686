"""Reset and repair, over servers in memory."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import pytest

from cachesim.control_plane.timing import Timing
from cachesim.errors import FaultError, NotReady
from cachesim.faults import limits
from cachesim.settings import Settings
from cachesim.simulator.faults import Fault
from tests.fakes import FakeMemcached
from tests.faults.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A topology in memory."""
    rig = Rig()
    yield rig
    rig.links.close()


FLUSHED = [("flush", node) for node in ("redis-a", "memcached-a", "memcached-b", "memcached-c")]


def test_reset_of_healthy_nodes(rig: Rig) -> None:
    """Healthy nodes are flushed, and nothing else is done to them."""
    rig.restorer.reset()
    assert rig.did() == FLUSHED
    assert [str(event.message) for event in rig.events.of("reset")] == ["healed and flushed"]


def test_reset_heals(rig: Rig) -> None:
    """Faults are healed, and the nodes are up before they are looked at."""
    rig.faults.kill("redis-b")
    rig.did()
    rig.restorer.reset()
    assert rig.faults.active == []
    assert rig.did() == [("start_node", "redis-b"), *FLUSHED]


def test_reset_draws_anew(rig: Rig) -> None:
    """Timing, seed and the name of the draws are as they were asked for; the settings' by default.

    The next reset has the settings' again.
    """
    quick = Timing((1, 1), (1, 1), (1, 1), 15, speed=60)
    rig.restorer.reset("a test", timing=quick, seed=8)
    assert rig.control_plane.timing is quick
    assert drawn(rig) == drawn_from(rig, "8 a test")
    rig.restorer.reset()
    assert rig.control_plane.timing == Timing.of(Settings(node_timeout_seconds=2))
    assert drawn(rig) == drawn_from(rig, "7")


def drawn(rig: Rig) -> float:
    """Return the next draw of the faults."""
    rig.faults.az_power("a").heal()
    return rig.sizes.asked[-1]


def drawn_from(rig: Rig, seed: str) -> float:
    """Return the first draw of the faults from a seed."""
    rig.injector.reseed(seed)
    return drawn(rig)


def test_reset_with_the_settings_of_a_lease(rig: Rig) -> None:
    """Settings and a seed that a lease has changed stay, reset after reset."""
    leased = Settings(node_timeout_seconds=2, speed=30)
    rig.operations.adopt(leased, 8)
    rig.restorer.reset("x")
    assert rig.control_plane.timing == Timing.of(leased)
    assert drawn(rig) == drawn_from(rig, "8 x")


def test_others_wait_for_a_reset(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that another thread applies during a reset is applied after it, and stays."""
    with ThreadPoolExecutor() as pool:
        kill: list[Future[Fault]] = []
        flush = rig.cluster.flush

        def flush_meanwhile(*arguments: Any) -> NotReady | None:
            kill.append(pool.submit(rig.faults.kill, "redis-c"))
            with pytest.raises(TimeoutError):
                kill[0].result(0.05)
            return flush(*arguments)

        monkeypatch.setattr(rig.cluster, "flush", flush_meanwhile)
        rig.restorer.reset()
        applied = kill[0].result(10)
    assert rig.faults.active == [applied]


def test_a_reset_waits_for_a_scaling(rig: Rig) -> None:
    """A reset leaves the nodes to a scaling that is under way, which could not end without."""
    with ThreadPoolExecutor() as pool:
        with rig.scaler.suspended():
            reset = pool.submit(rig.restorer.reset)
            with pytest.raises(TimeoutError):
                reset.result(0.05)
            pool.submit(rig.nodes.add, "memcached-a2").result(10)
        reset.result(10)


def test_control_plane_rests_during_a_reset(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It decides nothing meanwhile, and then begins anew."""
    flush = rig.cluster.flush

    def flush_without_a_primary(*arguments: Any) -> NotReady | None:
        rig.play.down("redis-a")
        rig.play.run(60)
        rig.play.up("redis-a")
        return flush(*arguments)

    monkeypatch.setattr(rig.cluster, "flush", flush_without_a_primary)
    rig.restorer.reset()
    rig.play.run(60)
    assert not rig.events.of("detecting")
    rig.play.fail_over()
    assert rig.control_plane.shard().primary != "redis-a"
    monkeypatch.undo()
    rig.restorer.reset()
    assert rig.control_plane.shard().primary == "redis-a"


def test_deletion_that_is_late(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Healthy nodes are emptied again, and not repaired."""
    flush, late = rig.cluster.flush, [NotReady("reached 1 of 2 replicas", "redis-a")]
    monkeypatch.setattr(rig.cluster, "flush", lambda node: late.pop() if late else flush(node))
    rig.restorer.reset()
    assert rig.did() == FLUSHED


def test_node_at_fault_is_replaced(rig: Rig) -> None:
    """A node that stays unhealthy gets a new process."""
    rig.cluster.failures = [NotReady("no answer", "redis-c")]
    rig.restorer.reset()
    assert rig.did() == [
        ("converge", "redis-a"),
        ("kill", "redis-c"),
        ("start_node", "redis-c"),
        ("converge", "redis-a"),
        *FLUSHED,
    ]
    assert [event.source for event in rig.events.of("replaced")] == ["redis-c"]


def test_redis_begins_anew(rig: Rig) -> None:
    """If a new process does not help, all Redis nodes begin anew with empty disks."""
    rig.cluster.failures = [NotReady("no answer", "redis-c")] * 2
    rig.restorer.reset()
    did = rig.did()
    assert ("renew_redis",) in did
    assert did[did.index(("renew_redis",)) + 4 :] == [
        ("form", "redis-a", "2000"),
        ("converge", "redis-a"),
        *FLUSHED,
    ]
    assert [event.source for event in rig.events.of("replaced")] == ["redis-c", "t"]


def test_memcached_at_fault(rig: Rig) -> None:
    """A Memcached node is replaced both times, and the Redis nodes keep their data."""
    rig.cluster.failures = [NotReady("no answer", "memcached-b")] * 2
    rig.restorer.reset()
    did = rig.did()
    assert did.count(("kill", "memcached-b")) == 2
    assert ("renew_redis",) not in did


def test_memcached_with_other_settings(rig: Rig) -> None:
    """A node whose settings a client has changed gets a new process; others are flushed."""
    tuned = cast(FakeMemcached, rig.operations.memcached["memcached-b"])
    tuned.settings = b"STAT maxbytes 8\r\n"
    rig.restorer.reset()
    assert rig.did() == [
        ("flush", "redis-a"),
        ("flush", "memcached-a"),
        ("flush", "memcached-b"),
        ("kill", "memcached-b"),
        ("start_node", "memcached-b"),
        ("flush", "memcached-c"),
    ]


def test_script_that_does_not_end(rig: Rig) -> None:
    """A node whose script can't be ended is replaced at once."""
    rig.cluster.endless = {"redis-b"}
    rig.restorer.reset()
    assert rig.did()[:3] == [
        ("kill", "redis-b"),
        ("start_node", "redis-b"),
        ("converge", "redis-a"),
    ]


def test_script_that_keeps_a_node_from_its_heal(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset ends it, and then heals."""

    def end_script(node: str) -> bool:
        rig.limited.failing.discard(node)
        return True

    monkeypatch.setattr(limits, "_STARTING", 0.0)
    monkeypatch.setattr(rig.cluster, "end_script", end_script)
    rig.faults.memory_fill("redis-b")
    rig.limited.failing.add("redis-b")
    rig.restorer.reset()
    assert rig.is_whole()
    assert rig.faults.active == []


def test_reset_that_fails(rig: Rig) -> None:
    """If nothing helps, the error names the node and has its log."""
    rig.cluster.failures = [NotReady("no answer", "redis-c")] * 3
    with pytest.raises(FaultError, match=r"(?s)the reset failed: no answer.*lines of redis-c"):
        rig.restorer.reset()
    assert rig.events.of("reset") == []


def test_paused_nodes_keep_their_data(rig: Rig) -> None:
    """A Memcached node is resumed; a Redis node starts again, from what is on its disk."""
    rig.faults.pause("memcached-b", "redis-c")
    rig.did()
    rig.restorer.make_healthy()
    assert rig.did()[:3] == [
        ("resume", "memcached-b"),
        ("kill", "redis-c"),
        ("start_node", "redis-c"),
    ]
    assert rig.is_whole()
    assert rig.faults.active == []


def test_make_healthy(rig: Rig) -> None:
    """Nodes that do not run are started, faults are healed; the data and the primary stay.

    The primary takes writes, also if it was about to be succeeded.
    """
    rig.faults.kill("redis-a")
    rig.did()
    assert rig.restorer.make_healthy() == ["redis-b"]
    assert rig.did() == [("start_node", "redis-a"), ("resume_writes", "redis-b")]
    assert rig.faults.active == []
