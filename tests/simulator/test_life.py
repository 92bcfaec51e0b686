"""What a topology leaves to its process, and what it refuses, before its start and after its stop."""

import sys
from pathlib import Path

import pytest

from tests.processes import call

SOCKETS = """
import sys
from pathlib import Path
from cachesim import Simulator

def sockets():
    files = []
    for file in Path("/proc/self/fd").iterdir():
        try:
            files.append(str(file.readlink()))
        except OSError:
            pass
    return [it for it in files if it.startswith("socket:")]

with Simulator(speed=100, backend=sys.argv[1]) as sim:
    sim.nodes["redis-b"].kill().heal()
    with sim.faults.partition("a", "b"):
        pass
    sim.reset()
    assert sockets()
print(len(sockets()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_socket_stays_open(backend: str, tmp_path: Path) -> None:
    """After the stop the process has none of the topology's connections any more."""
    done = call(tmp_path, "-c", SOCKETS, backend)
    assert (done.stdout, done.stderr) == ("0\n", "")
