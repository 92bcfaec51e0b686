"""The toxic chain of one stream of one connection: adding, changing and removing toxics. No I/O.

As in Toxiproxy, a chain has a stage for each toxic; `stages` has the classes of stages. Times are
seconds of any monotonic clock.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from cachesim.embedded.toxiproxy.stages import Ending, Sink, Stage, memory_size, stage_class
from cachesim.toxiproxy.toxics import Bandwidth, Latency, Toxic

_FOR_EVER_MS = 24 * 3600 * 1000


@dataclass(frozen=True)
class AppliedToxic:
    """A toxic of a proxy.

    Attributes:
        stream: `upstream` or `downstream`, spelled as it was when the toxic was added.
        toxicity: the share of affected connections, 0 to 1.
        key: the toxic's identity, which `dataclasses.replace` keeps.
    """

    name: str
    toxic: Toxic
    stream: str
    toxicity: float = 1.0
    key: object = field(default_factory=object, compare=False, repr=False)

    @property
    def stalls(self) -> bool:
        """Whether the toxic holds all data on all connections, without dropping any."""
        if self.toxicity < 1:
            return False
        if isinstance(self.toxic, Bandwidth):
            return self.toxic.rate == 0
        return (
            isinstance(self.toxic, Latency)
            and self.toxic.latency - self.toxic.jitter >= _FOR_EVER_MS
        )


@dataclass
class _Entry:
    """A toxic in the chain of one connection.

    Attributes:
        draw: a random number of the connection; the toxic works if it is below the toxicity.
    """

    applied: AppliedToxic
    draw: float
    stage: Stage


class _Output(Sink):
    """The output of a chain, up to its first ending."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.held = 0
        self.ending: Ending | None = None

    def put(self, at: float, data: bytes | Ending) -> None:  # noqa: ARG002
        if self.ending is not None:
            return
        if isinstance(data, Ending):
            self.ending = data
        else:
            self.data.append(data)
            self.held += memory_size(data)


class Chain:
    """The toxics on one stream of one connection.

    Args:
        rng: the source of jitter, slice sizes, and whether a toxic affects this connection.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._entries: list[_Entry] = []
        self._output = _Output()

    def set(self, now: float, toxics: Sequence[AppliedToxic]) -> None:
        """Replace the toxics.

        A toxic with the key of a former toxic keeps its held data and counters, with the new
        attributes. A removed toxic releases its held data. `poll` returns the released data.
        """
        keys = {applied.key for applied in toxics}
        for index in reversed(range(len(self._entries))):
            entry = self._entries[index]
            if entry.applied.key not in keys:
                entry.stage.flush(now, self._after(index))
                del self._entries[index]
        there = {entry.applied.key: entry for entry in self._entries}
        for applied in toxics:
            if applied.key not in there:
                self._add(applied, now)
            elif there[applied.key].applied is not applied:
                self._change(there[applied.key], applied, now)

    def feed(self, now: float, data: bytes) -> None:
        """Take data from the source."""
        self._after(-1).put(now, data)

    def end(self, now: float) -> None:
        """Take the end of the source."""
        self._after(-1).put(now, Ending.EOF)

    def poll(self, now: float) -> list[bytes]:
        """Return the data released by now, in order. `ending` tells whether more can come."""
        for index, entry in enumerate(self._entries):
            entry.stage.advance(now, self._after(index))
        data, self._output.data, self._output.held = self._output.data, [], 0
        return data

    @property
    def ending(self) -> Ending | None:
        """The way in which the stream has ended; None while it goes on."""
        return self._output.ending

    @property
    def deadline(self) -> float:
        """The time for the next `poll` if nothing happens before; infinite for never."""
        return min((entry.stage.deadline for entry in self._entries), default=math.inf)

    @property
    def held(self) -> int:
        """Roughly the bytes of memory that the held data takes."""
        return self._output.held + sum(entry.stage.held for entry in self._entries)

    @property
    def is_idle(self) -> bool:
        """Whether it has no toxics and nothing to pass on."""
        return not self._entries and not self._output.data and self._output.ending is None

    def _after(self, index: int) -> Sink:
        return self._entries[index + 1].stage if index + 1 < len(self._entries) else self._output

    def _add(self, applied: AppliedToxic, now: float) -> None:
        draw = self._rng.random()
        stage = _stage_class(applied, draw)(applied.toxic, now, self._rng)
        self._entries.append(_Entry(applied, draw, stage))

    def _change(self, entry: _Entry, applied: AppliedToxic, now: float) -> None:
        entry.applied = applied
        cls = _stage_class(applied, entry.draw)
        if type(entry.stage) is cls:
            entry.stage.change(applied.toxic, now)
        else:
            # With the new toxicity, the toxic starts or stops affecting this connection.
            before, entry.stage = entry.stage, cls(applied.toxic, now, self._rng)
            before.flush(now, entry.stage)


def _stage_class(applied: AppliedToxic, draw: float) -> type[Stage]:
    return stage_class(applied.toxic) if draw < applied.toxicity else Stage
