"""The workload of a scenario: the built-in pods, or a user's function or command in their place."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cachesim.scenarios import forms
from cachesim.scenarios.timeline import Timeline
from cachesim.workload.plan import Origin, Plan, Traffic
from cachesim.workload.pods import Pods

if TYPE_CHECKING:
    from cachesim.simulator.simulator import Simulator

_POLLED = 60.0
"""Production seconds between two times that Amazon's clients with auto discovery ask for nodes."""


def plan_of(workload: forms.Workload, speed: float, command: Sequence[str] = ()) -> Plan:
    """Return what the pods of a scenario's workload do.

    Args:
        speed: of the run.
        command: a command of the user's, in place of the operations of the file.
    """
    if command:
        return Plan(1, command=tuple(command))
    sessions, api_cache = (workload.traffic.get(it) for it in ("sessions", "api_cache"))
    replicas = isinstance(sessions, forms.Sessions) and sessions.replicas
    follows = isinstance(api_cache, forms.ApiCache) and api_cache.discovery
    discovery = _POLLED / speed if follows else None
    return Plan(
        workload.pods,
        None if sessions is None else Traffic(sessions.rate, sessions.population, replicas),
        None
        if api_cache is None
        else Traffic(api_cache.rate, api_cache.population, discovery=discovery),
        Origin(workload.origin.latency, workload.origin.capacity),
        workload.python,
    )


def pods_of(sim: "Simulator", timeline: Timeline, path: Path, command: Sequence[str] = ()) -> Pods:
    """Return the pods of a scenario. They are not started yet.

    Args:
        path: the history that they write to.
        command: a command of the user's, in place of the operations of the file.
    """
    return Pods(
        plan_of(timeline.scenario.workload, sim.control_plane.timing.speed, command),
        env=sim.env(),
        path=path,
        deadline=timeline.scenario.deadline,
        seed=timeline.seed,
    )
