"""The built-in workload against containers: whether its pods keep their schedule, and at what cost.

Ten pods, 500 operations a second on sessions and 1,500 on the API cache, without a fault.
"""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from benchmarks.measure import spread, table
from cachesim import Simulator
from cachesim.history.reader import History
from cachesim.workload.plan import Plan, Traffic
from cachesim.workload.pods import Pods

RATE = 2000.0
_SECONDS = 20.0
_PLAN = Plan(10, Traffic(RATE / 4, 5000), Traffic(RATE * 3 / 4, 2000))
_DEADLINE = 1.0
_LATE = """
SELECT max(0, start - due) FROM operations WHERE due >= ? AND service != 'origin' ORDER BY 1
"""
_TOOK = "SELECT end - start FROM operations WHERE due >= ? AND service = ? ORDER BY 1"
_GOOD = """
SELECT avg(outcome = 'ok' AND end <= due + ?) FROM operations
WHERE due >= ? AND service != 'origin'
"""


def run(runs: int) -> str:
    """Measure, and return the figures as Markdown."""
    with Simulator(backend="docker") as sim:
        found = [_measure(sim, seed) for seed in range(runs + 1)][1:]
    rows = [(name, spread([it[name] for it in found])) for name in found[0] if name in _TIMES]
    rows += [
        (name, f"{min(it[name] for it in found):.2f}-{max(it[name] for it in found):.2f}")
        for name in found[0]
        if name not in _TIMES
    ]
    return table(("figure", f"at {RATE:g} operations a second"), rows)


_TIMES = frozenset(
    {
        *("pods open", "began late, p50", "began late, p99"),
        *("sessions, p50", "sessions, p99", "api_cache, p50", "api_cache, p99"),
    }
)


def _measure(sim: Simulator, seed: int) -> Mapping[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.sqlite"
        with Pods(_PLAN, env=sim.env(), path=path, deadline=_DEADLINE, seed=seed) as pods:
            began = time.monotonic()
            pods.open()
            opened = time.monotonic()
            psutil.cpu_percent()
            pods.begin(opened)
            time.sleep(_SECONDS)
            machine = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
            pods.end()
        with History(path) as history:

            def of(values: list[float], share: float) -> float:
                return values[int(len(values) * share)]

            late = [value for (value,) in history.rows(_LATE, opened)]
            took = {
                name: [value or _DEADLINE for (value,) in history.rows(_TOOK, opened, name)]
                for name in ("sessions", "api_cache")
            }
            [(good,)] = history.rows(_GOOD, _DEADLINE, opened)
            [(lag, cpu)] = history.rows("SELECT max(lag), avg(cpu) FROM generator")
        return {
            "pods open": opened - began,
            "began late, p50": of(late, 0.5),
            "began late, p99": of(late, 0.99),
            **{
                f"{name}, p{share:.0%}".replace("%", ""): of(values, share)
                for name, values in took.items()
                for share in (0.5, 0.99)
            },
            "good, percent": 100 * good,
            "longest lag of a pod, seconds": lag,
            "processors used by the pods": cpu * _PLAN.pods,
            "processors used by all": machine,
        }
