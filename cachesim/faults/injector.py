"""Applies faults to a running topology, and heals them.

Applying and healing are idempotent, faults compose, and healing one leaves the others. A fault that
could not be applied raises `FaultError`: a run must never pass because its fault was not there.

What each fault does is in `cachesim.faults.appliers`.
"""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cachesim.events import EventLog
from cachesim.faults import catalogue
from cachesim.faults.appliers import (
    APPLY,
    AofSizes,
    Apply,
    Controls,
    Names,
    Replacer,
    Scaler,
    Scales,
)
from cachesim.faults.catalogue import Catalogue
from cachesim.faults.courses import Course, Stage
from cachesim.faults.limits import Limits
from cachesim.faults.links import Links
from cachesim.faults.nodes import Nodes
from cachesim.faults.spec import FaultSpec
from cachesim.topology import Topology

_HEAL_AGAIN = 2.0  # seconds


@dataclass(frozen=True)
class AppliedFault:
    """A fault that was applied.

    Attributes:
        id: tells it from the others of its topology.
        spec: the fault as a value, with full names.
        heals_at: when it is healed, in monotonic seconds. None: it is healed by hand.
        flaps: whether it comes and goes until it is healed.
    """

    id: str
    spec: FaultSpec = field(compare=False)
    heals_at: float | None = field(default=None, compare=False)
    flaps: bool = field(default=False, compare=False)

    @property
    def remaining(self) -> float | None:
        """Seconds until it is healed, at least 0. None: it is healed by hand."""
        return None if self.heals_at is None else max(0.0, self.heals_at - time.monotonic())

    def __str__(self) -> str:
        return f"{self.spec.kind} on {self.spec.target}"


class Faults:
    """Applies faults to a running topology. Thread-safe.

    Args:
        seed: determines how many writes a loss of power loses.
        functions: the function that applies each fault, by the fault's class.
        names: what the configuration endpoints lead to.
        replacer: replaces nodes.
        scaler: changes the number of Memcached nodes.
    """

    def __init__(
        self,
        topology: Topology,
        links: Links,
        nodes: Nodes,
        limits: Limits,
        sizes: AofSizes,
        events: EventLog,
        seed: str,
        functions: Mapping[type[FaultSpec], Apply] = APPLY,
        *,
        names: Names,
        replacer: Replacer,
        scaler: Scaler,
    ) -> None:
        self._topology = topology
        self._links = links
        self._nodes = nodes
        self._limits = limits
        self._events = events
        self._names = names
        self._scales = Scales(scaler)
        self._controls = Controls(
            topology, links, nodes, limits, sizes, random.Random(), names, replacer, self._scales
        )
        self._functions = functions
        self._catalogue = Catalogue(functions)
        self._lock = threading.RLock()
        self._active: dict[str, AppliedFault] = {}
        self._courses: dict[str, threading.Event] = {}  # set once the fault has ended
        self._numbers = itertools.count(1)
        self._ending = contextlib.ExitStack()
        self.reseed(seed)

    @property
    def active(self) -> list[AppliedFault]:
        """The faults that were applied and are not healed.

        A fault on a node ends when the node is resumed or gets a new process, unless it flaps.
        """
        with self._lock:
            on_nodes = (catalogue.Kill, catalogue.Stop, catalogue.Pause)
            return [
                fault
                for fault in self._active.values()
                if not isinstance(fault.spec, on_nodes)
                or fault.flaps  # it may be away now, and comes back
                or self._nodes.holds(fault)
            ]

    def reseed(self, seed: str) -> None:
        """Start the random draws again from a seed."""
        self._controls.draws.seed(f"{seed} faults")

    def apply(
        self, faults: Sequence[FaultSpec | Mapping[str, Any]], course: Course | None = None
    ) -> list[AppliedFault]:
        """Apply all faults of a list, or none.

        Args:
            faults: faults of the catalogue, such as `Partition("a", "b")`, or their JSON forms.
            course: how they go on once they are applied.

        Raises:
            InvalidFault: a fault is wrong; none was applied.
            FaultError: a fault could not be applied. Those before it in the list are healed again.
        """
        specs = self._catalogue.read_list(faults)
        if any(isinstance(spec, catalogue.Replace) for spec in specs):
            for spec in self._resolved(specs, course):
                # Without the lock: others may have to heal what keeps a replica from succeeding.
                if isinstance(spec, catalogue.Replace):
                    self._controls.replacer.prepare(spec.nodes[0])
        applied: list[AppliedFault] = []
        # Nobody else adds or removes nodes meanwhile: what a pattern stands for has to be there.
        with self._lock, self._scales.suspended():
            specs = self._resolved(specs, course)
            try:
                for spec in specs:
                    applied.append(self._begin(spec, course))  # noqa: PERF401  # what an error leaves counts
            except BaseException:
                for earlier in reversed(applied):
                    with contextlib.suppress(Exception):  # the first error says more
                        self._end(earlier)
                raise
        return applied

    def _resolved(self, specs: Sequence[FaultSpec], course: Course | None) -> list[FaultSpec]:
        resolved = self._catalogue.read_list(specs, self._topology)
        if course is not None:
            for spec in resolved:
                course.check(spec)
        return resolved

    def heal(self, fault_id: str) -> None:
        """End a fault. Repeating it is harmless.

        Raises:
            FaultError: it could not be healed; heal it again.
        """
        with self._lock:
            if fault_id in self._active:
                self._end(self._active[fault_id])

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Make the faults and node verbs of other threads wait inside the context."""
        # The nodes last: a scaling that is under way needs them to come to its end.
        with self._lock, self._scales.suspended(), self._nodes.suspended():
            yield

    def heal_all(self) -> None:
        """Heal every fault, nodes before links, and undo what others did to the proxies by hand."""
        with self._lock:
            try:
                self._nodes.release_all()
            finally:
                try:
                    self._links.reset()
                finally:
                    self._limits.release_all()
            self._names.forget()
            self._scales.release_all()
            for fault in tuple(self._active.values()):
                self._ended(fault)

    def close(self) -> None:
        """Undo what faults have changed in servers that run, and resume paused Memcached nodes.

        Faults and node verbs of other threads wait from now on, for good. All else stays as it is:
        whoever takes the servers over can see it, and heals it.

        Raises:
            FaultError: a limit could not be undone. The others were.
        """
        self._ending.enter_context(self.suspended())  # never left: one that flaps would come back
        for node in self._topology.memcached:
            self._nodes.resume(node.name)
        self._limits.release_all()

    def _begin(self, spec: FaultSpec, course: Course | None) -> AppliedFault:
        with self._lock:
            course = course or Course()
            begun = time.monotonic()
            heals_at = None if course.seconds is None else begun + course.seconds
            flaps = course.flap is not None
            fault = AppliedFault(str(next(self._numbers)), spec, heals_at, flaps)
            stages = course.stages(spec)
            _, first = next(stages)
            try:
                self._apply(fault, first)
            except BaseException:
                with contextlib.suppress(Exception):
                    self._release(fault)
                raise
            self._active[fault.id] = fault
            # It may have had its effect for some time, as a kill of containers.
            self._events.record("fault", spec.target, spec.kind, fault=fault.id, begun=begun)
            if course != Course():
                ended = self._courses[fault.id] = threading.Event()
                name = f"cachesim-fault-{fault.id}"
                arguments = (fault, begun, stages, ended)
                threading.Thread(
                    target=self._follow, args=arguments, name=name, daemon=True
                ).start()
        return fault

    def _apply(self, fault: AppliedFault, spec: FaultSpec | None) -> None:
        if spec is not None:
            self._functions[type(spec)](self._controls, fault, spec)

    def _follow(
        self, fault: AppliedFault, begun: float, stages: Iterator[Stage], ended: threading.Event
    ) -> None:
        """Change a fault as its course says, until it ends."""
        for at, spec in stages:
            if fault.heals_at is not None and begun + at >= fault.heals_at:
                break
            if ended.wait(max(0.0, begun + at - time.monotonic())):
                return
            try:
                with self._lock:
                    if fault.id in self._active:
                        self._release(fault)
                        self._apply(fault, None if spec is None else self._on_present(spec, begun))
            except Exception as error:  # the next stage may do better
                message = f"{fault.spec.kind} not changed: {error}"
                self._events.record("error", fault.spec.target, message)
        if fault.heals_at is not None:
            self._heal_at(fault, fault.heals_at, ended)

    def _on_present(self, spec: FaultSpec, begun: float) -> FaultSpec | None:
        """Return a fault without the nodes and links that were removed; None: nothing is left.

        Args:
            begun: since when the fault is there. Later nodes of these names are others.
        """

        def was_there(node: str) -> bool:
            return self._nodes.added_at(node) <= begun

        links, nodes = getattr(spec, "links", ()), getattr(spec, "nodes", ())
        present = {
            "links": tuple(
                it for it in links if it in self._links and was_there(self._links[it].target)
            ),
            "nodes": tuple(it for it in nodes if self._nodes.has(it) and was_there(it)),
        }
        changes: dict[str, Any] = {name: it for name, it in present.items() if hasattr(spec, name)}
        return replace(spec, **changes) if all(changes.values()) else None

    def _heal_at(self, fault: AppliedFault, moment: float, ended: threading.Event) -> None:
        """Heal a fault at a moment; if that fails, as while a node is paused, again and again."""
        pause, told = max(0.0, moment - time.monotonic()), ""
        while not ended.wait(pause):
            try:
                self.heal(fault.id)
            except Exception as error:  # nobody waits for it, but the log is read
                message = f"{fault.spec.kind} not healed: {error}"
                if message != told:
                    self._events.record("error", fault.spec.target, message)
                pause, told = _HEAL_AGAIN, message

    def _end(self, fault: AppliedFault) -> None:
        self._release(fault)
        self._ended(fault)

    def _release(self, fault: AppliedFault) -> None:
        # Nodes first: changing a toxic while the link's receiver is stuck freezes Toxiproxy.
        try:
            self._nodes.release(fault)
        finally:
            try:
                self._links.release(fault)
            finally:
                self._limits.release(fault)
                self._names.release(fault)
                self._scales.release(fault)

    def _ended(self, fault: AppliedFault) -> None:
        del self._active[fault.id]
        if (course := self._courses.pop(fault.id, None)) is not None:
            course.set()
        self._events.record("heal", fault.spec.target, fault.spec.kind, fault=fault.id)
