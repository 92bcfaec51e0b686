"""The quiet cut: what is cut, and what must have been quiet before."""

from datetime import UTC, datetime
from typing import Any

import pytest

from cachesim.clock import ManualClock
from cachesim.events import Event
from cachesim.faults.catalogue import CATALOGUE
from cachesim.scenarios.running.clock import ProductionClock
from cachesim.scenarios.running.cuts import Cutter, settling_of_names


class Rig:
    """A cutter that looks each second, at 1000 s and later, with the next step due at 600 s."""

    def __init__(self, settling: float = 1.0) -> None:
        self.time = ManualClock(1000)
        self.clock = ProductionClock(1000, 1.0, self.time)
        self.cuts: list[tuple[float, float]] = []
        self.asked: list[float] = []
        self.is_calm = self.is_idle = True
        self.cutter = Cutter(
            lambda: settling,
            is_calm=self._calm,
            is_idle=lambda: self.is_idle,
            cut=lambda seconds, at: self.cuts.append((seconds, at)),
            time_source=self.time,
        )

    def _calm(self, seconds: float) -> bool:
        self.asked.append(seconds)
        return self.is_calm

    def look(self, *events: Event, due: float = 600.0, changed_at: float = 0.0) -> None:
        """Go on by a second, and look."""
        self.time.advance(1)
        self.cutter.cut(self.clock, due, list(events), changed_at)


def event(kind: str, at: float) -> Event:
    """Return an event."""
    return Event(at, datetime.now(UTC), kind, "redis-a", "")


def test_a_quiet_hold_is_cut() -> None:
    """What is left of it is skipped, and recorded."""
    rig = Rig()
    rig.look()
    assert rig.cuts == [(599, 1001)]
    assert rig.clock.now == 600


@pytest.mark.parametrize(("settling", "seconds"), [(1, 10), (120, 120)])
def test_how_long_it_must_be_quiet(settling: float, seconds: float) -> None:
    """As long as anything may go on, at least 10 s."""
    rig = Rig(settling)
    rig.look()
    assert rig.asked == [seconds]


@pytest.mark.parametrize("what", ["is_calm", "is_idle"])
def test_nothing_is_cut_while_something_goes_on(what: str) -> None:
    """Neither the clients nor the control plane may have anything under way."""
    rig = Rig()
    setattr(rig, what, False)
    rig.look()
    assert rig.cuts == []
    setattr(rig, what, True)
    rig.look()
    assert rig.cuts == [(598, 1002)]


@pytest.mark.parametrize(
    ("kind", "at", "is_cut"),
    [("recovering", 992, False), ("recovering", 990, True), ("waiting", 1000, True)],
)
def test_events_of_the_control_plane(kind: str, at: float, is_cut: bool) -> None:
    """A control plane that has just done something is not quiet; one that waits is."""
    rig = Rig()
    rig.look(event(kind, at))
    assert bool(rig.cuts) == is_cut


@pytest.mark.parametrize(("settling", "seconds"), [(1, 12), (120, 122)])
def test_a_fault_that_has_just_begun_or_ended(settling: float, seconds: float) -> None:
    """What was calm before a fault tells nothing of it: the calm has to come after it."""
    rig = Rig(settling)
    rig.look(changed_at=1001 - seconds + 0.1)
    assert rig.cuts == []
    rig.look(changed_at=1002 - seconds)
    assert len(rig.cuts) == 1


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        ({"fault": "stale", "endpoints": ["endpoint-redis"]}, 70),
        ({"fault": "replace", "nodes": ["redis-a"], "new_address": True}, 70),
        ({"fault": "replace", "nodes": ["redis-a"], "new_address": False}, 0),
        ({"fault": "kill", "nodes": ["redis-a"]}, 0),
    ],
)
def test_until_names_are_known(fault: dict[str, Any], seconds: float) -> None:
    """A name server may keep an address for its TTL, and only then a fault is seen to keep it."""
    others = [CATALOGUE.read({"fault": "kill", "nodes": ["redis-b"]})]
    assert settling_of_names([*others, CATALOGUE.read(fault)], 60) == seconds


def test_what_is_short_is_not_cut() -> None:
    """The last second of a hold passes."""
    rig = Rig()
    rig.look(due=1.9)
    assert rig.cuts == []
