"""A topology in memory, to be broken and restored as its clients do it."""

import json
import ssl
import threading
from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from cachesim.backends.endpoints import ConfigurationEndpoints
from cachesim.daemon.operations import Operations
from cachesim.daemon.provisioning import Provision
from cachesim.daemon.restoring import Restorer
from cachesim.daemon.server import Caller, Handler
from cachesim.daemon.service import Answers
from cachesim.errors import NotRunning, as_json, revived
from cachesim.faults.appliers import APPLY, Apply
from cachesim.faults.catalogue import Catalogue
from cachesim.faults.injector import Faults as Injector
from cachesim.faults.limits import Limits
from cachesim.faults.links import Links
from cachesim.faults.nodes import Nodes
from cachesim.faults.spec import FaultSpec
from cachesim.runs.files import RunFiles
from cachesim.servers.credentials import Credentials
from cachesim.settings import Settings
from cachesim.simulator.faults import Faults
from cachesim.topology import NodeState, production
from cachesim.toxiproxy.toxics import Stream
from tests.control_plane.play import Play
from tests.fakes import (
    Call,
    FakeBackend,
    FakeCaller,
    FakeCluster,
    FakeConfiguration,
    FakeFiles,
    FakeLife,
    FakeMemcached,
    FakeNames,
    FakeReplacer,
    FakeScaler,
    FakeServers,
    FakeSizes,
    toxiproxies,
)


class InProcess:
    """Makes calls to answers of this process; all goes through JSON, as between two processes.

    Attributes:
        caller: this side, as the answering one sees it.
        is_over: whether the topology has ended.
    """

    def __init__(self, answers: Handler, caller: FakeCaller | None = None) -> None:
        self._answers = answers
        self.caller = caller or FakeCaller()
        self.is_over = False

    def check(self) -> None:
        """See `cachesim.simulator.faults.Calls`."""
        if self.is_over:
            raise NotRunning("the topology is not running")

    def call(self, operation: str, *, timeout: float = 0, **arguments: Any) -> Any:  # noqa: ARG002  # no hang
        """See `Connection.call`."""
        self.check()
        try:
            caller, values = cast(Caller, self.caller), _through_json(arguments)
            answer = self._answers.answer(caller, operation, values)
        except Exception as error:
            raise revived(_through_json(as_json(error))) from error
        return _through_json(answer)

    def wait(
        self,
        operation: str,
        *,
        limit: float | None = None,  # noqa: ARG002  # it does not hang
        **arguments: Any,
    ) -> Any:
        """See `Connection.wait`."""
        return self.call(operation, **arguments)

    def hang_up(self) -> None:
        """End the connection."""
        self.caller.has_hung_up = True
        self._answers.hung_up(cast(Caller, self.caller))


def _through_json(value: object) -> Any:
    return json.loads(json.dumps(value))


class Rig:
    """A topology in memory.

    Attributes:
        calls: what was done to nodes and links, in order.
        names: what endpoints faults hold.
        replacer: what nodes faults replace.
        scaler: how many Memcached nodes there are.
        limited: the servers whose limits faults change.
        play: the control plane, at a time that stands still.
        injector: applies the faults.
        restorer: heals, repairs and empties it.
        files: the run's files.
        life: the life of its process.
        connection: how its users call it.
        faults: what users have of the injector.
    """

    def __init__(self, seed: str = "7", functions: Mapping[type[FaultSpec], Apply] = APPLY) -> None:
        self.topology = topology = production()
        self.calls: list[Call] = []
        self.backend = FakeBackend(topology, self.calls)
        self.servers = toxiproxies(topology, self.calls)
        self.play = Play()
        self.control_plane = self.play.plane
        self.events = self.play.events
        self.sizes = FakeSizes({"redis-a": 4096, "redis-b": 2048})
        self.links = Links(topology, self.servers, self.events, lambda _: False, lambda _: None)
        self.nodes = Nodes(topology, self.backend, self.links, self.events)
        self.limited = FakeServers()
        self.names = FakeNames()
        self.replacer = FakeReplacer()
        self.scaler = FakeScaler(topology)
        limits = Limits(self.limited, self.nodes, self.backend)
        self.injector = Injector(
            topology,
            self.links,
            self.nodes,
            limits,
            self.sizes,
            self.events,
            seed,
            functions,
            names=self.names,
            replacer=self.replacer,
            scaler=self.scaler,
        )
        self.cluster = FakeCluster(self.calls)
        memcached = {n.name: FakeMemcached(n.name, self.calls) for n in topology.memcached}
        self.files = FakeFiles()
        provision = Provision(
            "t",
            topology,
            Settings(node_timeout_seconds=2),
            7,
            self.backend,
            Credentials("to-ken", "secret"),
            cast(ssl.SSLContext, None),
            cast(RunFiles, self.files),
            cast(ConfigurationEndpoints, FakeConfiguration(topology)),
        )
        self.scaler.coming = provision.coming
        operations = SimpleNamespace(
            provision=provision,
            settings=provision.settings,
            seed=provision.seed,
            topology=topology,
            backend=self.backend,
            links=self.links,
            nodes=self.nodes,
            admin=SimpleNamespace(new_memcached=memcached.__getitem__),
            clusters={"0001": self.cluster},
            memcached=memcached,
            asking_memcached=threading.RLock(),
            faults=self.injector,
            naming=self.names,
            replacing=self.replacer,
            scaling=self.scaler,
            control_plane=self.control_plane,
            events=self.events,
            monitor=SimpleNamespace(reset=lambda: None),
        )
        self.operations = cast(Operations, operations)
        operations.adopt = partial(Operations.adopt, self.operations)
        self.restorer = Restorer(self.operations)
        self.restorer.begin()
        self.life = FakeLife()
        self.answers = Answers(self.operations, self.life)
        self.connection = self.connect()
        self.faults = Faults(topology, self.connection, Catalogue(functions))

    def connect(self, client: str = "a client", pid: int = 7) -> InProcess:
        """Return one more connection of a client."""
        return InProcess(self.answers, FakeCaller(client, pid))

    def did(self) -> list[Call]:
        """Return what was done since the last call, but to the links."""
        of_links = ("add", "set", "lift", "remove", "disable", "enable", "populate")
        did = [call for call in self.calls if call[0] not in of_links]
        self.calls.clear()
        return did

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
            and not self.limited.limits
            and not self.backend.rules
        )

    def told(self) -> list[tuple[str, str, str]]:
        """The events, without their times."""
        return [(event.kind, event.source, event.message) for event in self.events]
