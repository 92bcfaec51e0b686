"""What is given to servers and backends for faults of servers, and what is taken back."""

import threading
from typing import Any

import pytest

from cachesim.errors import FaultError
from tests.faults.rig import Rig


@pytest.fixture
def rig() -> Rig:
    """A topology in memory."""
    return Rig()


def test_full_disk(rig: Rig) -> None:
    """The disk is filled and then written to; it is emptied when the last fault is healed."""
    first, second = rig.faults.aof_error("redis-a"), rig.faults.aof_error("redis-a")
    assert rig.did() == [("fill_disk", "redis-a", "7")] * 2
    assert rig.limited.limits == {("redis-a", "disk"): 0}
    first.heal()
    assert ("empty_disk", "redis-a", "0") not in rig.did()
    second.heal()
    assert rig.did() == [("empty_disk", "redis-a", "0")]
    assert rig.is_whole()


def test_hot_keys(rig: Rig) -> None:
    """The keys of all faults are read, on nodes that are down too, until they are healed."""
    rig.faults.kill("redis-b")
    one = rig.faults.hot_key("redis-a", "redis-b", key="k", rate=5)
    rig.faults.hot_key("redis-a", key="l", rate=6)
    assert rig.limited.limits == {
        ("redis-a", "hot keys"): "k 5, l 6",
        ("redis-b", "hot keys"): "k 5",
    }
    one.heal()
    assert rig.limited.limits == {("redis-a", "hot keys"): "l 6"}
    rig.faults.heal_all()
    assert rig.limited.limits == {}


@pytest.mark.parametrize("down", ["kill", "pause"])
def test_data_of_a_node_that_does_not_run(rig: Rig, down: str) -> None:
    """It is an error at once, before any node is asked: others would wait until that is late."""
    getattr(rig.faults, down)("memcached-b")
    with pytest.raises(FaultError, match="can't flush memcached-b: it does not run"):
        rig.faults.flush("memcached-*")
    with pytest.raises(FaultError, match="can't expire keys of memcached-b: it does not run"):
        rig.faults.expire("memcached-*", pattern="k*")
    assert not rig.limited.asked_once
    rig.faults.flush("memcached-a", "memcached-c")
    assert rig.limited.asked_once == ["memcached-a", "memcached-c"]


def test_connections_of_memcached(rig: Rig) -> None:
    """The strictest limit counts, with the clients that there are; then there is none."""
    few = rig.faults.connection_limit("memcached-a", most=2)
    many = rig.faults.connection_limit("memcached-a", most=9)
    few.heal()
    many.heal()
    limits = [(it[2], it[3]) for it in rig.did() if it[0] == "limit_connections"]
    assert limits == [("2", "3"), ("2", "3"), ("9", "3"), ("None", "0")]


def test_tokens_of_a_node_that_is_down(rig: Rig) -> None:
    """Its next process gets them; a paused one can't be changed."""
    down = rig.faults.kill("redis-a")
    rotation = rig.faults.auth_rotate("redis-a", "redis-b")
    assert [it for it in rig.did() if it[0] == "set_tokens"] == [
        ("set_tokens", "redis-a", "set"),
        ("set_tokens", "redis-b", "set"),
    ]
    assert ("redis-a", "token") not in rig.limited.limits
    assert rig.limited.limits["redis-b", "token"] == "set"
    with rig.faults.pause("redis-b"), pytest.raises(FaultError, match="paused"):
        rotation.heal()
    rotation.heal()
    assert ("set_tokens", "redis-a", "old") in rig.did()
    down.heal()
    assert rig.is_whole()


def test_nothing_remains_of_what_a_paused_node_did_not_take(rig: Rig) -> None:
    """A later fault on that node is alone, and its heal brings the old token and certificate."""
    with rig.faults.pause("redis-b"):
        for begin in (rig.faults.auth_rotate, rig.faults.bad_certificate):
            with pytest.raises(FaultError, match="redis-b can't be changed: it is paused"):
                begin("redis-a", "redis-b")
    with rig.faults.auth_rotate("redis-b", strategy="rotate"):
        assert rig.limited.limits["redis-b", "token"] == "rotate"
        assert rig.limited.limits["all", "token file"] == "new"
    with rig.faults.bad_certificate("redis-b"):
        assert rig.limited.limits == {("redis-b", "certificate"): "expired"}
    assert rig.is_whole()


def test_a_node_that_is_started_during_the_heal(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started when its certificate is written: its process would load the bad one before."""
    rig.nodes.kill("test", ["memcached-b"])
    fault = rig.faults.bad_certificate("memcached-b", problem="expired")
    order = []

    def start() -> None:
        rig.nodes.release("test")
        order.append("started")

    starter = threading.Thread(target=start)

    def write(_node: str, problem: str | None) -> None:
        starter.start()
        starter.join(0.2)  # if nothing keeps it from that
        order.append(f"written: {problem}")

    monkeypatch.setattr(rig.backend, "set_certificate", write)
    fault.heal()
    starter.join()
    assert order == ["written: None", "started"]


def test_a_node_that_is_just_starting(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets its certificate as soon as it answers."""
    load, failures = rig.limited.load_certificate, iter([ConnectionResetError("starting")])

    def load_later(node: str, paths: tuple[str, str]) -> None:
        for error in failures:
            raise error
        load(node, paths)

    monkeypatch.setattr(rig.limited, "load_certificate", load_later)
    with rig.faults.bad_certificate("memcached-b", problem="expired"):
        assert rig.limited.limits == {("memcached-b", "certificate"): "expired"}
    assert rig.is_whole()


def test_a_limit_of_a_node_that_is_just_starting(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets its limit as soon as it answers, but nobody waits for one that runs and fails."""
    set_, failures = rig.limited._set, [ConnectionResetError("starting")]

    def set_later(*what: Any) -> None:
        if failures:
            raise failures.pop()
        set_(*what)

    monkeypatch.setattr(rig.limited, "_set", set_later)
    rig.nodes.replace("memcached-b")
    with rig.faults.memory_fill("memcached-b", to=0.5):
        assert rig.limited.limits == {("memcached-b", "memory"): 0.5}
    assert rig.is_whole()
    failures.append(ConnectionResetError("broken"))
    with pytest.raises(FaultError, match="broken"):
        rig.faults.memory_fill("memcached-a", to=0.5)


def test_limits_end_with_the_process(rig: Rig) -> None:
    """What ended with a process does not come back when another fault is applied or healed."""
    first = rig.faults.memory_fill("redis-b", to=2.0)
    rig.nodes.replace("redis-b")
    rig.limited.limits.clear()
    second = rig.faults.memory_fill("redis-b", to=0.5)
    assert rig.limited.limits == {("redis-b", "memory"): 0.5}
    second.heal()
    assert rig.limited.limits == {}
    first.heal()
    assert rig.is_whole()


def test_a_node_that_ends_during_the_heal(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limit has ended with its process, so that the fault is healed."""
    fault = rig.faults.aof_error("redis-b")

    def end(node: str) -> None:
        rig.backend.kill(node)
        raise ConnectionResetError(node)

    monkeypatch.setattr(rig.limited, "recover_disk", end)
    fault.heal()
    assert rig.faults.active == []


def test_others_during_the_heal_of_a_node_that_does_not_answer(rig: Rig) -> None:
    """The limits of the others end, of one fault and of several."""
    first = rig.faults.memory_fill("redis-a", "redis-b", to=2.0)
    rig.limited.failing.add("redis-a")
    with pytest.raises(FaultError, match="limits of redis-a could not be changed"):
        first.heal()
    assert rig.limited.limits == {("redis-a", "memory"): 2.0}
    rig.faults.connection_limit("redis-b", most=1)
    rig.faults.slow("memcached-a", cpu=10)
    with pytest.raises(FaultError, match="limits of redis-a could not be changed"):
        rig.faults.heal_all()
    assert rig.limited.limits == {("redis-a", "memory"): 2.0}
    rig.limited.failing.clear()
    rig.faults.heal_all()
    assert rig.is_whole()


def test_a_node_that_does_not_answer_during_the_heal(rig: Rig) -> None:
    """It has its limit still, so that the fault stays; healing it again ends it."""
    fault = rig.faults.aof_error("redis-b")
    rig.limited.failing.add("redis-b")
    with pytest.raises(FaultError, match="limits of redis-b could not be changed"):
        fault.heal()
    assert rig.faults.active == [fault]
    rig.limited.failing.clear()
    fault.heal()
    assert rig.is_whole()
