"""The workload of a scenario: the built-in pods, or a user's function in them."""

from pathlib import Path
from typing import TYPE_CHECKING

from cachesim.scenarios import forms
from cachesim.scenarios.timeline import Timeline
from cachesim.workload.plan import Origin, Plan, Traffic
from cachesim.workload.pods import Pods

if TYPE_CHECKING:
    from cachesim.simulator.simulator import Simulator


def plan_of(workload: forms.Workload) -> Plan:
    """Return what the pods of a scenario's workload do."""
    traffic = {name: Traffic(it.rate, it.population) for name, it in workload.traffic.items()}
    return Plan(
        workload.pods,
        traffic.get("sessions"),
        traffic.get("api_cache"),
        Origin(workload.origin.latency, workload.origin.capacity),
        workload.python,
    )


def pods_of(sim: "Simulator", timeline: Timeline, path: Path) -> Pods:
    """Return the pods of a scenario. They are not started yet.

    Args:
        path: the history that they write to.
    """
    scenario = timeline.scenario
    return Pods(
        plan_of(scenario.workload),
        env=sim.env(),
        path=path,
        deadline=scenario.deadline,
        seed=timeline.seed,
    )
