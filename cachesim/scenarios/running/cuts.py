"""The quiet cut: production speed, with holds cut short in which nothing goes on any more."""

from collections.abc import Callable, Iterable

from cachesim.clock import Clock, SystemClock
from cachesim.events import Event
from cachesim.faults.spec import FaultSpec
from cachesim.scenarios.checkers import recovery
from cachesim.scenarios.running.clock import ProductionClock

DECIDED = 2.0
"""Seconds until it is told what became of operations that were due when a fault began or ended."""
WORTH = 1.0
"""Seconds below which a hold is not worth a cut."""
_LOOK = 1.0

PLANE = frozenset({*recovery.PLANE, "failover-call", "role"})
"""The events of a control plane at work, and of who orders a failover."""


def settling_of_names(faults: Iterable[FaultSpec], ttl: float) -> float:
    """Return for how long endpoints may lead to where nodes were, and calm after it, in seconds.

    Before that, a witness can't tell a fault that keeps them from a name server that does.

    Args:
        faults: what was applied until now.
        ttl: seconds for which a name server may keep what it tells.
    """
    leads_astray = any(it.name == "stale" or it.as_dict().get("new_address") for it in faults)
    return ttl + recovery.CALM if leads_astray else 0.0


class Cutter:
    """Cuts holds.

    Args:
        settling: returns for how long what faults changed may go on, in seconds.
        is_calm: returns whether all classes have been as in the baseline for some seconds.
        is_idle: returns whether the control plane has nothing under way.
        cut: is told the production seconds of each cut, and where it is, in monotonic seconds.
    """

    def __init__(
        self,
        settling: Callable[[], float],
        *,
        is_calm: Callable[[float], bool],
        is_idle: Callable[[], bool],
        cut: Callable[[float, float], None],
        time_source: Clock | None = None,
    ) -> None:
        self._time = time_source or SystemClock()
        self._settling = settling
        self._is_calm = is_calm
        self._is_idle = is_idle
        self._cut = cut
        self._looked_at = float("-inf")

    def cut(
        self, clock: ProductionClock, due: float, events: list[Event], changed_at: float
    ) -> None:
        """Cut what is left of a hold, if nothing goes on, and has not since faults changed.

        Args:
            due: when the next thing is due, in production seconds.
            events: what has happened in the topology.
            changed_at: when a fault was applied or healed last, in monotonic seconds.
        """
        now = self._time.monotonic()
        if now - self._looked_at < _LOOK:
            return
        self._looked_at = now
        left = due - clock.now
        if left < WORTH:
            return
        needed = max(self._settling(), recovery.CALM)
        if now - changed_at < needed + DECIDED:
            return  # what was calm was so before
        if any(it.kind in PLANE and now - it.at < needed for it in events[-50:]):
            return
        if self._is_calm(needed) and self._is_idle():
            self._cut(left, now)
            clock.skip(left)
