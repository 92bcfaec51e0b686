"""Looks at a pod's own process: whether the generator itself kept up."""

import threading
import time
from collections.abc import Callable

from cachesim.history.rows import GeneratorReading

WAKE = 0.01
LOOK = 0.1
"""Seconds between two times that the thread wakes, and between two looks."""


class Readings:
    """A thread that wakes every 10 ms, and records every 100 ms how late it was at most.

    Args:
        pod: the pod's name.
        idle: returns how many workers have nothing to do.
        record: takes the readings.
    """

    def __init__(
        self,
        pod: str,
        idle: Callable[[], int],
        record: Callable[[GeneratorReading], None],
    ) -> None:
        self._pod = pod
        self._idle = idle
        self._record = record
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cachesim-readings", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        monotonic, wait = time.monotonic, self._ended.wait
        looked, used, lag = monotonic(), time.process_time(), 0.0
        due = looked + WAKE
        while not wait(max(0.0, due - monotonic())):
            now = monotonic()
            lag = max(lag, now - due)
            due = max(due + WAKE, now)
            if now - looked >= LOOK:
                cpu = time.process_time()
                share = (cpu - used) / (now - looked)
                self._record(GeneratorReading(now, self._pod, lag, share, self._idle()))
                looked, used, lag = now, cpu, 0.0
