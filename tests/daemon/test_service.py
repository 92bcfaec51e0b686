"""The daemon's calls that break something: values in, and no other verb of the injector."""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cachesim.daemon.service import Service
from cachesim.errors import CachesimError, FaultError, InvalidFault
from cachesim.topology import NodeState
from tests.faults.rig import Rig


class Node:
    """A node's handle, as far as the service needs it."""

    name, zone, endpoint = "redis-a", "a", "127.0.0.1:7000"

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    @property
    def state(self) -> NodeState:
        """The state of its process."""
        return self._rig.backend.states["redis-a"]

    def __getattr__(self, verb: str) -> Any:
        return lambda: getattr(self._rig.faults, verb)("redis-a")

    def resume(self) -> None:
        """End every pause."""
        self._rig.faults.heal_all()


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A topology in memory."""
    rig = Rig()
    yield rig
    rig.links.close()


@pytest.fixture
def service(rig: Rig) -> Service:
    """The service of a daemon that has this topology."""
    sim = SimpleNamespace(
        faults=rig.faults, events=rig.events, heal=rig.faults.heal_all, nodes={"redis-a": Node(rig)}
    )
    return Service(cast(Any, sim), cast(Any, SimpleNamespace(requested=False)))


def ask(service: Service, operation: str, **arguments: object) -> Any:
    """Make a call."""
    return service(cast(Any, None), operation, arguments)


def kill(*nodes: str) -> dict[str, object]:
    """A fault as JSON."""
    return {"fault": "kill", "nodes": list(nodes)}


def test_fault(rig: Rig, service: Service) -> None:
    """A fault gets a number, by which it is healed."""
    told = {"id": "1", "kind": "kill", "target": "redis-a"}
    assert ask(service, "fault", fault=kill("redis-a")) == {**told, "seconds": None}
    assert ask(service, "faults") == [told]
    assert ask(service, "heal", number="1") == [told]
    assert rig.is_whole()


def test_faults(rig: Rig, service: Service) -> None:
    """A list of faults gets a number each."""
    answer = ask(service, "fault", fault=[kill("redis-a"), kill("redis-b")], seconds=3600)
    assert [(it["id"], it["target"], it["seconds"]) for it in answer] == [
        ("1", "redis-a", 3600),
        ("2", "redis-b", 3600),
    ]
    assert len(ask(service, "heal", number=None)) == 2
    assert rig.is_whole()


def test_fault_for_a_time(rig: Rig, service: Service) -> None:
    """A fault is healed after its time."""
    ask(service, "fault", fault=kill("redis-a"), seconds=0.01)
    limit = time.monotonic() + 10
    while rig.faults.active and time.monotonic() < limit:
        time.sleep(0.01)
    assert rig.is_whole()


def test_fault_that_can_not_be_healed_after_its_time(rig: Rig, service: Service) -> None:
    """If it can't be healed, the event log says so."""
    rig.backend.failing.add("start_node")
    ask(service, "fault", fault=kill("redis-a"), seconds=0.01)
    rig.events.wait(lambda: bool(rig.events.of("error")), 10)
    (event,) = rig.events.of("error")
    assert (event.source, event.message) == (
        "redis-a",
        "kill not healed: start_node was told to fail",
    )


@pytest.mark.parametrize("seconds", [0, -1, True, "5", float("nan"), [5]])
def test_wrong_time(rig: Rig, service: Service, seconds: object) -> None:
    """A wrong time is an error before the fault is applied."""
    with pytest.raises(InvalidFault, match="seconds must be a number above 0, got "):
        ask(service, "fault", fault=kill("redis-a"), seconds=seconds)
    assert not rig.calls


@pytest.mark.parametrize("name", ["heal_all", "reseed", "apply", "active", "_begin", "__init__"])
def test_nothing_else_is_a_fault(rig: Rig, service: Service, name: str) -> None:
    """No other method of the injector can be reached."""
    with pytest.raises(InvalidFault, match=f"no fault '{name}': there are latency, "):
        ask(service, "fault", fault={"fault": name})
    assert not rig.calls


@pytest.mark.parametrize(
    ("verb", "state"), [("kill", "stopped"), ("stop", "stopped"), ("pause", "paused")]
)
def test_node(service: Service, verb: str, state: str) -> None:
    """The verbs of nodes are faults too."""
    assert ask(service, "node", verb=verb, node="redis-a")["state"] == state
    (fault,) = ask(service, "faults")
    assert (fault["kind"], fault["target"]) == (verb, "redis-a")
    assert ask(service, "node", verb="resume", node="redis-a")["state"] == "running"


@pytest.mark.parametrize("verb", ["isolate", "logs", "name", "__init__"])
def test_nothing_else_is_a_verb(rig: Rig, service: Service, verb: str) -> None:
    """No other attribute of a node can be reached."""
    with pytest.raises(CachesimError, match=f"no verb {verb!r} for nodes: there are kill, stop, "):
        ask(service, "node", verb=verb, node="redis-a")
    assert not rig.calls


def test_no_such_fault(service: Service) -> None:
    """An unknown number is an error with those that there are."""
    ask(service, "fault", fault=kill("redis-a"))
    with pytest.raises(
        CachesimError, match=r"no fault 7: there are 1\. `cachesim fault list` shows"
    ):
        ask(service, "heal", number="7")


def test_fault_that_fails(rig: Rig, service: Service) -> None:
    """A fault that fails gets no number."""
    rig.backend.failing.add("kill")
    with pytest.raises(FaultError, match="kill was told to fail"):
        ask(service, "fault", fault=kill("redis-a"))
    assert ask(service, "faults") == []
