"""An event loop whose timers are exact to a tenth of a millisecond, where the system allows it.

On Linux asyncio's own loop waits whole milliseconds, rounded up, as `epoll_wait` does: a latency of
1 ms would be 1.5 ms on average.
"""

import asyncio
import select
import selectors
import sys


def new_event_loop() -> asyncio.SelectorEventLoop:
    """Return a new selector loop, on Windows too."""
    if sys.platform == "linux":
        return asyncio.SelectorEventLoop(_FineSelector())
    return asyncio.SelectorEventLoop(selectors.DefaultSelector())


if sys.platform == "linux":

    class _FineSelector(selectors.EpollSelector):
        """Waits for epoll with `select`, whose timeout is in microseconds."""

        _COARSE = 0.01  # seconds

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is None or timeout <= 0:
                return super().select(timeout)
            if timeout > self._COARSE:
                # The loop waits the remaining time in its next round.
                return super().select(timeout - self._COARSE / 2)
            try:
                select.select((self.fileno(),), (), (), timeout)
            except ValueError:  # more than 1024 open files: fall back to milliseconds
                return super().select(timeout)
            return super().select(0)
