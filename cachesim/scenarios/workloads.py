"""The workload of a scenario: the built-in pods, or a user's function or command in their place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cachesim.scenarios import forms
from cachesim.scenarios.timeline import Timeline
from cachesim.workload.plan import Origin, Plan, Traffic
from cachesim.workload.pods import Pods
from cachesim.workload.profile import Profile, memcached_profile, redis_profile

if TYPE_CHECKING:
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


class ScenarioPods(Pods):
    """The pods of a scenario. They are not started yet.

    Attributes:
        profiles: of the client of each service that is built in.
    """

    def __init__(self, plan: Plan, sim: "Simulator", timeline: Timeline, path: Path) -> None:
        super().__init__(
            plan,
            env=sim.env(),
            path=path,
            deadline=timeline.scenario.deadline,
            seed=timeline.seed,
        )
        self.profiles = profiles_of(plan)


def pods_of(
    sim: "Simulator", timeline: Timeline, path: Path, command: Sequence[str] = ()
) -> ScenarioPods:
    """Return the pods of a scenario.

    Args:
        path: the history that they write to.
        command: a command of the user's, in place of the operations of the file.
    """
    return ScenarioPods(plan_of(timeline.scenario.workload, command), sim, timeline, path)
