"""What the operations of an observation tell, for users."""

from collections import Counter
from itertools import chain

from cachesim.history.outages import Outage
from cachesim.history.rows import Kind, Operation
from cachesim.simulator.faults import Fault
from cachesim.simulator.observing.figures import (
    Figures,
    Latency,
    Seconds,
    Unavailability,
    latency_of,
    worst,
)
from cachesim.simulator.observing.tape import Tape


class Observed:
    """What some operations tell. While they go on, it is what they have told so far.

    An operation is good if it was answered within the deadline of when it was due. An outage goes
    from the first bad one to the first of three good ones in a row. Outages less than 250 ms apart
    are one, if at least 5 % of the operations are bad.
    """

    def __init__(self, tape: Tape, kinds: tuple[Kind, ...], name: str) -> None:
        self._tape = tape
        self._kinds = kinds
        self._name = name

    @property
    def operations(self) -> list[Operation]:
        """The operations that are decided, by the time when they were due."""
        found = chain.from_iterable(it.operations for it in self._figures())
        return sorted(found, key=lambda it: it.due)

    @property
    def outages(self) -> list[Outage]:
        """The outages, by their begin. The end of one that has not ended is infinite."""
        found = chain.from_iterable(it.outages for it in self._figures())
        return sorted(found, key=lambda it: it.begin)

    @property
    def outage(self) -> Unavailability:
        """The length of the longest outage, and in `total` that of all of them.

        Of reads and writes it is the worse.
        """
        every = self._figures()
        return Unavailability(
            self._seconds(f"the longest outage of {self._name}", [it.longest() for it in every]),
            self._seconds(f"the total of outages of {self._name}", [it.total() for it in every]),
        )

    @property
    def errors(self) -> Counter[str]:
        """How many operations were not good, by the name of their error.

        `late` are answers after the deadline, `shed` operations that could not begin before it, and
        `unanswered` those that never ended.
        """
        return sum((it.errors for it in self._figures()), Counter[str]())

    @property
    def latency(self) -> Latency:
        """How long answers took."""
        return latency_of(list(chain.from_iterable(it.latencies for it in self._figures())))

    def recovered_after(self, fault: Fault) -> Seconds:
        """Return how long after a fault was healed the last outage ended.

        If it was not healed, it is how long after it was applied. Outages that begin after the next
        fault do not count.

        Raises:
            ValueError: the fault was neither applied nor healed during the observation.
        """
        at, until = self._tape.span_after(fault)
        spans = [it.recovered_after(at, until) for it in self._figures()]
        return self._seconds(f"the recovery of {self._name} after {fault!r}", spans)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._name}: outage {self.outage}>"

    def _figures(self) -> list[Figures]:
        return self._tape.figures(self._kinds)

    def _seconds(self, name: str, spans: list[tuple[float, float]]) -> Seconds:
        return Seconds(*worst(spans), name, self._tape.every, self._tape.timeline)
