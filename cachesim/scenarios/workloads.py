"""The workload of a scenario: the built-in pods, or a user's function or command in their place."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cachesim.scenarios import forms
from cachesim.scenarios.timeline import Timeline
from cachesim.workload.plan import Origin, Plan, Traffic
from cachesim.workload.pods import Pods
from cachesim.workload.profile import Profile, memcached_profile, redis_profile

if TYPE_CHECKING:
    from cachesim.scenarios.runner import WorkloadOf
    from cachesim.simulator.simulator import Simulator


def plan_of(workload: forms.Workload, command: Sequence[str] = ()) -> Plan:
    """Return what the pods of a scenario's workload do.

    Args:
        command: a command of the user's, in place of the operations of the file.
    """
    if command:
        return Plan(1, command=tuple(command))
    sessions, api_cache = (workload.traffic.get(it) for it in ("sessions", "api_cache"))
    replicas = isinstance(sessions, forms.Sessions) and sessions.replicas
    return Plan(
        workload.pods,
        None if sessions is None else Traffic(sessions.rate, sessions.population, replicas),
        None if api_cache is None else Traffic(api_cache.rate, api_cache.population),
        Origin(workload.origin.latency, workload.origin.capacity),
        workload.python,
    )


def profiles_of(plan: Plan) -> Mapping[str, Profile]:
    """Return the profile of each service's client, of those that are built in."""
    return {
        **({"sessions": redis_profile()} if plan.sessions else {}),
        **({"api_cache": memcached_profile()} if plan.api_cache else {}),
    }


def pods_of(plan: Plan) -> "WorkloadOf":
    """Return what makes the pods of a run. They are not started yet."""
    return partial(_pods, plan)


def _pods(plan: Plan, sim: "Simulator", timeline: Timeline, path: Path) -> Pods:
    return Pods(
        plan,
        env=sim.env(),
        path=path,
        deadline=timeline.scenario.deadline,
        seed=timeline.seed,
    )
