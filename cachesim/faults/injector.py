"""What goes wrong in production, made of toxics and node verbs.

Every fault begins when it is called, is a context manager, and has `heal()`. Applying and healing
are idempotent, faults compose, and healing one leaves the others. A fault that could not be applied
raises `FaultError`: a run must never pass because its fault was not there.
"""

import contextlib
import itertools
import random
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Protocol, Self

from cachesim.errors import FaultError
from cachesim.events import EventLog
from cachesim.faults.links import Links
from cachesim.faults.nodes import Nodes
from cachesim.topology import CLIENT, Link, Service, Topology
from cachesim.toxiproxy.toxics import (
    BOTH,
    MS_MAX,
    TOXICITY_MIN,
    Bandwidth,
    Latency,
    ResetPeer,
    Stream,
    Toxic,
)

LinkSelection = Link | str | Iterable[Link | str]
"""Links or their names, one or several."""

EVERYSEC = 1.0
"""Seconds of writes that a loss of power can cost with `appendfsync everysec`."""


class AofSizes(Protocol):
    """Where the sizes of the append-only files are known from."""

    def aof_size(self, node: str, ago: float) -> int | None:
        """The size of a node's append-only file some seconds ago or less, in bytes, if known."""
        ...


class Fault:
    """A fault that has begun. Leaving it as a context manager heals it.

    Attributes:
        kind: `partition`, `kill`, ...
        target: what it is on, as text.
    """

    def __init__(self, kind: str, target: str, heal: Callable[["Fault"], None]) -> None:
        self.kind = kind
        self.target = target
        self._heal = heal

    def heal(self) -> None:
        """End the fault. Repeating it is harmless.

        Raises:
            FaultError: it could not be healed; it may be tried again.
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
        self.heal()

    def __repr__(self) -> str:
        return f"<{self.kind} on {self.target}>"


class Faults:
    """Applies faults to a running topology. Thread-safe.

    Args:
        seed: what a loss of power costs is drawn from it.
    """

    def __init__(
        self,
        topology: Topology,
        links: Links,
        nodes: Nodes,
        sizes: AofSizes,
        events: EventLog,
        seed: str,
    ) -> None:
        self._topology = topology
        self._links = links
        self._nodes = nodes
        self._sizes = sizes
        self._events = events
        self._lock = threading.RLock()
        self._active: dict[int, Fault] = {}
        self.reseed(seed)

    @property
    def active(self) -> list[Fault]:
        """The faults that have begun and are not healed.

        A node that was given a new process, or resumed, meanwhile has no fault any more.
        """
        with self._lock:
            on_nodes = ("kill", "stop", "pause")
            there = self._nodes.holds
            return [f for f in self._active.values() if f.kind not in on_nodes or there(f)]

    def reseed(self, seed: str) -> None:
        """Begin the draws anew."""
        self._random = random.Random(f"{seed} faults")

    # --- on links ---------------------------------------------------------------------------

    def latency(self, links: LinkSelection, ms: int, jitter: int = 0) -> Fault:
        """Add `ms` ± `jitter` milliseconds to the round trip, once.

        Raises:
            ValueError: both are 0, one is negative, or they are too much for Toxiproxy.
        """
        return self.toxic(links, Latency(ms, jitter), kind=f"latency of {ms} ms")

    def bandwidth(self, links: LinkSelection, kb_s: int) -> Fault:
        """Limit both streams to `kb_s` kilobytes a second, at least 1."""
        if kb_s < 1:
            raise ValueError(f"bandwidth: at least 1 KB/s, got {kb_s}; `blackhole` stops all")
        return self.toxic(links, Bandwidth(kb_s), BOTH, kind=f"bandwidth of {kb_s} KB/s")

    def reset(self, links: LinkSelection) -> Fault:
        """Reset every connection when the client next sends, also new ones."""
        return self.toxic(links, ResetPeer(), [Stream.UPSTREAM], kind="reset")

    def toxic(
        self,
        links: LinkSelection,
        toxic: Toxic,
        streams: Collection[Stream] = (Stream.DOWNSTREAM,),
        *,
        toxicity: float = 1.0,
        kind: str | None = None,
    ) -> Fault:
        """Add any toxic.

        Args:
            toxicity: the share of connections that it works on, 0.000001 to 1.
            kind: what the event log calls it.

        Raises:
            ValueError: it would do nothing.
        """
        chosen = self._select(links)
        toxic.check_effect()
        if isinstance(toxicity, bool) or not TOXICITY_MIN <= toxicity <= 1:
            raise ValueError(f"toxicity must be from {TOXICITY_MIN:f} to 1, got {toxicity!r}")
        if not (streams := [Stream(stream) for stream in streams]):
            raise ValueError(f"streams: at least one of {', '.join(BOTH)}")
        return self._begin(
            kind or toxic.type,
            _names(chosen),
            lambda fault: self._links.hold_toxic(fault, chosen, toxic, streams, toxicity),
        )

    def blackhole(self, links: LinkSelection) -> Fault:
        """Let packets vanish: connections hang, nothing is refused or closed.

        Data in flight is held back, and on heal the same sockets go on.
        """
        chosen = self._select(links)
        return self._begin("blackhole", _names(chosen), self._staller(dict.fromkeys(chosen, BOTH)))

    def refuse(self, links: LinkSelection) -> Fault:
        """Close established connections and refuse new ones."""
        chosen = self._select(links)
        return self._begin(
            "refuse", _names(chosen), lambda fault: self._links.hold_refused(fault, chosen)
        )

    def replication_lag(self, seconds: float, replicas: Iterable[str] | None = None) -> Fault:
        """Let replicas receive everything so much later.

        It is on the links that replication may use, so it stays when roles move.

        Args:
            seconds: in whole milliseconds.
            replicas: the names of the nodes that lag; without it, all.

        Raises:
            ValueError: that is no time or no node, or too much for Toxiproxy.
        """
        if isinstance(seconds, bool) or not 0.001 <= seconds <= MS_MAX // 1000:
            raise ValueError(
                f"replication_lag: seconds must be from 0.001 to {MS_MAX // 1000}, got {seconds!r}"
            )
        known = [node.name for node in self._topology.redis]
        names = known if replicas is None else list(replicas)
        if not names or not set(names) <= set(known):
            raise ValueError(f"replicas: of {', '.join(known)} at least one, got {names}")
        zones = {self._topology.node(name).zone for name in names}
        links = [k for k in self._links.values() if k.is_replication and k.source in zones]
        target = ", ".join(names)
        return self._begin(
            f"replication lag of {seconds:g} s",
            target,
            lambda fault: self._links.hold_toxic(
                fault, links, Latency(round(seconds * 1000)), [Stream.DOWNSTREAM]
            ),
        )

    # --- on zones ---------------------------------------------------------------------------

    def partition(self, a: str, b: str, *, one_way: bool = False) -> Fault:
        """Blackhole every link between two zones.

        Args:
            one_way: only what goes from `a` to `b` vanishes.
        """
        source, target = self._topology.zone(a), self._topology.zone(b)
        if source == target:
            raise ValueError(f"a partition is between two zones, not {source} and itself")
        streams: dict[Link, tuple[Stream, ...]] = {}
        for link in self._links.values():
            if link.joins(source.name, target.name):
                forward = Stream.UPSTREAM if link.source == source.name else Stream.DOWNSTREAM
                streams[link] = (forward,) if one_way else BOTH
        sign = ">" if one_way else "|"
        return self._begin("partition", f"{source}{sign}{target}", self._staller(streams))

    def isolate(self, zone: str) -> Fault:
        """Cut a zone off from the other zones and from clients."""
        cut = self._topology.zone(zone)
        return self._begin("isolate", str(cut), self._staller(self._around(cut.name)))

    def az_power(self, zone: str) -> Fault:
        """Cut the power of a zone.

        All its nodes stop dead at once and what the append-only file had not fsynced is lost
        (drawn from the seed: up to 1 s of it). Connections hang, as a dead machine refuses and
        closes nothing. Nothing is replaced there until the power is back.
        """
        dark = self._topology.zone(zone)

        def synced(node: str) -> int | None:
            if self._topology.node(node).service is not Service.REDIS:
                return None
            return self._sizes.aof_size(node, self._random.uniform(0, EVERYSEC))

        def apply(fault: Fault) -> None:
            # First: a link to what stands still can't be changed.
            self._links.hold_stall(fault, self._around(dark.name))
            self._nodes.cut_power(fault, dark.name, synced)

        return self._begin("az-power", str(dark), apply)

    # --- on nodes ---------------------------------------------------------------------------

    def kill(self, *nodes: str) -> Fault:
        """SIGKILL; healing starts the nodes again. The machines live on: their ports refuse."""
        return self._on_nodes("kill", nodes, self._nodes.kill)

    def stop(self, *nodes: str) -> Fault:
        """An orderly end of the processes; healing starts them again."""
        return self._on_nodes("stop", nodes, self._nodes.stop)

    def pause(self, *nodes: str) -> Fault:
        """SIGSTOP: connections stay and nothing is answered; healing resumes the nodes."""
        return self._on_nodes("pause", nodes, self._nodes.pause)

    # --- healing ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """While it is entered, the faults and verbs of other threads wait."""
        with self._lock, self._nodes.suspended():
            yield

    def heal_all(self) -> None:
        """Heal every fault: first the nodes, then the links, with what others did to them too."""
        with self._lock:
            try:
                self._nodes.release_all()
            finally:
                self._links.reset()
            for fault in tuple(self._active.values()):
                self._ended(fault)

    # --- helpers ----------------------------------------------------------------------------

    def _begin(self, kind: str, target: str, apply: Callable[[Fault], None]) -> Fault:
        fault = Fault(kind, target, self._end)
        with self._lock:
            try:
                apply(fault)
            except BaseException:
                with contextlib.suppress(FaultError):
                    self._release(fault)
                raise
            self._active[id(fault)] = fault
            self._events.record("fault", target, kind)
        return fault

    def _end(self, fault: Fault) -> None:
        with self._lock:
            if id(fault) in self._active:
                self._release(fault)
                self._ended(fault)

    def _release(self, fault: Fault) -> None:
        # In this order: a toxic changed on a link whose receiver is stuck freezes its Toxiproxy.
        try:
            self._nodes.release(fault)
        finally:
            self._links.release(fault)

    def _ended(self, fault: Fault) -> None:
        del self._active[id(fault)]
        self._events.record("heal", fault.target, fault.kind)

    def _staller(self, streams: Mapping[Link, tuple[Stream, ...]]) -> Callable[[Fault], None]:
        return lambda fault: self._links.hold_stall(fault, streams)

    def _on_nodes(
        self, kind: str, nodes: tuple[str, ...], verb: Callable[[Fault, Collection[str]], None]
    ) -> Fault:
        if not nodes:
            raise ValueError(f"{kind} which node? There are {', '.join(self._names())}")
        for name in nodes:
            self._topology.node(name)
        return self._begin(kind, ", ".join(nodes), lambda fault: verb(fault, nodes))

    def _around(self, zone: str) -> dict[Link, tuple[Stream, ...]]:
        places = [CLIENT, *(z.name for z in self._topology.zones if z.name != zone)]
        pairs = itertools.product([zone], places)
        cut = [k for one, other in pairs for k in self._links.values() if k.joins(one, other)]
        return dict.fromkeys(cut, BOTH)

    def _select(self, links: LinkSelection) -> list[Link]:
        several = [links] if isinstance(links, Link | str) else list(links)
        chosen = [self._links[link] if isinstance(link, str) else link for link in several]
        if not chosen:
            raise ValueError("no links were chosen: the fault would do nothing")
        return chosen

    def _names(self) -> list[str]:
        return [node.name for node in self._topology.nodes]


def _names(links: Collection[Link]) -> str:
    first = next(iter(links)).name
    return first if len(links) == 1 else f"{first} and {len(links) - 1} more"
