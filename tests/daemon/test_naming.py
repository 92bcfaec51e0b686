"""What the endpoints of the zones lead to, as nodes move."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cachesim.control_plane.timing import Timing
from cachesim.daemon.naming import Naming
from cachesim.errors import ToxiproxyError
from cachesim.settings import Settings
from cachesim.topology import Endpoint, production
from tests.fakes import FakeBackend, FakeConfiguration


class Backend(FakeBackend):
    """Nodes that can move."""

    def __init__(self) -> None:
        super().__init__(production(), [])
        self.moved: dict[str, Endpoint] = {}
        self.led: list[tuple[str, Endpoint]] = []

    def endpoint(self, node: str) -> Endpoint:
        """See `Backend.endpoint`."""
        return self.moved.get(node, super().endpoint(node))

    def lead_zones_to(self, node: str) -> None:
        """See `Backend.lead_zones_to`."""
        if "lead" in self.failing:
            raise ToxiproxyError("no answer")
        self.led.append((node, self.endpoint(node)))


@pytest.fixture
def backend() -> Backend:
    """Nodes that can move."""
    return Backend()


@pytest.fixture
def naming(backend: Backend) -> Naming:
    """What the endpoints lead to."""
    topology = production()
    plane = SimpleNamespace(is_healthy=lambda _node: True, timing=Timing.of(Settings()))
    provision = SimpleNamespace(
        topology=topology,
        memcached=topology.memcached,
        backend=backend,
        configuration=FakeConfiguration(topology),
        seed=7,
        endpoints=lambda nodes: [backend.endpoint(node.name) for node in nodes],
    )
    naming = Naming(cast(Any, provision), lambda: cast(Any, plane))
    naming.begin()
    return naming


def look(naming: Naming) -> None:
    """Let the endpoints of the zones follow a new answer."""
    naming.forget()
    naming.follow()
    naming.close()


def test_zones_follow_a_node_to_its_new_address(naming: Naming, backend: Backend) -> None:
    """Their endpoint is led to a node's new address, there and back, and not without need."""
    look(naming)
    assert backend.led == []
    first = backend.endpoint("redis-a")
    backend.moved["redis-a"] = new = Endpoint("redis-a", 7000)
    look(naming)
    look(naming)
    assert backend.led == [("redis-a", new)]
    backend.moved.clear()
    look(naming)
    assert backend.led[1:] == [("redis-a", first)]


def test_zones_that_could_not_be_led_are_led_again(naming: Naming, backend: Backend) -> None:
    """A Toxiproxy that did not answer is asked again with the next look."""
    backend.moved["redis-a"] = new = Endpoint("redis-a", 7000)
    backend.failing.add("lead")
    look(naming)
    backend.failing.clear()
    look(naming)
    assert backend.led == [("redis-a", new)]
