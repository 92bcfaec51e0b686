"""The course of a run: when it goes on, when it is cut short, and when it has been quiet enough."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from cachesim.events import Event
from cachesim.history.reader import History, Span
from cachesim.scenarios.checkers import recovery
from cachesim.scenarios.forms import StopIf
from cachesim.scenarios.running.clock import ProductionClock
from cachesim.scenarios.running.cuts import Cutter
from cachesim.scenarios.running.firing import Firing
from cachesim.scenarios.running.traffic import Traffic

TICK = 0.05
"""Seconds between two looks, at most."""
LOOK = 0.5
"""Seconds between two looks at what became of the operations."""
SETTLED = 1.5
"""Seconds, real, until an operation that was due is taken to be decided."""


class Interrupted(Exception):  # not an error: the run ends in order
    """The run is cut short. The text says why."""


class Pods(Protocol):
    """What makes the operations."""

    @property
    def dead(self) -> Mapping[str, str]:
        """What became of processes that have ended before their time, by name."""
        ...

    @property
    def failure(self) -> str | None:
        """Why one has ended by itself, so that the run is to end; None: none has."""
        ...


class Course:
    """What a run waits for.

    Args:
        pods: what makes the operations.
        traffic: what became of them.
        events: returns what has happened in the topology.
        say: is told what happens.
        is_interrupted: looked at several times a second.
    """

    def __init__(
        self,
        pods: Pods,
        traffic: Traffic,
        events: Callable[[], list[Event]],
        say: Callable[[str], None],
        is_interrupted: Callable[[], bool],
    ) -> None:
        self._pods = pods
        self._traffic = traffic
        self._events = events
        self._say = say
        self._is_interrupted = is_interrupted
        self._looked_at = 0.0
        self._unavailable: list[str] = []
        self._lost: dict[str, str] = {}

    def sleep_until(self, at: float) -> None:
        """Wait until a monotonic time.

        Raises:
            Interrupted: the run is to end.
        """
        while (left := at - time.monotonic()) > 0:
            self.look()
            time.sleep(min(left, TICK))

    def look(self) -> None:
        """Look whether the run is to end, and tell which operations are not served.

        Raises:
            Interrupted: the run is to end.
        """
        if self._is_interrupted():
            raise Interrupted("it was interrupted")
        now = time.monotonic()
        if now - self._looked_at < LOOK:
            return
        self._looked_at = now
        for pod, what in self._pods.dead.items():
            if pod not in self._lost:
                self._lost[pod] = what
                self._say(f"{pod} of the workload has ended: {what}")
        if (failure := self._pods.failure) is not None:
            raise Interrupted(f"the workload failed: {failure}")
        self._traffic.update()
        bad = self._traffic.unavailable(now - SETTLED - LOOK, now - SETTLED)
        for name in bad:
            if name not in self._unavailable:
                self._say(f"{name} is not served")
        for name in self._unavailable:
            if name not in bad:
                self._say(f"{name} is served again")
        self._unavailable = bad

    def fire(
        self,
        firing: Firing,
        clock: ProductionClock,
        since: float,
        *,
        stop_if: Mapping[str, StopIf],
        speed: float,
        cutter: Cutter | None = None,
    ) -> None:
        """Fire all steps in their time.

        Args:
            since: events from before are not the timeline's.
            stop_if: when the run is cut short, by `service.errors`.

        Raises:
            Interrupted: the run is to end.
        """
        known = 0
        while not firing.is_over:
            events = self._events()
            for event in events[known:]:
                if event.at >= since:
                    firing.happened(event)
            known = len(events)
            firing.tick()
            self.look()
            self._stop_if(firing, stop_if, since, speed)
            due = firing.next_due
            left = TICK if due is None else clock.until(due)
            if cutter is not None and due is not None:
                cutter.cut(clock, due, events, firing.changed_at)
            time.sleep(min(max(left, 0.0), TICK))

    def _stop_if(
        self, firing: Firing, rules: Mapping[str, StopIf], since: float, speed: float
    ) -> None:
        end = time.monotonic() - SETTLED
        for key, rule in rules.items():
            name = key.removesuffix(".errors")
            length = max(rule.length / speed, LOOK)
            if end - length < since or (rule.not_before and not firing.began(rule.not_before)):
                continue
            found = self._traffic.within(name, end - length, end)
            if found.due and found.share >= rule.share:
                raise Interrupted(
                    f"stop_if: {found.share:.0%} of {name} were bad for {rule.length:g} s"
                )

    def wait_recovered(self, firing: Firing, path: Path, comeback: float | None) -> None:
        """Wait until the clients have recovered, or it can be said that they never do.

        Args:
            path: the history, with the time of the last heal.
            comeback: the client's, in seconds; None: it is not declared.

        Raises:
            Interrupted: the run is to end.
        """
        quiet = recovery.UNDECLARED
        if comeback is not None:
            quiet = max(recovery.QUIET_FACTOR * comeback, recovery.QUIET_LEAST)
        pause = 1.0
        able: float | None = None
        while True:
            self.sleep_until(time.monotonic() + pause)
            firing.tick()
            begun = time.monotonic()
            with History(path) as history:
                found = recovery.measure(history)
            if found.steady is not None:
                return
            if found.able is not None and able is None:
                able = found.able.end
                self._say(f"all nodes are able; the clients have {quiet:g} s to recover")
            since = firing.heal_at if able is None else able
            if since is None or time.monotonic() - since > quiet + 2 * pause:
                return
            pause = max(1.0, 5 * (time.monotonic() - begun))


def is_calm(traffic: Traffic, baseline: Span, seconds: float) -> bool:
    """Return whether all classes have been as in the baseline for some seconds."""
    end = time.monotonic() - SETTLED
    return end - seconds >= baseline.end and traffic.is_as_before(baseline, end - seconds, end)
