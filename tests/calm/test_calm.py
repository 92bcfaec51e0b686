"""Under load nothing happens that was not injected, and what was injected happens.

Not run unless asked for with `--calm-runs`, since each run takes its 20 s.
"""

import time

import pytest

from cachesim import Simulator
from tests.calm.conftest import Run
from tests.calm.loads import LOADS

# redis-py leaves the sockets of a node that is gone to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SECONDS = 20
DECISIONS = {"promoting", "failover", "recovering", "waiting", "lost", "error"}
PATIENCE = 60.0  # seconds: silence counts only for the time that a starved process gets


def test_nothing_injected(run: Run) -> None:
    """No healthy node is considered dead."""
    with Simulator(backend=run.backend, speed=run.speed, seed=7) as sim:
        with LOADS[run.load](sim):
            time.sleep(SECONDS)
        assert not [str(event) for event in sim.events if event.kind in DECISIONS]


@pytest.mark.parametrize("fault", ["kill", "pause", "isolate"])
def test_injected(run: Run, fault: str) -> None:
    """A primary that is gone, stands still or is cut off is replaced, not before its time."""
    speed = max(run.speed, 30)
    with Simulator(backend=run.backend, speed=speed, seed=7) as sim, LOADS[run.load](sim):
        primary, begun = sim.redis.primary, time.monotonic()
        if fault == "isolate":
            sim.zones[primary.zone].isolate()
        else:
            getattr(primary, fault)()
        sim.redis.wait_for_failover(PATIENCE)
        detecting, failover = sim.events.of("detecting")[-1], sim.events.of("failover")[0]
        promised = detecting.data["detection"] + detecting.data["promotion"]
        late = failover.at - begun - promised
        print(f"{late:+.2f} s after its promise")
        assert failover.source != primary.name
        assert late > -0.3  # of an isolated one, heartbeats may have been missed before
