"""What an observation has recorded: its operations, and the events of the topology meanwhile."""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

from cachesim.errors import CachesimError
from cachesim.events import Event, Events
from cachesim.history.rows import Kind
from cachesim.simulator.faults import Fault
from cachesim.simulator.observing.figures import Figures
from cachesim.simulator.observing.streams import Stream
from cachesim.simulator.observing.table import timeline


@dataclass(frozen=True)
class Record:
    """What was recorded until some time.

    Attributes:
        figures: those of the operations, by their kind.
        events: the events since the begin.
        notes: sentences on how far the figures can be trusted.
    """

    figures: Mapping[Kind, Figures]
    events: Sequence[Event]
    notes: Sequence[str]


class Tape:
    """What an observation records, until it is sealed.

    Args:
        streams: its operations, by their kind.
        events: the event log of the topology.
        speed: returns the speed of its control plane.
        begin: when the observation began, in monotonic seconds.
        every: seconds from one operation of a kind to the next.
        deadline: seconds within which an answer is good.
        workers: how many operations of a kind may be under way.
    """

    def __init__(
        self,
        streams: Mapping[Kind, Stream],
        events: Events,
        speed: Callable[[], float],
        begin: float,
        every: float,
        deadline: float,
        workers: int,
    ) -> None:
        self._streams = streams
        self._workers = workers
        self._events = events
        self._speed = speed
        self._mark = events.mark()
        self._begin, self.every, self._deadline = begin, every, deadline
        self._sealed: Record | None = None

    def figures(self, kinds: Sequence[Kind]) -> list[Figures]:
        """Return the figures of some kinds of operations."""
        found = self._figures() if self._sealed is None else self._sealed.figures
        return [found[kind] for kind in kinds]

    def seal_if_settled(self, at: float) -> bool:
        """Seal it if no outage is in progress, and an operation tells so. Return whether.

        Args:
            at: the operation was due then or later: a fault may have been healed just before.
        """
        figures = self._figures()
        settled = all(it.reaches(at) and not it.is_in_outage for it in figures.values())
        if settled:
            self._sealed = self._record(figures)
        return settled

    def seal(self) -> None:
        """Let what was recorded until now be all. It may be sealed already."""
        self._sealed = self._sealed or self._record(self._figures())

    def timeline(self) -> str:
        """Return what happened in the topology beside what became of operations, as a table."""
        it = self._sealed or self._record(self._figures())
        return "\n".join([timeline(list(it.figures.values()), it.events), *it.notes])

    def span_after(self, fault: Fault) -> tuple[float, float]:
        """Return when a fault was healed, or else when it was applied; and when the next began.

        Raises:
            ValueError: it was neither applied nor healed during the observation.
        """
        events = self._events.since(self._mark) if self._sealed is None else self._sealed.events
        changes = [it.at for it in events if it.data.get("fault") == fault.id]
        if not changes:
            raise ValueError(f"{fault!r} was neither applied nor healed during the observation")
        others = (it for it in events if it.kind == "fault" and it.at > changes[-1])
        later = (it.data.get("begun", it.at) for it in others)
        return changes[-1], next(later, float("inf"))

    def _record(self, figures: Mapping[Kind, Figures]) -> Record:
        return Record(figures, self._events.since(self._mark), self._notes(figures.values()))

    def _figures(self) -> dict[Kind, Figures]:
        found: dict[Kind, Figures] = {}
        for kind, stream in self._streams.items():
            operations, until = stream.known()
            title = f"{stream.service} {kind}s" if len(self._streams) > 1 else stream.service
            found[kind] = Figures(
                title,
                operations,
                self._begin,
                until,
                self.every,
                self._deadline,
                is_open=until <= stream.end < float("inf"),
            )
        return found

    def _notes(self, figures: Iterable[Figures]) -> list[str]:
        notes = [note for it in figures if (note := self._pace(it))]
        stall = max(stream.stall for stream in self._streams.values())
        if stall > self._deadline / 4:
            notes.append(f"Operations began up to {stall:.2f} s late, as this process was busy.")
        with contextlib.suppress(CachesimError):  # the topology may have ended
            if (speed := self._speed()) != 1:
                notes.append(
                    f"The control plane is {speed:g} times as fast as in production, clients are "
                    "not. With speed=1 the figures are those of production."
                )
        return notes

    def _pace(self, it: Figures) -> str:
        """Return that calls take too long for the schedule, if most do and some had to wait."""
        took = [op.end - op.start for op in it.operations if op.outcome == "ok" and op.end]
        typical = median(took or [0.0])
        if typical <= self.every * self._workers or not it.errors.keys() & {"late", "shed"}:
            return ""
        return (
            f"Most calls of {it.title} took {typical:.3g} s or more, and one is due every "
            f"{self.every:g} s, with workers={self._workers}: they queue, and become late or shed "
            "even if nothing fails. Observe with every="
            f"{2 * typical / self._workers:.2g}, or with workers={ceil(2 * typical / self.every)}."
        )
