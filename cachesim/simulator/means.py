"""What handles act with, and their base."""

from collections.abc import Callable
from dataclasses import dataclass

from cachesim.simulator.connection import Connection
from cachesim.simulator.faults import Faults
from cachesim.topology import Endpoint, Topology


@dataclass(frozen=True)
class Means:
    """What handles act with.

    Attributes:
        endpoints: each node's last known address, by its name.
        configuration: the addresses of the configuration endpoints, by service.
    """

    topology: Topology
    connection: Connection
    faults: Faults
    endpoints: dict[str, Endpoint]
    configuration: dict[str, Endpoint]

    def scale(self, memcached: int, then: Callable[[], None]) -> None:
        """Note how many Memcached nodes there are."""
        nodes = self.topology.scaled(memcached)
        self.topology.scale(nodes)
        for node in nodes:
            self.endpoints.setdefault(node.name, Endpoint("", 0))  # it is asked for
        then()


class Handle:
    """A part of a topology, to be used while that runs."""

    def __init__(self, means: Means) -> None:
        self._connection = means.connection
        self._faults = means.faults
