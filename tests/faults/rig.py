"""A topology in memory, to apply faults to."""

from collections.abc import Mapping

from cachesim.runs.running import Running

from cachesim.events import EventLog
from cachesim.faults.appliers import APPLY, Apply
from cachesim.faults.injector import Faults
from cachesim.faults.links import Links
from cachesim.faults.nodes import Nodes
from cachesim.faults.spec import FaultSpec
from cachesim.topology import NodeState, production
from cachesim.toxiproxy.toxics import Stream
from tests.fakes import Call, FakeBackend, FakeSizes, toxiproxies


class Rig:
    """A topology in memory to break; `calls` has what was done to nodes and links, in order."""

    def __init__(self, seed: str = "7", functions: Mapping[type[FaultSpec], Apply] = APPLY) -> None:
        self.topology = production()
        self.calls: list[Call] = []
        self.backend = FakeBackend(self.topology, self.calls)
        self.servers = toxiproxies(self.topology, self.calls)
        self.events = EventLog()
        self.sizes = FakeSizes({"redis-a": 4096, "redis-b": 2048})
        self.links = Links(
            self.topology, self.servers, self.events, lambda _: False, lambda _: None
        )
        self.nodes = Nodes(self.topology, self.backend, self.links, self.events)
        self.running = Running("t")
        self.faults = Faults(
            self.topology,
            self.links,
            self.nodes,
            self.sizes,
            self.events,
            seed,
            self.running,
            functions,
        )

    def toxics(self) -> dict[tuple[str, Stream], list[str]]:
        """Return the effects of the toxics, by link and stream."""
        streams = {
            (link.name, stream): self.servers[link.home].does(link.name, stream)
            for link in self.topology.links
            for stream in Stream
        }
        return {stream: effects for stream, effects in streams.items() if effects}

    def attributes(self, link: str) -> list[dict[str, int]]:
        """The attributes of a link's toxics."""
        toxics = self.servers[self.links[link].home].proxies()[link]["toxics"]
        return [toxic["attributes"] for toxic in toxics]

    def is_whole(self) -> bool:
        """Whether every node runs and no link has anything."""
        proxies = [p for server in self.servers.values() for p in server.proxies().values()]
        return (
            set(self.backend.states.values()) == {NodeState.RUNNING}
            and all(proxy["enabled"] for proxy in proxies)
            and not self.toxics()
        )

    def told(self) -> list[tuple[str, str, str]]:
        """The events, without their times."""
        return [(event.kind, event.source, event.message) for event in self.events]
