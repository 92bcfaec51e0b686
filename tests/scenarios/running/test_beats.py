"""Beats tell at once whether a node is able, through the clients' links, without a retry."""

import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise

import pytest

from cachesim import Simulator
from cachesim.history.rows import Beat
from cachesim.scenarios.running.beats import INTERVAL, TIMEOUT, Beats
from tests.scenarios.running.beating import answered, beating, until


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    """A topology whose control plane is slow."""
    with Simulator(backend="embedded", speed=1, seed=7) as it:
        yield it


@pytest.fixture
def rows() -> list[Beat]:
    """What was recorded."""
    return []


@pytest.fixture
def beats(sim: Simulator, rows: list[Beat]) -> Iterator[Beats]:
    """Beats that are under way."""

    def record(*some: Beat) -> None:
        rows.extend(some)

    with beating(sim, record) as it:
        yield it


def test_all_nodes_and_the_primary(beats: Beats, rows: list[Beat]) -> None:
    """Every node gets reads, and the primary writes, at their due times."""
    until(lambda: len(rows) > 300)
    kinds = {(it.node, it.kind) for it in rows}
    assert kinds == {*((node, "read") for node in beats.endpoints), ("redis-a", "write")}
    one = [it for it in rows if it.node == "memcached-b"]
    gaps = [b.due - a.due for a, b in pairwise(one)]
    assert min(gaps) == pytest.approx(INTERVAL, abs=0.001)
    assert all(it.start >= it.due for it in rows)


@pytest.mark.parametrize("node", ["redis-b", "memcached-c"])
def test_hang(sim: Simulator, beats: Beats, node: str) -> None:
    """A link that hangs answers nothing; when it is healed, an answer comes within beats."""
    with sim.faults.blackhole(f"client-to-{node}"):
        since = time.monotonic()
        time.sleep(3 * TIMEOUT)
        found = beats.recent(node, since)
        assert found
        assert not any(it.ok for it in found)
        assert {it.error for it in found} == {"TimeoutError"}
        others = [it for it in beats.endpoints if it != node]
        assert all(answered(beats, it, since) for it in others)
    healed = time.monotonic()
    until(lambda: answered(beats, node, healed))
    first = next(it for it in beats.recent(node, healed) if it.ok)
    assert first.start - healed < 2 * TIMEOUT


def test_refused(sim: Simulator, beats: Beats) -> None:
    """A killed node refuses, and each beat says so; the one that comes back answers."""
    with sim.faults.kill("redis-c"):
        since = time.monotonic()
        until(lambda: len(beats.recent("redis-c", since)) > 10)
        found = beats.recent("redis-c", since)[5:]
        assert not any(it.ok for it in found)
        gaps = [b.due - a.due for a, b in pairwise(found)]
        assert max(gaps) < TIMEOUT
    healed = time.monotonic()
    until(lambda: answered(beats, "redis-c", healed))


def test_a_token_that_is_not_valid_any_more(sim: Simulator, beats: Beats) -> None:
    """A connection that is made anew has the present one."""
    with sim.faults.auth_rotate("redis-b", strategy="set"):
        with sim.faults.refuse("client-to-redis-b"):
            since = time.monotonic()
            until(lambda: len(beats.recent("redis-b", since)) > 10)
        healed = time.monotonic()
        until(lambda: answered(beats, "redis-b", healed))


def test_a_node_that_lets_nobody_in(
    sim: Simulator, beats: Beats, caplog: pytest.LogCaptureFixture
) -> None:
    """Its refusal is the error of each beat, and nothing is sent on a connection that has ended."""
    it = Beats(
        {"redis-b": sim.redis["b"].endpoint},
        frozenset({"redis-b"}),
        token=lambda: "wrong",
        tls=beats.tls,
        primary="redis-b",
        record=lambda *_: None,
    )
    it.start()
    with closing(it):
        until(lambda: len(it.recent("redis-b", 0)) > 60)
    assert {beat.error for beat in it.recent("redis-b", 0)[30:]} == {"WRONGPASS"}
    assert caplog.records == []


def test_latency(sim: Simulator, beats: Beats) -> None:
    """Slow answers do not keep further beats waiting."""
    with sim.faults.latency("client-to-memcached-a", 200):
        since = time.monotonic() + 0.1
        until(lambda: len([it for it in beats.recent("memcached-a", since) if it.ok]) > 20)
        found = [it for it in beats.recent("memcached-a", since) if it.ok]
        took = sorted(it.end - it.start for it in found if it.end)
        assert took[len(took) // 2] == pytest.approx(0.2, abs=0.1)
        gaps = [b.due - a.due for a, b in pairwise(found)]
        assert sorted(gaps)[len(gaps) // 2] == pytest.approx(INTERVAL, abs=0.005)


def test_follows_the_primary(sim: Simulator, beats: Beats, rows: list[Beat]) -> None:
    """Writes follow a redirection to another primary."""
    sim.control_plane.failover(to="b")
    sim.redis.wait_for_failover()
    until(lambda: any(it.kind == "write" and it.node == "redis-b" and it.ok for it in rows[-100:]))
    assert beats.primary == "redis-b"


def test_connections_are_counted(sim: Simulator, beats: Beats) -> None:
    """The servers' counters agree with what is told of the open connections."""

    def agree() -> bool:
        it = sim.servers.readings()["nodes"].get("redis-b")
        if it is None:  # it was slow
            return False
        others = it["values"]["connections"] - it["own_connections"]
        return others == beats.open("redis-b") == 1

    until(agree)
    assert beats.opened["redis-b"] >= 1
