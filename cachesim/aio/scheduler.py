"""Cooperative scheduling: long work in time slices on a shared event loop."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any

SLICE = 0.003
"""Seconds of work in one round of the loop."""
_MIN_STEPS = 16
"""The fewest steps in a slice, as other processes may use up the slice's time."""

_PIECE = 256  # entries removed between two looks at the clock

Work = Callable[[float], None]
"""Works until a time by `Scheduler.now`; adds itself again if it is not done by then."""


class Scheduler:
    """Runs the work of one emulated process in time slices. Call it in the loop's thread.

    There are two queues, requests and background work. While both have work, they alternate.

    Args:
        now: the clock for slices, in seconds.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float] = monotonic
    ) -> None:
        self._loop = loop
        self.now = now
        self._queues: tuple[deque[Work], deque[Work]] = deque(), deque()
        self._last = 0
        self._is_scheduled = self._is_paused = False

    @property
    def is_busy(self) -> bool:
        """Whether any work waits."""
        return bool(self._queues[0] or self._queues[1])

    def add(self, work: Work, *, background: bool = False) -> None:
        """Queue work for the next rounds of the loop.

        Args:
            background: whether it is background work, which goes on under any number of requests.
        """
        self._queues[background].append(work)
        self._wake()

    def run(
        self, steps: Iterator[object], done: Callable[[], None], until: float | None = None
    ) -> None:
        """Run through an iterator in the background, in time slices.

        Args:
            done: called after the last step.
            until: the end of a first slice, which begins at once. By default the first slice is
                queued.
        """

        def work(until: float) -> None:
            now = self.now
            for number, _ in enumerate(steps, 1):
                if not number % _MIN_STEPS and now() >= until:
                    self.add(work, background=True)
                    return
            done()

        if until is None:
            self.add(work, background=True)
        else:
            work(until)

    def pause(self) -> None:
        """Run nothing for now. The queues stay."""
        self._is_paused = True

    def resume(self) -> None:
        """Continue after `pause`."""
        self._is_paused = False
        self._wake()

    def close(self) -> None:
        """Drop all queued work."""
        for queue in self._queues:
            queue.clear()

    def _wake(self) -> None:
        if not self._is_scheduled and not self._is_paused and self.is_busy:
            self._is_scheduled = True
            self._loop.call_soon(self._run_slice)

    def _run_slice(self) -> None:
        self._is_scheduled = False
        now = self.now
        until = now() + SLICE
        # Only work that is queued now: work that adds itself again waits for the next slice.
        for _ in range(sum(map(len, self._queues))):
            if self._is_paused or not self.is_busy or now() >= until:
                break
            self._last = not self._last if self._queues[not self._last] else self._last
            self._queues[self._last].popleft()(until)
        self._wake()


def discard(
    loop: asyncio.AbstractEventLoop,
    *held: dict[Any, Any] | list[Any],
    now: Callable[[], float] = monotonic,
) -> None:
    """Empty large containers in slices, as freeing them at once would block the loop."""
    left = [some for some in held if some]
    until = now() + SLICE
    while left and now() < until:
        some = left[-1]
        if isinstance(some, list):
            del some[-_PIECE:]
        else:
            for _ in range(min(_PIECE, len(some))):
                some.popitem()
        if not some:
            left.pop()
    if left:
        loop.call_soon(partial(discard, loop, *left, now=now))
