"""Applies faults to a running topology, and heals them.

Every fault begins when it is applied, is a context manager, and has `heal()`. Applying and healing
are idempotent, faults compose, and healing one leaves the others. A fault that could not be applied
raises `FaultError`: a run must never pass because its fault was not there.

What each fault does is in `cachesim.faults.appliers`.
"""

import contextlib
import random
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, overload

from cachesim.errors import FaultError, InvalidFault, NotRunning
from cachesim.events import EventLog
from cachesim.faults import catalogue
from cachesim.faults.appliers import APPLY, AofSizes, Apply, Controls
from cachesim.faults.catalogue import Catalogue
from cachesim.faults.links import Links
from cachesim.faults.nodes import Nodes
from cachesim.faults.spec import FaultSpec
from cachesim.runs.running import Running
from cachesim.topology import Link, Topology
from cachesim.toxiproxy import toxics
from cachesim.toxiproxy.toxics import Stream

LinkSelection = Link | str | Iterable[Link | str]
"""Links or their names, one or several."""


class Fault:
    """A fault that was applied. Leaving it as a context manager heals it.

    Attributes:
        spec: the fault as a value, with full names.
        kind: the fault's name in the event log, such as `latency of 5 ms`.
        target: its links, nodes or zones in the event log, such as `az-a|az-b`.
    """

    def __init__(self, spec: FaultSpec, heal: Callable[["Fault"], None]) -> None:
        self.spec = spec
        self.kind = spec.kind
        self.target = spec.target
        self._heal = heal

    def heal(self) -> None:
        """End the fault. Repeating it is harmless, and so is healing it after the topology's end.

        Raises:
            FaultError: it could not be healed; call `heal` again.
            NotRunning: it is a fault of the process that this one was forked from.
        """
        self._heal(self)

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

    def __repr__(self) -> str:
        return f"<{self.kind} on {self.target}>"


# --- applying and healing ---------------------------------------------------------------------


class Faults:
    """Applies faults to a running topology. Thread-safe.

    Args:
        seed: determines how many writes a loss of power loses.
        running: the time in which there is a topology to break.
        functions: the function that applies each fault, by the fault's class.
    """

    def __init__(
        self,
        topology: Topology,
        links: Links,
        nodes: Nodes,
        sizes: AofSizes,
        events: EventLog,
        seed: str,
        running: Running,
        functions: Mapping[type[FaultSpec], Apply] = APPLY,
    ) -> None:
        self._topology = topology
        self._links = links
        self._nodes = nodes
        self._events = events
        self._running = running
        self._controls = Controls(topology, links, nodes, sizes, random.Random())
        self._functions = functions
        self._catalogue = Catalogue(functions)
        self._lock = threading.RLock()
        self._active: dict[int, Fault] = {}
        self.reseed(seed)

    @property
    def active(self) -> list[Fault]:
        """The faults that were applied and are not healed.

        A fault on a node ends when the node is resumed or gets a new process.
        """
        self._running.check()
        with self._lock:
            on_nodes = (catalogue.Kill, catalogue.Stop, catalogue.Pause)
            return [
                fault
                for fault in self._active.values()
                if not isinstance(fault.spec, on_nodes) or self._nodes.holds(fault)
            ]

    def reseed(self, seed: str) -> None:
        """Start the random draws again from a seed."""
        self._controls.draws.seed(f"{seed} faults")

    @overload
    def apply(self, fault: FaultSpec | Mapping[str, Any], /) -> Fault: ...

    @overload
    def apply(self, faults: Sequence[FaultSpec | Mapping[str, Any]], /) -> list[Fault]: ...

    def apply(self, fault: object, /) -> Fault | list[Fault]:
        """Apply a fault of the catalogue, or all faults of a list or none.

        Args:
            fault: a fault, such as `Partition("a", "b")`, or its JSON form
                `{"fault": "partition", "a": "a", "b": "b"}`; or a list of either.

        Returns:
            The fault that was applied, or a list of them.

        Raises:
            InvalidFault: a fault is wrong; none was applied.
            FaultError: a fault could not be applied. Those before it in the list are healed again.
            NotRunning: the topology does not run, or belongs to another process.
        """
        self._running.check()
        if not isinstance(fault, list | tuple):
            return self._begin(self._catalogue.read(fault).resolve(self._topology))
        specs = self._catalogue.read_list(fault, self._topology)
        applied: list[Fault] = []
        with self._lock:
            try:
                for spec in specs:
                    applied.append(self._begin(spec))  # noqa: PERF401  # what an error leaves counts
            except BaseException:
                for earlier in reversed(applied):
                    with contextlib.suppress(FaultError):  # the first error says more
                        earlier.heal()
                raise
        return applied

    # --- on links ---------------------------------------------------------------------------

    def latency(self, links: LinkSelection, ms: int, jitter: int = 0) -> Fault:
        """Add `ms` ± `jitter` milliseconds to the round trip, once.

        Raises:
            ValueError: both are 0, one is negative, or they are too much for Toxiproxy.
        """
        return self.apply(catalogue.Latency(_names(links), ms, jitter))

    def bandwidth(self, links: LinkSelection, kb_s: int) -> Fault:
        """Limit both streams to `kb_s` kilobytes a second, at least 1."""
        return self.apply(catalogue.Bandwidth(_names(links), kb_s))

    def reset(self, links: LinkSelection) -> Fault:
        """Reset every connection when the client next sends, also new ones."""
        return self.apply(catalogue.Reset(_names(links)))

    def toxic(
        self,
        links: LinkSelection,
        toxic: toxics.Toxic,
        streams: Collection[Stream] = (Stream.DOWNSTREAM,),
        *,
        toxicity: float = 1.0,
        kind: str | None = None,
    ) -> Fault:
        """Add any toxic.

        Args:
            toxicity: the share of connections that it works on, 0.000001 to 1.
            kind: the fault's name in the event log; None: the toxic's type.

        Raises:
            ValueError: it would have no effect.
        """
        return self.apply(catalogue.Toxic(_names(links), toxic, tuple(streams), toxicity, kind))

    def blackhole(self, links: LinkSelection) -> Fault:
        """Hold all data back: connections hang, nothing is refused or closed.

        On heal, the same connections go on, and the data arrives.
        """
        return self.apply(catalogue.Blackhole(_names(links)))

    def refuse(self, links: LinkSelection) -> Fault:
        """Close established connections and refuse new ones."""
        return self.apply(catalogue.Refuse(_names(links)))

    def replication_lag(self, seconds: float, replicas: Iterable[str] | None = None) -> Fault:
        """Delay everything that replicas receive.

        The delay is on all links that replication may use, so it stays when roles move.

        Args:
            seconds: the delay, rounded to milliseconds.
            replicas: the names of the nodes that lag; None: all.

        Raises:
            ValueError: a node is unknown, or the delay is below 1 ms or too long for Toxiproxy.
        """
        names = None if replicas is None else tuple(replicas)
        return self.apply(catalogue.ReplicationLag(seconds, names))

    # --- on zones ---------------------------------------------------------------------------

    def partition(self, a: str, b: str, *, one_way: bool = False) -> Fault:
        """Blackhole every link between two zones.

        Args:
            one_way: cut only the direction from `a` to `b`.
        """
        return self.apply(catalogue.Partition(a, b, one_way))

    def isolate(self, zone: str) -> Fault:
        """Cut a zone off from the other zones and from clients."""
        return self.apply(catalogue.Isolate(zone))

    def az_power(self, zone: str) -> Fault:
        """Cut the power of a zone.

        All its nodes stop at once, and writes that the append-only file had not fsynced are lost
        (up to 1 s of them, drawn from the seed). Connections hang, as a dead machine refuses and
        closes nothing. No node of the zone is replaced until the power is back.
        """
        return self.apply(catalogue.AzPower(zone))

    # --- on nodes ---------------------------------------------------------------------------

    def kill(self, *nodes: str) -> Fault:
        """SIGKILL nodes; healing starts them again. Their machines keep running: ports refuse."""
        return self.apply(catalogue.Kill(self._some("kill", nodes)))

    def stop(self, *nodes: str) -> Fault:
        """Shut nodes down cleanly; healing starts them again."""
        return self.apply(catalogue.Stop(self._some("stop", nodes)))

    def pause(self, *nodes: str) -> Fault:
        """SIGSTOP nodes: connections stay and nothing is answered; healing resumes them."""
        return self.apply(catalogue.Pause(self._some("pause", nodes)))

    # --- healing ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Make the faults and node verbs of other threads wait inside the context."""
        self._running.check()
        with self._lock, self._nodes.suspended():
            yield

    def heal_all(self) -> None:
        """Heal every fault, nodes before links, and undo what others did to the proxies by hand."""
        self._running.check()
        with self._lock:
            try:
                self._nodes.release_all()
            finally:
                self._links.reset()
            for fault in tuple(self._active.values()):
                self._ended(fault)

    # --- helpers ----------------------------------------------------------------------------

    def _begin(self, spec: FaultSpec) -> Fault:
        fault = Fault(spec, self._end)
        with self._lock:
            try:
                self._functions[type(spec)](self._controls, fault, spec)
            except BaseException:
                with contextlib.suppress(FaultError):
                    self._release(fault)
                raise
            self._active[id(fault)] = fault
            self._events.record("fault", fault.target, fault.kind)
        return fault

    def _end(self, fault: Fault) -> None:
        if self._running.is_over:
            return
        self._running.check()
        with self._lock:
            if id(fault) in self._active:
                self._release(fault)
                self._ended(fault)

    def _release(self, fault: Fault) -> None:
        # Nodes first: changing a toxic while the link's receiver is stuck freezes Toxiproxy.
        try:
            self._nodes.release(fault)
        finally:
            self._links.release(fault)

    def _ended(self, fault: Fault) -> None:
        del self._active[id(fault)]
        self._events.record("heal", fault.target, fault.kind)

    def _some(self, verb: str, nodes: tuple[str, ...]) -> tuple[str, ...]:
        if not nodes:
            names = ", ".join(node.name for node in self._topology.nodes)
            raise InvalidFault(f"{verb} which node? There are {names}")
        return nodes


def _names(links: LinkSelection) -> tuple[str, ...]:
    several = [links] if isinstance(links, Link | str) else links
    return tuple(link.name if isinstance(link, Link) else link for link in several)
