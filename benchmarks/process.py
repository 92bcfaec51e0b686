"""How long a user waits for the process of a topology, compared with what we ask of ourselves.

`python -c` is timed from the start of that process until a `Simulator` in it is ready. A further
start and the calls are those of a process that has started a topology before.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Mapping

from benchmarks.measure import Row, Side, comparison, in_turns, seconds
from cachesim import Simulator

_SCRIPT = """
import sys
from cachesim import Simulator
with Simulator(backend="embedded"):
    print("ready", flush=True)
    sys.stdin.read()
"""
_CALLS = 100
_LINK = "client-to-redis-a"
_TARGETS = {
    "embedded": {
        "python -c, to ready": 0.47,
        "a further start": 0.2,
        "a call": 0.0002,
        "reset": 0.003,
        "partition applied": 0.002,
        "partition healed": 0.002,
    },
    "docker": {
        "a call": 0.0002,
        "reset": 0.009,
        "partition applied": 0.009,
        "partition healed": 0.009,
    },
}


def run(runs: int) -> str:
    """Measure, and return the figures as Markdown."""
    starts = in_turns(runs, {"embedded": _starts})
    with contextlib.ExitStack() as life:
        sims = {it: life.enter_context(Simulator(backend=it)) for it in _TARGETS}
        calls = in_turns(runs, {it: _calls(sim) for it, sim in sims.items()})
    times = {it: {**starts.get(it, {}), **calls[it]} for it in _TARGETS}
    return comparison(
        Row(f"{backend}: {figure}", times[backend][figure], "asked", [target])
        for backend, targets in _TARGETS.items()
        for figure, target in targets.items()
    )


def _starts() -> Mapping[str, float]:
    with contextlib.ExitStack() as life:
        new = seconds(lambda: life.enter_context(_ready()))
    with contextlib.ExitStack() as life:

        def start() -> None:
            life.callback(Simulator(backend="embedded").start().stop)

        return {"python -c, to ready": new, "a further start": seconds(start)}


def _calls(sim: Simulator) -> Side:
    def call() -> None:
        for _ in range(_CALLS):
            _ = sim.control_plane.primary

    def measure() -> Mapping[str, float]:
        sim.faults.latency(_LINK, 1)
        reset = seconds(sim.reset)
        applied = seconds(lambda: sim.faults.partition("a", "b"))
        (fault,) = sim.faults.active
        return {
            "reset": reset,
            "partition applied": applied,
            "partition healed": seconds(fault.heal),
            "a call": seconds(call) / _CALLS,
        }

    return measure


@contextlib.contextmanager
def _ready() -> Iterator[None]:
    """Start a process, and wait until its topology is ready."""
    with subprocess.Popen(  # noqa: S603  # our own command
        [sys.executable, "-c", _SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError("the topology did not start")
        yield
        # Its process ends when its stdin is closed.
