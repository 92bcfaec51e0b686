"""When a run is cut short, and what it tells meanwhile."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from cachesim.history.recorder import Recorder
from cachesim.scenarios.forms import StopIf
from cachesim.scenarios.running.clock import ProductionClock
from cachesim.scenarios.running.course import SETTLED, Course, Interrupted
from cachesim.scenarios.running.cuts import Cutter
from cachesim.scenarios.running.firing import Firing
from cachesim.scenarios.running.traffic import Traffic
from tests.scenarios.histories import load

RULE = StopIf.model_validate({"share": "50%", "for": "60s", "not_before": "crash"})
SPEED = 30.0


@dataclass
class Steps:
    """A timeline that is over after some looks."""

    looks: int = 3
    begun: bool = True
    next_due: float | None = None
    changed_at: float = 7.0

    @property
    def is_over(self) -> bool:
        """Whether it is over."""
        self.looks -= 1
        return self.looks < 0

    def tick(self) -> None:
        """Do nothing."""

    def began(self, id: str) -> bool:
        """Return whether a step has begun."""
        assert id == "crash"
        return self.begun


@dataclass
class Rig:
    """A course over operations made by hand."""

    recorder: Recorder
    traffic: Traffic
    said: list[str] = field(default_factory=list)
    dead: dict[str, str] = field(default_factory=dict)
    failure: str | None = None
    is_interrupted: bool = False

    def __post_init__(self) -> None:
        self.course = Course(
            self, self.traffic, list, self.said.append, lambda: self.is_interrupted
        )

    def add(self, outcome: Any, ago: float, until: float = 0.0) -> None:
        """Record operations that were due some time ago, in seconds."""
        now = time.monotonic()
        self.recorder.add(*load(now - ago, now - until, outcome=outcome))
        self.recorder.flush()

    def fire(self, steps: Steps, since: float = 60.0, cutter: Cutter | None = None) -> None:
        """Fire the timeline, which began some time ago."""
        begin = time.monotonic() - since
        self.course.fire(
            cast(Firing, steps),
            ProductionClock(begin, SPEED),
            begin,
            stop_if={"sessions.errors": RULE},
            speed=SPEED,
            cutter=cutter,
        )


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Operations that go well until now."""
    path = tmp_path / "history.sqlite"
    with Recorder(path, interval=3600) as recorder:
        recorder.flush()
        with closing(Traffic(path, deadline=1, since=0)) as traffic:
            it = Rig(recorder, traffic)
            it.add("ok", 20, 10)
            yield it


def test_a_cut_knows_when_faults_changed(rig: Rig) -> None:
    """What is cut depends on it, and on what is due."""
    asked: list[tuple[float, float]] = []

    class Asked:
        def cut(self, _clock: Any, due: float, _events: Any, changed_at: float) -> None:
            asked.append((due, changed_at))

    rig.fire(Steps(next_due=1000.0), cutter=cast(Cutter, Asked()))
    assert set(asked) == {(1000.0, 7.0)}


def test_goes_on(rig: Rig) -> None:
    """Operations that are good end nothing."""
    rig.add("ok", 10)
    rig.fire(Steps())


@pytest.mark.parametrize(
    ("steps", "since", "ends"),
    [
        (Steps(), 60.0, True),
        (Steps(begun=False), 60.0, False),  # not before that step
        (Steps(), 2.0, False),  # a minute at a speed of 30 are two seconds, and not yet over
    ],
)
def test_stop_if(rig: Rig, steps: Steps, since: float, ends: bool) -> None:
    """Too many bad operations for too long end the run, in production time."""
    rig.add("fail", 2 + SETTLED + 1)
    if not ends:
        rig.fire(steps, since)
        return
    with pytest.raises(Interrupted, match="stop_if: 100% of sessions were bad for 60 s"):
        rig.fire(steps, since)


def test_a_workload_that_failed(rig: Rig) -> None:
    """Nothing more is due, and that says nothing of the clients: the run ends."""
    rig.failure = "the workload load:run failed: ValueError: no good"
    with pytest.raises(Interrupted, match="load:run failed: ValueError: no good"):
        rig.course.sleep_until(time.monotonic() + 60)


def test_interrupted(rig: Rig) -> None:
    """A wait ends at once when the run is to end."""
    rig.is_interrupted = True
    begun = time.monotonic()
    with pytest.raises(Interrupted, match="it was interrupted"):
        rig.course.sleep_until(begun + 60)
    assert time.monotonic() - begun < 10


def test_tells_what_is_not_served(rig: Rig) -> None:
    """It is told once when it begins, and once when it ends."""
    rig.add("fail", 10)
    for _ in range(2):
        rig.course._looked_at = 0
        rig.course.look()
    assert rig.said == ["sessions.write is not served"]
    rig.recorder.add(*load(time.monotonic() - 3, time.monotonic(), 0.01))
    rig.recorder.flush()
    rig.course._looked_at = 0
    rig.course.look()
    assert rig.said[1:] == ["sessions.write is served again"]


def test_tells_of_lost_pods(rig: Rig) -> None:
    """A pod that has ended before its time is told once."""
    rig.dead["pod-3"] = "killed by SIGKILL"
    for _ in range(2):
        rig.course._looked_at = 0
        rig.course.look()
    assert rig.said == ["pod-3 of the workload has ended: killed by SIGKILL"]
