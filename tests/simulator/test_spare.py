"""The process that waits for a program's next topology."""

import os
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cachesim.errors import StartError
from cachesim.simulator import spare
from cachesim.simulator.spare import Spare
from tests.contract.helpers import until
from tests.processes import call, is_gone


class Process:
    """A process of a topology that does nothing."""

    made: ClassVar[list[Any]]

    def __init__(self, like: object = None) -> None:
        self.like, self.is_running = like, True
        self.made.append(self)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The processes that were started."""
    Process.made = []
    monkeypatch.setattr(spare, "DaemonProcess", Process)
    return Process.made


def test_first_start(made: list[Any]) -> None:
    """A program that starts one topology has no process that waits."""
    it = Spare()
    assert it.take() is made[0]
    it.keep({})
    assert len(made) == 1


def test_further_starts(made: list[Any]) -> None:
    """From the second start on one waits, prepared for a topology like the last one."""
    it = Spare()
    it.keep({})
    it.keep({"speed": 2})
    it.keep({"speed": 3})
    (waiting,) = made
    assert waiting.like == {"speed": 2}
    assert it.take() is waiting
    assert it.take() is not waiting


def test_process_that_has_ended(made: list[Any]) -> None:
    """It is not used."""
    it = Spare()
    it.keep({})
    it.keep({})
    made[0].is_running = False
    assert it.take() is made[1]


def test_no_process_can_be_started(made: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The start that was asked for is not disturbed; the next one tells."""

    def forbidden(_like: object = None) -> None:
        raise StartError("no more processes")

    it = Spare()
    it.keep({})
    monkeypatch.setattr(spare, "DaemonProcess", forbidden)
    it.keep({})
    with pytest.raises(StartError, match="no more processes"):
        it.take()
    assert made == []


START = """
import os, signal, sys
from pathlib import Path
from typing import Any, ClassVar
import psutil
from cachesim import Simulator

def daemon(sim):
    return int(Path(sim.env()["CACHESIM_CA_FILE"]).with_name("owner").read_text().split()[-2])

def started():
    return Simulator(name="n", backend="embedded").start()

started().stop()
assert psutil.Process().children() == []
started().stop()
(waiting,) = psutil.Process().children()
"""
SCRIPTS = {
    "it is used": """
os.environ["CACHESIM_SPEED"] = "50"
os.mkdir("elsewhere")
os.chdir("elsewhere")
Path("cachesim.toml").write_text("seed = 7")
sim = started()
assert daemon(sim) == waiting.pid
assert (sim.settings.speed, sim.seed) == (50, 7)
sim.stop()
""",
    "it is killed": """
waiting.kill()
waiting.wait()
sim = started()
assert daemon(sim) != waiting.pid
sim.stop()
""",
    "a forked child": """
if (child := os.fork()) == 0:
    started().stop()
else:
    assert os.waitpid(child, 0)[1] == 0
    sim = started()
    assert daemon(sim) == waiting.pid
    sim.stop()
""",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.skipif(os.name != "posix", reason="sends signals to processes")
@pytest.mark.parametrize("what", SCRIPTS)
def test_process_that_waits(what: str, tmp_path: Path) -> None:
    """It has the present settings, is not another process's, and ends when its owner does."""
    done = call(tmp_path, "-c", START + SCRIPTS[what])
    assert (done.returncode, done.stderr) == (-9 if what == "SIGKILL" else 0, "")
    until(lambda: is_gone(tmp_path, "n"), 30)
