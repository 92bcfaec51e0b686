"""The calls on faults and nodes: values in, and no other verb of the injector."""

from collections.abc import Iterator
from typing import Any

import pytest

from cachesim.errors import CachesimError, FaultError, InvalidFault
from cachesim.runs.calls import Call
from tests.contract.helpers import until
from tests.faults.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A topology in memory."""
    rig = Rig()
    yield rig
    rig.links.close()


def apply(rig: Rig, *faults: dict[str, Any], **arguments: object) -> Any:
    """Apply faults."""
    return rig.connection.call(Call.APPLY, faults=list(faults), **arguments)


def heal(rig: Rig, fault: str | None = None) -> Any:
    """Heal a fault, or all."""
    return rig.connection.call(Call.HEAL, fault=fault)


def kill(*nodes: str) -> dict[str, object]:
    """A fault as JSON."""
    return {"fault": "kill", "nodes": list(nodes)}


def test_fault(rig: Rig) -> None:
    """A fault gets an id, by which it is healed."""
    told = {"id": "1", "kind": "kill", "target": "redis-a", "fault": kill("redis-a")}
    assert apply(rig, kill("redis-a")) == [{**told, "seconds": None}]
    assert rig.connection.call(Call.FAULTS) == [told]
    assert heal(rig, "1") == [told]
    assert rig.is_whole()
    assert heal(rig, "1") == []


def test_faults(rig: Rig) -> None:
    """Each fault of a list gets an id."""
    answer = apply(rig, kill("redis-a"), kill("redis-b"), seconds=3600)
    assert [(it["id"], it["target"], it["seconds"]) for it in answer] == [
        ("1", "redis-a", 3600),
        ("2", "redis-b", 3600),
    ]
    assert [it["id"] for it in heal(rig)] == ["1", "2"]
    assert rig.is_whole()
    assert heal(rig) == []


def test_one_of_several(rig: Rig) -> None:
    """A fault that is healed by its id leaves the others."""
    apply(rig, kill("redis-a"), kill("redis-b"))
    assert [it["target"] for it in heal(rig, "2")] == ["redis-b"]
    assert [it["target"] for it in rig.connection.call(Call.FAULTS)] == ["redis-a"]


def test_fault_for_a_time(rig: Rig) -> None:
    """A fault is healed after its time."""
    apply(rig, kill("redis-a"), seconds=0.01)
    until(lambda: not rig.faults.active)
    assert rig.is_whole()


def test_fault_that_was_healed_before_its_time(rig: Rig) -> None:
    """When its time has passed, a fault that was healed is not healed again; others stay."""
    apply(rig, kill("redis-a"), kill("redis-b"), seconds=0.2)
    heal(rig, "1")
    (again,) = apply(rig, kill("redis-a"))
    until(lambda: len(rig.faults.active) == 1)
    assert [it["id"] for it in rig.connection.call(Call.FAULTS)] == [again["id"]]
    assert not rig.events.of("error")
    assert len(rig.events.of("heal")) == 2


def test_fault_that_can_not_be_healed_after_its_time(rig: Rig) -> None:
    """If it can't be healed, the event log says so."""
    rig.backend.failing.add("start_node")
    apply(rig, kill("redis-a"), seconds=0.01)
    rig.events.wait(lambda: bool(rig.events.of("error")), 10)
    (event,) = rig.events.of("error")
    assert (event.source, event.message) == (
        "redis-a",
        "kill not healed: start_node was told to fail",
    )


@pytest.mark.parametrize("seconds", [0, -1, True, "5", float("nan"), [5]])
def test_wrong_time(rig: Rig, seconds: object) -> None:
    """A wrong time is an error before the fault is applied."""
    with pytest.raises(InvalidFault, match="seconds must be a number above 0, got "):
        apply(rig, kill("redis-a"), seconds=seconds)
    assert not rig.calls


@pytest.mark.parametrize("name", ["heal_all", "reseed", "apply", "active", "_begin", "__init__"])
def test_nothing_else_is_a_fault(rig: Rig, name: str) -> None:
    """No other method of the injector can be reached."""
    with pytest.raises(InvalidFault, match=f"no fault '{name}': there are latency, "):
        apply(rig, {"fault": name})
    assert not rig.calls


@pytest.mark.parametrize("name", ["hung_up", "_apply", "isolate", "kill", "__init__"])
def test_nothing_else_is_a_call(rig: Rig, name: str) -> None:
    """No other method can be reached; who asks for one may run another version."""
    with pytest.raises(CachesimError, match=f"'t' does not know '{name}': .* another version of"):
        rig.connection.call(f"{name}", node="redis-a")
    assert not rig.calls


@pytest.mark.parametrize(
    ("verb", "state"), [("kill", "stopped"), ("stop", "stopped"), ("pause", "paused")]
)
def test_node(rig: Rig, verb: str, state: str) -> None:
    """What was done to a node is seen in its state, and ends with a call."""
    apply(rig, {"fault": verb, "nodes": ["memcached-a"]})
    assert rig.connection.call(Call.NODE, node="memcached-a") == {
        "name": "memcached-a",
        "zone": "a",
        "role": None,
        "state": state,
        "endpoint": "memcached-a:6379",
    }
    end = Call.RESUME if verb == "pause" else Call.RESTART
    rig.connection.call(end, node="memcached-a")
    assert rig.connection.call(Call.NODE, node="memcached-a")["state"] == "running"
    assert rig.faults.active == []
    assert [it.message for it in rig.events.of("restart")] == ["by hand"] * (end == Call.RESTART)


@pytest.mark.parametrize(
    "call", [Call.NODE, Call.RESUME, Call.RESTART, Call.LOGS], ids=lambda it: it.value
)
def test_no_such_node(rig: Rig, call: Call) -> None:
    """An unknown node is an error with those that there are."""
    more = {"lines": 5} if call is Call.LOGS else {}
    with pytest.raises(CachesimError, match="no node 'redis-d': there are redis-a, memcached-a, "):
        rig.connection.call(call, node="redis-d", **more)
    assert not rig.calls


def test_logs(rig: Rig) -> None:
    """The last lines of a node's log, as many as are asked for."""
    assert rig.connection.call(Call.LOGS, node="redis-a", lines=5) == "the last 5 lines of redis-a"


def test_link(rig: Rig) -> None:
    """A link is as its Toxiproxy has it, with what others added there."""
    rig.faults.latency("b-to-redis-a", 100)
    link = rig.connection.call(Call.LINK, link="b-to-redis-a")
    assert (link["name"], link["enabled"]) == ("b-to-redis-a", True)
    assert [it["attributes"] for it in link["toxics"]] == [{"latency": 100, "jitter": 0}]
    rig.faults.refuse("client-to-redis-b")
    links = {it["name"]: it for it in rig.connection.call(Call.LINKS)}
    assert links.keys() == {it.name for it in rig.topology.links}
    assert links["b-to-redis-a"] == link
    assert [it["name"] for it in links.values() if not it["enabled"]] == ["client-to-redis-b"]


def test_fault_that_fails(rig: Rig) -> None:
    """A fault that fails gets no id."""
    rig.backend.failing.add("kill")
    with pytest.raises(FaultError, match="kill was told to fail"):
        apply(rig, kill("redis-a"))
    assert rig.connection.call(Call.FAULTS) == []


# --- events -------------------------------------------------------------------------------------


def test_events(rig: Rig) -> None:
    """Events are numbered from 1, and can be read again from any number."""
    for fault in (kill("redis-a"), kill("redis-b"), kill("redis-c")):
        apply(rig, fault)
    events = rig.connection.call(Call.EVENTS)
    assert [(it["number"], it["source"]) for it in events] == [
        (1, "redis-a"),
        (2, "redis-b"),
        (3, "redis-c"),
    ]
    assert rig.connection.call(Call.EVENTS, after=1) == events[1:]
    assert rig.connection.call(Call.EVENTS, after=2, wait=60) == events[2:]
    assert rig.connection.call(Call.EVENTS, after=3) == []
    assert rig.connection.call(Call.EVENTS, after=3, wait=0.01) == []
