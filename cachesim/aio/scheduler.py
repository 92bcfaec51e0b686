"""Long work on a loop that many share: a slice at a time, and everybody in turn."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any

SLICE = 0.003
"""Seconds that somebody works before the loop goes round."""
_LEAST = 16
"""Steps in a slice at least: others may have the processor for all of its time."""

_PIECE = 256

Work = Callable[[float], None]
"""Works until a moment by `Turns.now`, and adds itself again if it is not done by then."""


class Turns:
    """What a process has to do, a slice each time the loop goes round. For the loop's thread.

    Args:
        now: the clock by which slices are measured.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float] = monotonic
    ) -> None:
        self._loop = loop
        self.now = now
        # Requests, and what the process does besides: each has every other turn.
        self._queues: tuple[deque[Work], deque[Work]] = deque(), deque()
        self._last = 0
        self._is_scheduled = self._is_held = False

    @property
    def is_busy(self) -> bool:
        """Whether anybody waits for a turn."""
        return bool(self._queues[0] or self._queues[1])

    def add(self, work: Work, *, besides: bool = False) -> None:
        """Let something have a turn.

        Args:
            besides: it answers no requests, and must not fall behind however many there are.
        """
        self._queues[besides].append(work)
        self._wake()

    def run(
        self, steps: Iterator[object], done: Callable[[], None], until: float | None = None
    ) -> None:
        """Do something step by step besides requests, from now on.

        Args:
            done: called when there are no more steps.
            until: when the first slice ends; by default it begins with a turn.
        """

        def work(until: float) -> None:
            now = self.now
            for number, _ in enumerate(steps, 1):
                if not number % _LEAST and now() >= until:
                    self.add(work, besides=True)
                    return
            done()

        if until is None:
            self.add(work, besides=True)
        else:
            work(until)

    def hold(self) -> None:
        """Nobody has a turn for now."""
        self._is_held = True

    def release(self) -> None:
        """Go on."""
        self._is_held = False
        self._wake()

    def close(self) -> None:
        """Nobody has a turn any more."""
        for queue in self._queues:
            queue.clear()

    def _wake(self) -> None:
        if not self._is_scheduled and not self._is_held and self.is_busy:
            self._is_scheduled = True
            self._loop.call_soon(self._go_round)

    def _go_round(self) -> None:
        self._is_scheduled = False
        now = self.now
        until = now() + SLICE
        # No more than is there now: what adds itself again is not done.
        for _ in range(sum(map(len, self._queues))):
            if self._is_held or not self.is_busy or now() >= until:
                break
            self._last = not self._last if self._queues[not self._last] else self._last
            self._queues[self._last].popleft()(until)
        self._wake()


def discard(
    loop: asyncio.AbstractEventLoop,
    *held: dict[Any, Any] | list[Any],
    now: Callable[[], float] = monotonic,
) -> None:
    """Empty what is large and nobody uses any more, without holding up anybody."""
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
