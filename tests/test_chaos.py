"""A fixed dose of chaos: what `python -m tests.chaos` does for hours."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from cachesim import Simulator
from cachesim.faults.catalogue import CATALOGUE
from tests.chaos import Held, Load, Storm, assert_as_new, marathon
from tests.contract.helpers import until
from tests.drawn_faults import kinds
from tests.mixes import mixes
from tests.processes import call

# redis-py and pymemcache leave sockets to the garbage collector where connecting has failed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    """A running topology of emulated nodes, with a control plane that loses no time."""
    with Simulator(backend="embedded", speed=100, seed=7) as running:
        yield running


@pytest.mark.parametrize("resets", [True, False], ids=["resets", "no-resets"])
def test_storm(sim: Simulator, resets: bool) -> None:
    """After random verbs in sixteen threads, a reset makes all as new, and nothing is left open."""
    for number in range(2):
        storm = Storm(sim, f"suite {number}", resets=resets)
        with Load(sim):
            storm.run(0.7)
        sim.reset()
        assert_as_new(sim)
        assert not storm.findings
        assert not sim.events.of("error")
        assert not sim.events.of("replaced"), "it got well without a last resort"
        if not number:
            before = Held.now(sim)
    few = 10  # sockets by which clients' pools may differ
    assert until(lambda: Held.now(sim).files <= before.files + few)
    assert until(lambda: Held.now(sim).threads <= before.threads)


def test_marathon(sim: Simulator) -> None:
    """Whatever is healed, all is well again by itself."""
    sim.reset()
    with Load(sim):
        assert list(marathon(sim, "suite", 8))


def test_mixes(sim: Simulator) -> None:
    """Of several faults at the same time, the heal leaves nothing."""
    sim.reset()
    assert len(list(mixes(sim, "suite", 2))) == 2


def test_every_fault_may_be_drawn(sim: Simulator) -> None:
    """No fault of the catalogue is spared."""
    assert set(kinds(sim, Random("suite"))) == {fault.name for fault in CATALOGUE}


def test_six_at_once(tmp_path: Path) -> None:
    """In a process that is new, six threads start a topology each at the same moment."""
    script = """
import threading
from cachesim import Simulator

together, ended = threading.Barrier(6), []

def run():
    together.wait()
    with Simulator(backend="embedded"):
        ended.append("well")

threads = [threading.Thread(target=run) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(ended))
"""
    done = call(tmp_path, "-c", script)
    assert (done.stdout, done.stderr) == ("6\n", "")
