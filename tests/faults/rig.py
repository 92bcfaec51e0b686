"""A topology in memory, to apply faults to as its clients do."""

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from cachesim.daemon.operations import Operations
from cachesim.daemon.server import Caller, Handler
from cachesim.daemon.service import Answers
from cachesim.errors import NotRunning, as_json, revived
from cachesim.events import EventLog
from cachesim.faults.appliers import APPLY, Apply
from cachesim.faults.catalogue import Catalogue
from cachesim.faults.injector import Faults as Injector
from cachesim.faults.links import Links
from cachesim.faults.nodes import Nodes
from cachesim.faults.spec import FaultSpec
from cachesim.simulator.faults import Faults
from cachesim.topology import NodeState, production
from cachesim.toxiproxy.toxics import Stream
from tests.fakes import Call, FakeBackend, FakeSizes, toxiproxies


class InProcess:
    """Makes calls to answers of this process; all goes through JSON, as between two processes.

    Attributes:
        is_over: whether the topology has ended.
    """

    def __init__(self, answers: Handler) -> None:
        self._answers = answers
        self._caller = cast(Caller, SimpleNamespace(client="tests", pid=7))
        self.is_over = False

    def check(self) -> None:
        """See `cachesim.simulator.faults.Calls`."""
        if self.is_over:
            raise NotRunning("the topology is not running")

    def call(self, operation: str, **arguments: object) -> Any:
        """See `cachesim.simulator.faults.Calls`."""
        self.check()
        try:
            answer = self._answers.answer(self._caller, operation, _through_json(arguments))
        except Exception as error:
            raise revived(_through_json(as_json(error))) from error
        return _through_json(answer)


def _through_json(value: object) -> Any:
    return json.loads(json.dumps(value))


class Rig:
    """A topology in memory to break.

    Attributes:
        calls: what was done to nodes and links, in order.
        injector: applies the faults.
        faults: what users have of it.
        connection: how they call it.
    """

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
        self.injector = Injector(
            self.topology, self.links, self.nodes, self.sizes, self.events, seed, functions
        )
        operations = SimpleNamespace(
            provision=SimpleNamespace(name="t", files=SimpleNamespace(save_holder=None)),
            topology=self.topology,
            backend=self.backend,
            clusters={},
            links=self.links,
            nodes=self.nodes,
            faults=self.injector,
            events=self.events,
        )
        life = SimpleNamespace(requested=False)
        self.answers = Answers(cast(Operations, operations), cast(Any, life))
        self.connection = InProcess(self.answers)
        self.faults = Faults(self.topology, self.connection, Catalogue(functions))

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
