"""The stages of a toxic chain, one class for each type of toxic. No I/O.

Each stage holds data in a queue until it is due. Data leaves a stage with the time at which it was
due, not the time at which a timer fired. So delays of late timers do not add up over the stages.
Times are seconds of any monotonic clock.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
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

_OVERHEAD = 128  # bytes of memory that a piece of data takes besides its content
_BURST = 256  # pieces that leave a stage at once, so that many small ones do not block the loop
_BANDWIDTH_SLICE = 0.1  # seconds of data that bandwidth passes on in one piece, as in Toxiproxy


class Ending(Enum):
    """A way in which a stream ends."""

    EOF = "the source sends no more; the other stream goes on"
    CLOSE = "the connection is to be closed"
    RESET = "the connection is to be reset"


@dataclass(frozen=True)
class Noop(Toxic):
    """The undocumented toxic `noop` of Toxiproxy, which lets everything through."""

    type: ClassVar[str] = "noop"


class Sink(ABC):
    """Takes the output of a stage: the next stage, or the end of the chain."""

    @abstractmethod
    def put(self, at: float, data: bytes | Ending) -> None:
        """Take data, or the end, that left the previous stage or the source at a time."""


_Item = tuple[float, bytes | Ending, float]  # arrived, data, draw


class Stage(Sink):
    """A stage that lets everything through at once; the base of the other stages.

    Args:
        now: the time before which nothing leaves.

    Attributes:
        held: roughly the bytes of memory that the queue takes.
    """

    def __init__(self, toxic: Toxic, now: float, rng: Random) -> None:
        self.toxic = toxic
        self.queue: deque[_Item] = deque()
        self.held = 0
        self._free = now  # when the last piece left; later pieces do not overtake it
        self._ended = False
        self._rng = rng

    def put(self, at: float, data: bytes | Ending) -> None:
        """Queue data."""
        if self._ended:
            return
        self._ended = isinstance(data, Ending)
        self.queue.append((at, data, self._draw()))
        self.held += memory_size(data)

    def _draw(self) -> float:
        """Return a random number that is kept with a piece of data."""
        return 0.0

    def _due(self) -> float:
        """Return when the first item of the queue leaves. The queue must not be empty."""
        return max(self._free, self.queue[0][0])

    def _pass_on(self, due: float, sink: Sink) -> None:
        """Pass on the first item of the queue, or a piece of it."""
        _, data, _ = self._pop()
        self._free = due
        sink.put(due, data)

    def _pop(self) -> _Item:
        item = self.queue.popleft()
        self.held -= memory_size(item[1])
        return item

    @property
    def deadline(self) -> float:
        """The time for the next `advance` if nothing is put in before; infinite for never."""
        return self._due() if self.queue else math.inf

    def advance(self, now: float, sink: Sink) -> None:
        """Pass on what is due."""
        for _ in range(_BURST):
            if not self.queue or (due := self._due()) > now:
                break
            self._pass_on(due, sink)

    def change(self, toxic: Toxic, now: float) -> None:
        """Use a toxic's new attributes from now on, also for held data."""
        self.toxic = toxic
        self._free = max(self._free, now)

    def flush(self, now: float, sink: Sink) -> None:
        """Pass on everything that is held. The stage must not be used afterwards."""
        for item in self.queue:
            sink.put(now, item[1])


class LatencyStage(Stage):
    """Delays data and the end alike, so that the end does not overtake data."""

    toxic: Latency

    def _draw(self) -> float:
        return self._rng.uniform(-1, 1) if self.toxic.jitter else 0.0

    def _due(self) -> float:
        at, _, draw = self.queue[0]
        return max(self._free, at + (self.toxic.latency + self.toxic.jitter * draw) / 1000)


class _PiecewiseStage(Stage):
    """Passes on the first item of the queue in pieces."""

    _sent = 0  # bytes of the first item

    @abstractmethod
    def _end(self, data: bytes) -> int:
        """Return where the next piece of the first item ends."""

    def _pass_on(self, due: float, sink: Sink) -> None:
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

    def flush(self, now: float, sink: Sink) -> None:
        if self._sent:
            _, data, _ = self._pop()
            if not isinstance(data, Ending):
                sink.put(now, data[self._sent :])
            self._sent = 0
        super().flush(now, sink)


class BandwidthStage(_PiecewiseStage):
    """Passes data on at a rate; nothing at rate 0."""

    toxic: Bandwidth

    def _end(self, data: bytes) -> int:
        return min(len(data), self._sent + int(self.toxic.rate * 1000 * _BANDWIDTH_SLICE))

    def _due(self) -> float:
        _, data, _ = self.queue[0]
        begin = super()._due()
        if not self.toxic.rate:
            return math.inf
        size = 0 if isinstance(data, Ending) else self._end(data) - self._sent
        return begin + size / (self.toxic.rate * 1000)


class SlicerStage(_PiecewiseStage):
    """Cuts data into slices of random size, with a delay after each."""

    toxic: Slicer

    def __init__(self, toxic: Toxic, now: float, rng: Random) -> None:
        super().__init__(toxic, now, rng)
        self._ends: Iterator[int] = iter(())

    def _end(self, data: bytes) -> int:
        if not self._sent:
            self._ends = self._cuts(len(data))
        return next(self._ends)

    def _pass_on(self, due: float, sink: Sink) -> None:
        super()._pass_on(due, sink)
        self._free = due + self.toxic.delay / 1e6

    def _cuts(self, size: int) -> Iterator[int]:
        """Yield the ends of the slices of some bytes, halved until they are small enough."""
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


class SlowCloseStage(Stage):
    """Delays only the end of the stream."""

    toxic: SlowClose

    def _due(self) -> float:
        at, data, _ = self.queue[0]
        return max(self._free, at + (self.toxic.delay / 1000 if data is Ending.EOF else 0))


class TimeoutStage(Stage):
    """Drops all data, and closes the connection after a time without data; timeout 0: never."""

    toxic: Timeout

    def __init__(self, toxic: Toxic, now: float, rng: Random) -> None:
        super().__init__(toxic, now, rng)
        self._last = now
        self._closed = False

    def put(self, at: float, data: bytes | Ending) -> None:
        """Drop data, and queue an ending."""
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
        """The time at which the queued ending is due or the timeout ends."""
        return min(super().deadline, self._closes_at)

    def advance(self, now: float, sink: Sink) -> None:
        """Close the connection if the timeout has ended."""
        super().advance(now, sink)
        if self._closes_at <= now:
            self._close(self._closes_at, sink)

    def change(self, toxic: Toxic, now: float) -> None:
        """Use another timeout, counted from now on."""
        super().change(toxic, now)
        self._last = now

    def flush(self, now: float, sink: Sink) -> None:
        """Close the connection, as dropped data is missing in the stream."""
        self._close(now, sink)

    def _close(self, at: float, sink: Sink) -> None:
        if not self._closed:
            self._closed = True
            sink.put(at, Ending.CLOSE)


class ResetPeerStage(Stage):
    """Drops all data, and resets the connection a time after the first data."""

    toxic: ResetPeer

    def put(self, at: float, data: bytes | Ending) -> None:  # noqa: ARG002
        """Drop data, and queue the reset at the first data."""
        if not self.queue:
            super().put(at, Ending.RESET)

    def _due(self) -> float:
        return max(self._free, self.queue[0][0] + self.toxic.timeout / 1000)


class LimitDataStage(Stage):
    """Lets a limited number of bytes through, then closes the connection."""

    toxic: LimitData

    _passed = 0

    def _pass_on(self, due: float, sink: Sink) -> None:
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


_STAGES: dict[type[Toxic], type[Stage]] = {
    Latency: LatencyStage,
    Bandwidth: BandwidthStage,
    SlowClose: SlowCloseStage,
    Timeout: TimeoutStage,
    ResetPeer: ResetPeerStage,
    Slicer: SlicerStage,
    LimitData: LimitDataStage,
}


def stage_class(toxic: Toxic) -> type[Stage]:
    """Return the class of the stage for a toxic."""
    return _STAGES.get(type(toxic), Stage)


def memory_size(data: bytes | Ending) -> int:
    """Return roughly the bytes of memory that a piece of data takes."""
    return _OVERHEAD if isinstance(data, Ending) else _OVERHEAD + len(data)
