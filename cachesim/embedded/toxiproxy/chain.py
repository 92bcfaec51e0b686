"""The toxics of one stream of one connection, without I/O: data and times in, data and times out.

A chain has a stage for each toxic, as in Toxiproxy. What leaves a stage carries the time at which
it was due, not the one at which somebody looked: a late timer does not add up over the stages.
Times are seconds of any monotonic clock.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import ClassVar

from cachesim.toxiproxy.toxics import (
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)

_OVERHEAD = 128  # bytes that a piece of data takes beside its content
_BURST = 256  # pieces that leave a stage in one go: slices of one byte must not keep the loop
_SLICE = 0.1  # seconds: bandwidth passes on what it may have sent meanwhile, as Toxiproxy does
_FOR_EVER_MS = 24 * 3600 * 1000


class Ending(Enum):
    """How a stream ends."""

    EOF = "the source sends no more; the other stream goes on"
    CLOSE = "the connection is to be closed"
    RESET = "the connection is to be reset"


@dataclass(frozen=True)
class Noop(Toxic):
    """Let everything through. Toxiproxy has it too, undocumented."""

    type: ClassVar[str] = "noop"


@dataclass(frozen=True)
class AppliedToxic:
    """A toxic as a proxy has it.

    Attributes:
        stream: in the words of who added it.
        toxicity: the share of connections it works on.
        key: what it is known by when it is changed (`dataclasses.replace` keeps it).
    """

    name: str
    toxic: Toxic
    stream: str
    toxicity: float = 1.0
    key: object = field(default_factory=object, compare=False, repr=False)

    @property
    def stalls(self) -> bool:
        """Whether nothing gets through, on no connection, and nothing is lost either."""
        if self.toxicity < 1:
            return False
        if isinstance(self.toxic, Bandwidth):
            return self.toxic.rate == 0
        return (
            isinstance(self.toxic, Latency)
            and self.toxic.latency - self.toxic.jitter >= _FOR_EVER_MS
        )


_Item = tuple[float, bytes | Ending, float]


class _Sink(ABC):
    """Where a stage's output goes: the next stage, or out."""

    @abstractmethod
    def put(self, at: float, data: bytes | Ending) -> None:
        """Take what has left the stage before, or the source, at a time."""


class _Stage(_Sink):
    """A toxic on its own. This one lets everything through; the others say what they do else.

    Args:
        now: nothing leaves before.
    """

    def __init__(self, toxic: Toxic, now: float, rng: Random) -> None:
        self.toxic = toxic
        self.queue: deque[_Item] = deque()
        self.held = 0
        self._free = now  # when the last piece left; none overtakes it
        self._ended = False
        self._rng = rng

    def put(self, at: float, data: bytes | Ending) -> None:
        if self._ended:
            return
        self._ended = isinstance(data, Ending)
        self.queue.append((at, data, self._draw()))
        self.held += _size(data)

    def _draw(self) -> float:
        """A number that stays with a piece of data."""
        return 0.0

    def _due(self) -> float:
        """When the first in the queue leaves, given that there is one."""
        return max(self._free, self.queue[0][0])

    def _pass_on(self, due: float, sink: _Sink) -> None:
        """Let the first in the queue go on, or a piece of it."""
        _, data, _ = self._pop()
        self._free = due
        sink.put(due, data)

    def _pop(self) -> _Item:
        item = self.queue.popleft()
        self.held -= _size(item[1])
        return item

    @property
    def deadline(self) -> float:
        """When there is something to do, if nothing comes until then."""
        return self._due() if self.queue else math.inf

    def advance(self, now: float, sink: _Sink) -> None:
        """Let go on what is due."""
        for _ in range(_BURST):
            if not self.queue or (due := self._due()) > now:
                break
            self._pass_on(due, sink)

    def change(self, toxic: Toxic, now: float) -> None:
        """Work with other attributes. What is held is held by these from now on."""
        self.toxic = toxic
        self._free = max(self._free, now)

    def flush(self, now: float, sink: _Sink) -> None:
        """Let everything go on; the stage is taken away."""
        for item in self.queue:
            sink.put(now, item[1])
        self.queue.clear()
        self.held = 0


class _LatencyStage(_Stage):
    """Also delays an end: a connection can't be closed faster than it carries data."""

    toxic: Latency

    def _draw(self) -> float:
        return self._rng.uniform(-1, 1) if self.toxic.jitter else 0.0

    def _due(self) -> float:
        at, _, draw = self.queue[0]
        return max(self._free, at + (self.toxic.latency + self.toxic.jitter * draw) / 1000)


class _Slicing(_Stage):
    """Lets the first in the queue go in pieces."""

    _sent = 0  # bytes of the first

    @abstractmethod
    def _end(self, data: bytes) -> int:
        """Where the next piece of the first in the queue ends."""

    def _pass_on(self, due: float, sink: _Sink) -> None:
        _, data, _ = self.queue[0]
        if isinstance(data, Ending) or ((end := self._end(data)) >= len(data) and not self._sent):
            super()._pass_on(due, sink)
            return
        self._free = due
        sink.put(due, data[self._sent : end])
        self._sent = end
        if end >= len(data):
            self._pop()
            self._sent = 0

    def flush(self, now: float, sink: _Sink) -> None:
        if self._sent:
            _, data, _ = self._pop()
            if not isinstance(data, Ending):
                sink.put(now, data[self._sent :])
            self._sent = 0
        super().flush(now, sink)


class _BandwidthStage(_Slicing):
    toxic: Bandwidth

    def _end(self, data: bytes) -> int:
        return min(len(data), self._sent + int(self.toxic.rate * 1000 * _SLICE))

    def _due(self) -> float:
        _, data, _ = self.queue[0]
        begin = super()._due()
        if not self.toxic.rate:
            return math.inf
        size = 0 if isinstance(data, Ending) else self._end(data) - self._sent
        return begin + size / (self.toxic.rate * 1000)


class _SlicerStage(_Slicing):
    toxic: Slicer

    def __init__(self, toxic: Toxic, now: float, rng: Random) -> None:
        super().__init__(toxic, now, rng)
        self._ends: Iterator[int] = iter(())

    def _end(self, data: bytes) -> int:
        if not self._sent:
            self._ends = self._cuts(len(data))
        return next(self._ends)

    def _pass_on(self, due: float, sink: _Sink) -> None:
        super()._pass_on(due, sink)
        self._free = due + self.toxic.delay / 1e6

    def _cuts(self, size: int) -> Iterator[int]:
        """Where the slices of so many bytes end: halves of halves, until they are small enough."""
        average, variation = self.toxic.average_size, self.toxic.size_variation
        todo = [(0, size)]
        while todo:
            start, end = todo.pop()
            if end - start <= average + variation:
                yield end
                continue
            middle = (start + end) // 2
            if variation:
                middle += self._rng.randrange(-variation, variation)
            todo += (middle, end), (start, middle)


class _SlowCloseStage(_Stage):
    toxic: SlowClose

    def _due(self) -> float:
        at, data, _ = self.queue[0]
        return max(self._free, at + (self.toxic.delay / 1000 if data is Ending.EOF else 0))


class _TimeoutStage(_Stage):
    toxic: Timeout

    def __init__(self, toxic: Toxic, now: float, rng: Random) -> None:
        super().__init__(toxic, now, rng)
        self._last = now
        self._closed = False

    def put(self, at: float, data: bytes | Ending) -> None:
        if isinstance(data, Ending):
            super().put(at, data)
        else:
            self._last = max(self._last, at)

    @property
    def _closes_at(self) -> float:
        if self._closed or not self.toxic.timeout:
            return math.inf
        return self._last + self.toxic.timeout / 1000

    @property
    def deadline(self) -> float:
        return min(super().deadline, self._closes_at)

    def advance(self, now: float, sink: _Sink) -> None:
        super().advance(now, sink)
        if self._closes_at <= now:
            self._close(self._closes_at, sink)

    def change(self, toxic: Toxic, now: float) -> None:
        super().change(toxic, now)
        self._last = now

    def flush(self, now: float, sink: _Sink) -> None:
        # What was dropped is missing: the connection can't go on.
        self._close(now, sink)

    def _close(self, at: float, sink: _Sink) -> None:
        if not self._closed:
            self._closed = True
            sink.put(at, Ending.CLOSE)


class _ResetPeerStage(_Stage):
    toxic: ResetPeer

    def put(self, at: float, data: bytes | Ending) -> None:  # noqa: ARG002
        if not self.queue:
            super().put(at, Ending.RESET)

    def _due(self) -> float:
        return max(self._free, self.queue[0][0] + self.toxic.timeout / 1000)


class _LimitDataStage(_Stage):
    toxic: LimitData

    _passed = 0

    def _pass_on(self, due: float, sink: _Sink) -> None:
        _, data, _ = self._pop()
        self._free = due
        if isinstance(data, Ending):
            sink.put(due, data)
            return
        left = max(0, self.toxic.bytes - self._passed)
        if left:
            sink.put(due, data[:left])
        self._passed += len(data[:left])
        if self._passed >= self.toxic.bytes:
            sink.put(due, Ending.CLOSE)


_STAGES: dict[type[Toxic], type[_Stage]] = {
    Latency: _LatencyStage,
    Bandwidth: _BandwidthStage,
    SlowClose: _SlowCloseStage,
    Timeout: _TimeoutStage,
    ResetPeer: _ResetPeerStage,
    Slicer: _SlicerStage,
    LimitData: _LimitDataStage,
}


@dataclass
class _Place:
    """A toxic in the chain of one connection.

    Attributes:
        draw: what its toxicity is compared with, drawn once for the connection.
    """

    applied: AppliedToxic
    draw: float
    stage: _Stage

    @property
    def stage_type(self) -> type[_Stage]:
        works = self.draw < self.applied.toxicity
        return _STAGES.get(type(self.applied.toxic), _Stage) if works else _Stage


class _Output(_Sink):
    """What has come out, until its first ending."""

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
            self.held += _size(data)


class Chain:
    """The toxics on one stream of one connection.

    Args:
        rng: what is drawn: jitter, sizes of slices, and whether a toxic works on this connection.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._places: list[_Place] = []
        self._output = _Output()

    def set(self, now: float, toxics: Sequence[AppliedToxic]) -> None:
        """Be made of these toxics from now on.

        One that was there keeps what it holds and counts, with its new attributes. One that is gone
        lets go of what it holds. `poll()` has what comes of it.
        """
        wanted = {applied.key: applied for applied in toxics}
        for index in reversed(range(len(self._places))):
            place = self._places[index]
            if place.applied.key not in wanted:
                place.stage.flush(now, self._after(index))
                del self._places[index]
        there = {place.applied.key: place for place in self._places}
        for applied in toxics:
            if applied.key not in there:
                self._add(applied, now)
            elif there[applied.key].applied is not applied:
                self._change(there[applied.key], applied, now)

    def feed(self, now: float, data: bytes) -> None:
        """Take data from the source."""
        self._after(-1).put(now, data)

    def end(self, now: float) -> None:
        """Take the source's end."""
        self._after(-1).put(now, Ending.EOF)

    def poll(self, now: float) -> list[bytes]:
        """What comes out of the chain until now, in order; `ending` says whether that was all."""
        for index, place in enumerate(self._places):
            place.stage.advance(now, self._after(index))
        data, self._output.data, self._output.held = self._output.data, [], 0
        return data

    @property
    def ending(self) -> Ending | None:
        """How the stream has ended, if it has. Nothing comes after it."""
        return self._output.ending

    @property
    def deadline(self) -> float:
        """When `poll()` is to be called again if nothing happens before; infinite for never."""
        return min((place.stage.deadline for place in self._places), default=math.inf)

    @property
    def held(self) -> int:
        """How many bytes of memory it takes to hold what is held, roughly."""
        return self._output.held + sum(place.stage.held for place in self._places)

    @property
    def is_idle(self) -> bool:
        """Whether it has no toxics and nothing to let go of."""
        return not self._places and not self._output.data and self._output.ending is None

    def _after(self, index: int) -> _Sink:
        return self._places[index + 1].stage if index + 1 < len(self._places) else self._output

    def _add(self, applied: AppliedToxic, now: float) -> None:
        place = _Place(applied, self._rng.random(), _Stage(applied.toxic, now, self._rng))
        place.stage = place.stage_type(applied.toxic, now, self._rng)
        self._places.append(place)

    def _change(self, place: _Place, applied: AppliedToxic, now: float) -> None:
        place.applied = applied
        if type(place.stage) is place.stage_type:
            place.stage.change(applied.toxic, now)
        else:
            # Its toxicity has changed so that it begins or ceases to work on this connection.
            before, place.stage = place.stage, place.stage_type(applied.toxic, now, self._rng)
            before.flush(now, place.stage)


def _size(data: bytes | Ending) -> int:
    return _OVERHEAD if isinstance(data, Ending) else _OVERHEAD + len(data)
