"""Applying and healing faults, for users: `sim.faults`."""

from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, overload

from cachesim.errors import InvalidFault, NotRunning
from cachesim.faults import catalogue
from cachesim.faults.catalogue import CATALOGUE, Catalogue, OnePart, Parts, name_of, names_of
from cachesim.faults.spec import FaultSpec
from cachesim.runs.calls import Call, FaultData
from cachesim.simulator.faults_of_addresses import FaultsOfAddresses
from cachesim.simulator.faults_of_servers import FaultsOfServers
from cachesim.topology import Topology
from cachesim.toxiproxy import toxics
from cachesim.toxiproxy.toxics import Stream


class Calls(Protocol):
    """Makes calls: see `cachesim.simulator.connection.Connection`."""

    @property
    def is_over(self) -> bool:
        """Whether this process has ended the topology."""
        ...

    def check(self) -> None:
        """Raise NotRunning if nothing can be called."""
        ...

    def call(self, operation: str, **arguments: Any) -> Any:
        """Make a call and return its answer."""
        ...


class Fault:
    """A fault that was applied. Leaving it as a context manager heals it. Equal by its id.

    Attributes:
        id: tells it from the others of its topology.
        spec: the fault as a value, with full names.
        kind: the fault's name in the event log, such as `latency of 5 ms`.
        target: its links, nodes or zones in the event log, such as `az-a|az-b`.
        remaining: the seconds that were left until it is healed, when this was asked for. None: it
            is healed by hand.
    """

    def __init__(self, data: FaultData, calls: Calls, catalogue: Catalogue) -> None:
        self.id = data["id"]
        self.spec = catalogue.read(data["fault"])
        self.kind = data["kind"]
        self.target = data["target"]
        self.remaining = data["seconds"]
        self._calls = calls

    def heal(self) -> None:
        """End the fault. Repeating it is harmless, and so is healing it after the topology's end.

        Raises:
            FaultError: it could not be healed; call `heal` again.
            NotRunning: it is a fault of the process that this one was forked from, or the
                topology's process has died.
        """
        try:
            self._calls.call(Call.HEAL, fault=self.id)
        except NotRunning:
            if not self._calls.is_over:
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.heal()
        except NotRunning:
            if error is None:  # else the block's own error says more
                raise

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fault):
            return NotImplemented
        return (self.id, self._calls) == (other.id, other._calls)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<{self.kind} on {self.target}>"


class Faults(FaultsOfServers[Fault], FaultsOfAddresses[Fault]):
    """Applies faults to a running topology. Thread-safe.

    Links, nodes and zones are given by name (`"redis-a"`, `"a"` or `"az-a"`), or as what has one:
    `sim.redis["a"]`, `sim.zones["a"]`, `sim.links["client-to-redis-a"]`. Where several are meant,
    one will do, and a name may be a pattern, such as `"client-to-*"`.
    """

    def __init__(self, topology: Topology, calls: Calls, catalogue: Catalogue = CATALOGUE) -> None:
        self._topology = topology
        self._calls = calls
        self._catalogue = catalogue

    @property
    def active(self) -> list[Fault]:
        """The faults that were applied and are not healed, by whatever client.

        A fault on a node ends when the node is resumed or gets a new process, unless it flaps.
        """
        return [self._fault(data) for data in self._calls.call(Call.FAULTS)]

    @overload
    def apply(
        self,
        fault: FaultSpec | Mapping[str, Any],
        /,
        *,
        over: float | None = None,
        flap: tuple[float, float] | None = None,
        heal_after: float | None = None,
    ) -> Fault: ...

    @overload
    def apply(
        self,
        faults: Sequence[FaultSpec | Mapping[str, Any]],
        /,
        *,
        over: float | None = None,
        flap: tuple[float, float] | None = None,
        heal_after: float | None = None,
    ) -> list[Fault]: ...

    def apply(
        self,
        fault: object,
        /,
        *,
        over: float | None = None,
        flap: tuple[float, float] | None = None,
        heal_after: float | None = None,
    ) -> Fault | list[Fault]:
        """Apply a fault of the catalogue, or all faults of a list or none.

        Args:
            fault: a fault, such as `Partition("a", "b")`, or its JSON form
                `{"fault": "partition", "a": "a", "b": "b"}`; or a list of either.
            over: seconds in which it grows evenly from nothing to what it says: the `ms` of a
                latency, the `share` of a loss, the `seconds` of a replication lag, the `to` of
                memory. None: it is there at once.
            flap: seconds for which it is there, and for which it is away, in turn, until it is
                healed. None: it stays.
            heal_after: seconds until the topology's process heals it, whether this process still
                runs or not. None: it stays until it is healed.

        Returns:
            The fault that was applied, or a list of them.

        Raises:
            InvalidFault: a fault is wrong; none was applied.
            FaultError: a fault could not be applied. Those before it in the list are healed again.
            NotRunning: the topology does not run, or belongs to another process.
        """
        self._calls.check()
        if isinstance(fault, list | tuple):
            specs = self._catalogue.read_list(fault, self._topology)
        else:
            specs = [self._catalogue.read(fault).resolve(self._topology)]
        values = [spec.as_dict() for spec in specs]
        times = {"seconds": heal_after, "over": over, "flap": flap}
        applied = [self._fault(it) for it in self._calls.call(Call.APPLY, faults=values, **times)]
        return applied if isinstance(fault, list | tuple) else applied[0]

    def _fault(self, data: FaultData) -> Fault:
        return Fault(data, self._calls, self._catalogue)

    # --- on links ---------------------------------------------------------------------------

    def latency(self, links: Parts, ms: int, jitter: int = 0) -> Fault:
        """Add `ms` ± `jitter` milliseconds to the round trip, once.

        Raises:
            ValueError: both are 0, one is negative, or they are too much for Toxiproxy.
        """
        return self.apply(catalogue.Latency(names_of(links), ms, jitter))

    def bandwidth(self, links: Parts, kb_s: int) -> Fault:
        """Limit both streams to `kb_s` kilobytes a second, at least 1."""
        return self.apply(catalogue.Bandwidth(names_of(links), kb_s))

    def loss(self, links: Parts, share: float, ms: int = 200) -> Fault:
        """Make a share of the data come late, with all that is sent after it.

        A connection hands data on in pieces, mostly one for each request and each answer. Each
        piece is drawn alone, in both directions.

        Args:
            share: of the pieces that come late, 0.001 to 1.
            ms: the milliseconds that they come late on average; the longest is twice that.
        """
        return self.apply(catalogue.Loss(names_of(links), share, ms))

    def reset(self, links: Parts) -> Fault:
        """Reset every connection when the client next sends, also new ones."""
        return self.apply(catalogue.Reset(names_of(links)))

    def toxic(
        self,
        links: Parts,
        toxic: toxics.Toxic,
        streams: Collection[Stream] = (Stream.DOWNSTREAM,),
        *,
        toxicity: float = 1.0,
        label: str | None = None,
    ) -> Fault:
        """Add any toxic.

        Args:
            toxicity: the share of connections that it works on, 0.000001 to 1.
            label: the fault's name in the event log; None: the toxic's type.

        Raises:
            ValueError: it would have no effect.
        """
        return self.apply(catalogue.Toxic(names_of(links), toxic, tuple(streams), toxicity, label))

    def blackhole(self, links: Parts) -> Fault:
        """Hold all data back: connections hang, nothing is refused or closed.

        On heal, the same connections go on, and the data arrives.
        """
        return self.apply(catalogue.Blackhole(names_of(links)))

    def refuse(self, links: Parts) -> Fault:
        """Close established connections and refuse new ones."""
        return self.apply(catalogue.Refuse(names_of(links)))

    def replication_lag(self, seconds: float, replicas: Parts | None = None) -> Fault:
        """Delay everything that replicas receive.

        The delay is on all links that replication may use, so it stays when roles move.

        Args:
            seconds: the delay, rounded to milliseconds.
            replicas: the nodes that lag, or their names; None: all.

        Raises:
            ValueError: a node is unknown, or the delay is below 1 ms or too long for Toxiproxy.
        """
        names = None if replicas is None else names_of(replicas)
        return self.apply(catalogue.ReplicationLag(seconds, names))

    # --- on zones ---------------------------------------------------------------------------

    def partition(self, a: OnePart, b: OnePart, *, one_way: bool = False) -> Fault:
        """Blackhole every link between two zones.

        Args:
            one_way: cut only the direction from `a` to `b`.
        """
        return self.apply(catalogue.Partition(name_of(a), name_of(b), one_way))

    def isolate(self, zone: OnePart) -> Fault:
        """Cut a zone off from the other zones and from clients."""
        return self.apply(catalogue.Isolate(name_of(zone)))

    def az_power(self, zone: OnePart) -> Fault:
        """Cut the power of a zone.

        All its nodes stop at once, and writes that the append-only file had not fsynced are lost
        (up to 1 s of them, drawn from the seed). Connections hang, as a dead machine refuses and
        closes nothing. No node of the zone is replaced until the power is back.
        """
        return self.apply(catalogue.AzPower(name_of(zone)))

    # --- on nodes ---------------------------------------------------------------------------

    def kill(self, *nodes: OnePart) -> Fault:
        """SIGKILL nodes; healing starts them again. Their machines keep running: ports refuse."""
        return self.apply(catalogue.Kill(self._some("kill", nodes)))

    def stop(self, *nodes: OnePart) -> Fault:
        """Shut nodes down cleanly; healing starts them again."""
        return self.apply(catalogue.Stop(self._some("stop", nodes)))

    def pause(self, *nodes: OnePart) -> Fault:
        """SIGSTOP nodes: connections stay and nothing is answered; healing resumes them."""
        return self.apply(catalogue.Pause(self._some("pause", nodes)))

    def memory_fill(self, *nodes: OnePart, to: float = 1.0) -> Fault:
        """Fill the memory of nodes, by lowering it to what they hold.

        A Redis node then refuses with OOM what needs more. A Memcached node evicts, for each new
        item, one that was not asked for lately. It is never less than 8 MB there, and the rest is
        filled with items of cachesim. The fault ends with the node's process.

        Args:
            to: the share of the memory that is in use then, 0.1 to 10.
        """
        return self.apply(catalogue.MemoryFill(self._some("memory_fill", nodes), to))

    def connection_limit(self, *nodes: OnePart, most: int) -> Fault:
        """Limit the connections of clients to nodes, each alone.

        What is open stays. Redis closes a connection beyond the limit at once, Memcached lets it
        wait until another one is closed. The fault ends with the node's process.

        Args:
            most: the most connections, besides those of replicas and of cachesim.
        """
        return self.apply(catalogue.ConnectionLimit(self._some("connection_limit", nodes), most))

    # --- healing ----------------------------------------------------------------------------

    def heal_all(self) -> None:
        """Heal every fault, nodes before links, and undo what others did to the proxies by hand."""
        self._calls.call(Call.HEAL)

    def _one(self, fault: FaultSpec) -> Fault:
        return self.apply(fault)

    def _some(self, verb: str, nodes: tuple[OnePart, ...]) -> tuple[str, ...]:
        self._calls.check()
        if not nodes:
            names = ", ".join(node.name for node in self._topology.nodes)
            raise InvalidFault(f"{verb} which node? There are {names}")
        found: tuple[str, ...] = names_of(nodes)
        return found
