"""Waiting for what is true of a topology."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cachesim.errors import CachesimError, FailoverTimeout, NotReady, WaitTimeout
from cachesim.runs.calls import Call
from tests.faults.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A topology in memory, whose servers answer what the test says."""
    rig = Rig()
    yield rig
    rig.links.close()


def wait(rig: Rig, what: str, seconds: float | None = 60, **arguments: Any) -> Any:
    """Wait for a condition."""
    return rig.connection.call(Call.WAIT, what=what, seconds=seconds, **arguments)


def test_failover_is_returned_once(rig: Rig) -> None:
    """A failover that a wait has returned is not waited for again, by whatever client."""
    rig.play.fail_over()
    assert wait(rig, "failover")["primary"] == "redis-b"
    with pytest.raises(FailoverTimeout):
        wait(rig, "failover", 0.01)


def test_failover_in_vain(rig: Rig) -> None:
    """The error tells what has happened since the last reset, and nothing of earlier tests."""
    rig.faults.isolate("b")
    rig.connection.call(Call.RESET)
    rig.faults.isolate("c")
    with pytest.raises(FailoverTimeout, match=r"(?s)What happened:\n\S+ +reset .*isolate") as told:
        wait(rig, "failover", 0.01)
    assert "az-c" in str(told.value)
    assert "az-b" not in str(told.value)


def test_available(rig: Rig) -> None:
    """The wait ends when the shard is available again."""
    rig.play.down("redis-a")
    rig.play.until_failover()
    with pytest.raises(WaitTimeout, match=r"is replacing after 0\.01 s, its primary redis-"):
        wait(rig, "available", 0.01)
    assert wait(rig, "decided")["primary"] == "redis-b"


def test_healthy(rig: Rig) -> None:
    """The wait ends when all nodes run and are well; the error says what is in its way."""
    assert wait(rig, "healthy")["primary"] == "redis-a"
    fault = rig.faults.kill("memcached-b")
    with pytest.raises(WaitTimeout, match=r"healthy after 0\.01 s: memcached-b is stopped"):
        wait(rig, "healthy", 0.01)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(wait, rig, "healthy")
        fault.heal()
        assert waiting.result(10)["primary"] == "redis-a"
    rig.cluster.failures = [NotReady("no", "redis-b")]
    with pytest.raises(WaitTimeout, match="redis-a: is unhealthy"):
        wait(rig, "healthy", 0.01)


@pytest.mark.parametrize("node", ["memcached-b", "redis-b"])
def test_healthy_node(rig: Rig, node: str) -> None:
    """One node can be waited for while others are away."""
    rig.faults.kill("memcached-c")
    fault = rig.faults.kill(node)
    with pytest.raises(WaitTimeout, match=rf"^{node} is not healthy after 0\.01 s: it is stopped$"):
        wait(rig, "healthy", 0.01, node=node)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(wait, rig, "healthy", node=node)
        fault.heal()
        waiting.result(10)
    with pytest.raises(CachesimError, match="no node 'memcached-d'"):
        wait(rig, "healthy", node="memcached-d")


def test_unanswered(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Memcached node that does not answer is not healthy."""

    def refuse() -> bytes:
        raise ConnectionRefusedError("no answer")

    monkeypatch.setattr(rig.operations.memcached["memcached-c"], "version", refuse)
    with pytest.raises(WaitTimeout, match="memcached-c does not answer: no answer"):
        wait(rig, "healthy", 0.01)
    with pytest.raises(WaitTimeout, match=r"memcached-c is not healthy .*: .* no answer"):
        wait(rig, "healthy", 0.01, node="memcached-c")
    wait(rig, "healthy", 0.01, node="memcached-b")


def test_clients_are_not_shared(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits and resets at the same time would read each other's answers."""
    busy, pause = threading.Lock(), threading.Event()

    def version() -> bytes:
        assert busy.acquire(blocking=False)
        pause.wait(0.005)
        busy.release()
        return b"1.6"

    monkeypatch.setattr(rig.operations.memcached["memcached-a"], "version", version)
    with ThreadPoolExecutor() as pool:
        waits = [pool.submit(wait, rig, "healthy", node="memcached-a") for _ in range(3)]
        resets = [pool.submit(rig.connection.call, Call.RESET) for _ in range(2)]
        for done in (*waits, *resets):
            done.result(10)


@pytest.mark.parametrize("what", ["", "decide", 5])
def test_unknown_condition(rig: Rig, what: Any) -> None:
    """What can't be waited for is an error with what can."""
    with pytest.raises(ValueError, match=r"no condition .*: there are failover, decided, availab"):
        wait(rig, what)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "5", True])
@pytest.mark.parametrize("what", ["failover", "available", "healthy"])
def test_no_time(rig: Rig, what: str, seconds: Any) -> None:
    """A time that is none is refused."""
    with pytest.raises(ValueError, match=r"timeout must be from 0 to .* seconds, got "):
        wait(rig, what, seconds)
