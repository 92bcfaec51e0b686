"""Measures in which time this process and its surroundings worked at all.

A node that does not answer may be dead, or nothing may have run: a computation holds the
interpreter, the machine is busy, the process was stopped. Silence counts only for time in which
this process kept its schedule and a witness answered. A witness is not a node.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import takewhile

from cachesim.clock import Clock, SystemClock
from cachesim.errors import CachesimError
from cachesim.events import EventLog

INTERVAL = 0.05
"""Seconds between two beats."""
_TOLERANCE = 0.05  # seconds that a beat may be late
_WORTH_REPORTING = 0.25  # seconds of standstill
_BETWEEN_EVENTS = 5.0  # seconds at least; standstills in between are added up
_REMEMBERED = 1000  # standstills

Witness = Callable[[], object]
"""Returns when it was answered. Raises CachesimError if nothing answers."""


class Metronome:
    """Beats from `start` to `stop`. Time without beats is a standstill and does not count.

    Args:
        witnesses: called at each beat, until one answers.
        source: the source of its events.
        tolerance: returns how late a beat may be at present, in seconds, if that is more than
            usual.
    """

    def __init__(
        self,
        witnesses: Sequence[Witness],
        events: EventLog,
        source: str,
        tolerance: Callable[[], float],
        clock: Clock | None = None,
    ) -> None:
        self._witnesses = deque(witnesses)
        self._events = events
        self._source = source
        self._tolerance = tolerance
        self._clock = clock or SystemClock()
        self._last = self._clock.monotonic()
        self._standstills: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)
        self._unreported = 0.0  # seconds
        self._was_ours = False
        self._reported_at = float("-inf")
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cachesim-metronome", daemon=True)

    def start(self) -> None:
        """Start to beat."""
        self._last = self._clock.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop beating."""
        self._stopping.set()
        self._thread.join()

    def standstills(self, since: float, until: float) -> list[float]:
        """Return the seconds between two moments that do not count, one number per standstill."""
        now = self._clock.monotonic()
        with self._lock:
            gaps = list(takewhile(lambda gap: gap[1] > since, reversed(self._standstills)))
            if now - self._last > self._longest:
                gaps.append((self._last, now))  # it stands still at this moment
        overlaps = (min(until, end) - max(since, begin) for begin, end in gaps)
        return [seconds for seconds in overlaps if seconds > 0]

    def beat(self) -> None:
        """Call the witnesses. Note a standstill if they were slow or the beat is late."""
        due, woke = self._last + INTERVAL, self._clock.monotonic()
        if not self._is_witnessed():
            return  # the time since the last beat grows
        now = self._clock.monotonic()
        with self._lock:
            was_late = now - self._last > self._longest
            if was_late:
                self._standstills.append((self._last, now))
            self._last = now
        if was_late and now - due >= _WORTH_REPORTING:
            self._unreported += now - due
            self._was_ours = woke - due > now - woke
        if self._unreported and now - self._reported_at >= _BETWEEN_EVENTS:
            self._reported_at = now
            self._report()

    @property
    def _longest(self) -> float:
        """The longest time between two beats that is no standstill, in seconds."""
        return INTERVAL + max(_TOLERANCE, self._tolerance())

    def _is_witnessed(self) -> bool:
        for _ in range(len(self._witnesses)):
            with contextlib.suppress(CachesimError):
                self._witnesses[0]()
                return True
            self._witnesses.rotate(-1)
        return False

    def _report(self) -> None:
        seconds, self._unreported = self._unreported, 0.0
        what = (
            f"this process stood still for {seconds:.1f} s"
            if self._was_ours
            else f"nothing answered for {seconds:.1f} s, not even Toxiproxy"
        )
        self._events.record(
            "standstill",
            self._source,
            f"{what}: that time does not count for failovers",
            seconds=seconds,
        )

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL):
            self.beat()
