"""The origin of what an API cache holds: a database with a latency and a capacity."""

import threading
import time
from collections.abc import Callable

from cachesim.clock import Clock, SystemClock
from cachesim.history.rows import ORIGIN
from cachesim.workload.plan import Origin as Numbers
from cachesim.workload.values import Version


class OriginOverloaded(Exception):
    """The origin refused a load: it is beyond its capacity."""


class Origin:
    """The part of the origin that one pod may use.

    Its loads may come at once for up to a second's worth of its share.

    Args:
        numbers: of the whole origin.
        pods: how many share it.
        sleep: waits for some seconds.
    """

    def __init__(
        self,
        numbers: Numbers,
        pods: int,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._latency = numbers.latency
        self._rate = numbers.capacity / pods
        self._most = max(1.0, self._rate)
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._changed = threading.Lock()
        self._left = self._most
        self._at = self._clock.monotonic()

    def load(self) -> Version:
        """Return the version of what is loaded, after the origin's latency.

        Raises:
            OriginOverloaded: it refuses.
        """
        with self._changed:
            now = self._clock.monotonic()
            self._left = min(self._most, self._left + (now - self._at) * self._rate)
            self._at = now
            if self._left < 1:
                raise OriginOverloaded
            self._left -= 1
        self._sleep(self._latency)
        return self.version()

    def version(self) -> Version:
        """Return the version of what is loaded now: the microseconds of the monotonic clock."""
        return Version(ORIGIN, int(self._clock.monotonic() * 1e6))
