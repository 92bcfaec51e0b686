"""When the operations of a pod are due, fixed in advance."""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cachesim.workload.calls import Call


@dataclass(frozen=True)
class Stream:
    """Operations of one class, evenly spread over the time and over all pods.

    Attributes:
        rate: operations a second over all pods.
        phase: which part of the time between two operations comes before the first, from 0 to 1.
        draw: returns the next operation.
    """

    rate: float
    phase: float
    draw: Callable[[], Call]


class Schedule:
    """The operations of one pod. The pods take turns in each stream.

    Args:
        pod: its number, from 0.
        pods: how many there are.
    """

    def __init__(self, streams: Iterable[Stream], pod: int, pods: int) -> None:
        self._pods = pods
        self._next = [
            ((pod + it.phase) / it.rate, order, pod, it) for order, it in enumerate(streams)
        ]
        heapq.heapify(self._next)

    def next(self) -> tuple[float, Callable[[], Call]]:
        """Return when the next operation is due, in seconds from the begin, and its draw."""
        due, order, turn, stream = self._next[0]
        later = turn + self._pods
        at = (later + stream.phase) / stream.rate
        heapq.heapreplace(self._next, (at, order, later, stream))
        return due, stream.draw
