"""Addresses of containers that are published later, without an engine."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import MagicMock

import pytest
import requests
from docker.errors import APIError

from cachesim.backends.address_plan import Plan, first_ports
from cachesim.backends.containers.changes import ChangingContainers
from cachesim.errors import FaultError
from cachesim.topology import Endpoint, production

NODES = production().nodes


class Containers(ChangingContainers):
    """Nodes in containers, whose doors are only noted."""

    def __init__(self, listeners: Any = None) -> None:
        self._topology = production()
        self._plan = Plan(self._topology, first_ports(self._topology, 17000))
        self._host = self._client_host = "127.0.0.1"
        self.doors: list[tuple[str, Mapping[int, int]]] = []
        super().__init__(FakeEngine(), listeners)  # type: ignore[arg-type]

    def move(self, node: str, port: int) -> None:
        """Give a node another address."""
        self._plan = self._plan.moved(node, port)

    def _open_door(self, zone: str, ports: Mapping[int, int], api: int | None = None) -> Any:
        assert api is not None
        assert api not in ports
        self.doors.append((zone, ports))

    def _create(self, *_: object, **__: object) -> Any:
        raise NotImplementedError

    _create_node = _redis_files = _create


class FakeEngine:
    """A Docker engine on this machine."""

    def host(self) -> str:
        """Return its host."""
        return "127.0.0.1"


@pytest.fixture
def containers() -> Containers:
    """Nodes in containers."""
    return Containers()


def test_one_door_for_a_zone(containers: Containers) -> None:
    """The first client of a zone opens it; it leads to the links to other zones, and stays."""
    seen = containers.seen_from("b", NODES)
    ((zone, ports),) = containers.doors
    assert zone == "b"
    assert set(ports.values()) == {17000, 17001, 17020, 17021}
    for node in ("redis-a", "redis-c", "memcached-a", "memcached-c"):
        assert ports[seen[node].port] == containers.endpoint(node).port
    assert seen["redis-b"] == containers.endpoint("redis-b")
    assert seen["memcached-b"] == containers.endpoint("memcached-b")
    assert containers.seen_from("b", NODES) == seen
    assert len(containers.doors) == 1


def test_door_to_a_new_address(containers: Containers) -> None:
    """A node that has moved gets another door; the others and the old one stay as they are."""
    before = containers.seen_from("b", NODES)
    containers.move("redis-a", 23000)
    after = containers.seen_from("b", NODES)
    assert containers.doors[1:] == [("b", {after["redis-a"].port: 23000})]
    assert {it for it in before if before[it] != after[it]} == {"redis-a"}
    containers.move("redis-a", 17000)
    assert containers.seen_from("b", NODES) == before
    containers.move("redis-b", 23001)
    assert containers.seen_from("b", NODES)["redis-b"] == Endpoint("127.0.0.1", 23001)
    assert len(containers.doors) == 2


def test_address_that_can_not_be_published(
    containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node stays at its present address, and the door to that is removed with the next move."""
    doors: list[Any] = [MagicMock(), FaultError("no room"), MagicMock()]
    monkeypatch.setattr(containers, "_open_door", MagicMock(side_effect=doors))
    first = containers.move_node("memcached-a")
    with pytest.raises(FaultError, match="no room"):
        containers.move_node("memcached-a")
    assert str(containers.endpoint("memcached-a").port) in first["client-to-memcached-a"]
    doors[0].remove.assert_not_called()
    containers.move_node("memcached-a")
    doors[0].remove.assert_called_once_with(force=True)


class FakeListeners:
    """Listeners that listen nowhere.

    Attributes:
        there: the port and the link of the present one, by the name of the node.
        former: the ports of those that stay beside it.
    """

    host = "localhost"

    def __init__(self) -> None:
        self.there: dict[str, tuple[int, Endpoint]] = {}
        self.former: list[int] = []

    def open(self, node: str, port: int, link: Endpoint, *, beside: bool = False) -> None:
        """See `NodeListeners.open`."""
        if beside:
            self.former.append(self.there[node][0])
        self.there[node] = port, link

    def close(self, node: str) -> None:
        """See `NodeListeners.close`."""
        del self.there[node]


def test_listeners_before_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker publishes the links of clients to Memcached nodes elsewhere, also at new addresses."""
    listeners = FakeListeners()
    containers = Containers(listeners)
    published = containers._ports_behind()
    containers._plan = replace(containers._plan, behind=published)
    containers._listen_first()
    first = dict(listeners.there)
    assert first == {
        f"memcached-{zone}": (port, Endpoint("127.0.0.1", published[f"memcached-{zone}"]))
        for zone, port in (("a", 17001), ("b", 17011), ("c", 17021))
    }
    assert containers._plan.published("b")[17011] == published["memcached-b"]
    assert containers.endpoint("memcached-a") == Endpoint("localhost", 17001)
    assert containers.endpoint("redis-a") == Endpoint("127.0.0.1", 17000)
    seen = containers.seen_from("b", NODES)
    ((_, ports),) = containers.doors
    for zone, port in (("a", 17001), ("c", 17021)):
        at = seen[f"memcached-{zone}"]
        listens, link = listeners.there.pop(f"{port} from b")
        assert (at, ports[link.port]) == (Endpoint("localhost", listens), port)
    assert seen["memcached-b"] == Endpoint("localhost", 17011)
    assert ports[seen["redis-a"].port] == 17000
    open_door = MagicMock()
    monkeypatch.setattr(containers, "_open_door", open_door)
    for hangs in (False, True):
        containers.move_node("memcached-a", hangs=hangs)
        ((zone, ports), _) = open_door.call_args
        ((outside, port),) = ports.items()
        assert zone == "a"
        assert outside != port == containers.endpoint("memcached-a").port
        assert listeners.there["memcached-a"] == (port, Endpoint("127.0.0.1", outside))
    assert 17001 not in listeners.former
    assert len(listeners.former) == 1
    containers.move_node("memcached-a", back=True)
    assert listeners.there == first
    containers._stop_listening(*published)
    assert not listeners.there


VERBS = ["state", "kill", "shut_down", "pause", "resume", "start_node", "logs"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (APIError("500 Server Error", explanation="no room"), "the Docker engine refused: no room"),
        (requests.ConnectionError("gone"), "the Docker engine does not answer: gone"),
    ],
)
def test_errors_of_the_engine(
    containers: Containers, verb: str, error: Exception, told: str
) -> None:
    """A verb that the engine refuses, or does not answer, says so and what to do."""
    container = MagicMock()
    for name in ("reload", "kill", "stop", "pause", "unpause", "start", "logs"):
        getattr(container, name).side_effect = error
    containers._containers["redis-a"] = container
    with pytest.raises(FaultError, match=f"^{told}.*`cachesim doctor`"):
        getattr(containers, verb)("redis-a")
