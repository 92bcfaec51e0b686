"""What a workload does, as data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

POOL = 10
"""Connections of each pod to a node, and workers of each pod, as the architecture has it."""


@dataclass(frozen=True)
class Traffic:
    """The operations of one service.

    Attributes:
        rate: operations a second over all pods.
        population: how many sessions, or cached answers.
        replicas: whether the client reads from replicas too. The architecture's does not.
        discovery: seconds between two times that the client asks the configuration endpoint for
            the nodes. None: it keeps those of the start, as the architecture's does.
    """

    rate: float
    population: int
    replicas: bool = False
    discovery: float | None = None


@dataclass(frozen=True)
class Origin:
    """What the API cache loads from on a miss.

    Attributes:
        latency: of a load, in seconds.
        capacity: the most loads a second over all pods. Others are refused.
    """

    latency: float = 0.05
    capacity: float = 200.0


@dataclass(frozen=True)
class Plan:
    """What the pods of a workload do.

    Attributes:
        pods: how many processes.
        sessions: the operations in Redis; None: none.
        api_cache: the reads through Memcached; None: none.
        origin: behind the API cache.
        python: a function of the user's that each pod runs instead, `package.module:function`.
        command: a command of the user's that runs instead, once. It has one pod.
    """

    pods: int = 10
    sessions: Traffic | None = None
    api_cache: Traffic | None = None
    origin: Origin = Origin()
    python: str | None = None
    command: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the pods."""
        if self.command:
            return ("command",)
        return tuple(f"pod-{number}" for number in range(self.pods))

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Plan":
        """Return what `as_dict` was made of."""
        traffic = {
            name: None if values[name] is None else Traffic(**values[name])
            for name in ("sessions", "api_cache")
        }
        return cls(
            values["pods"],
            **traffic,
            origin=Origin(**values["origin"]),
            python=values["python"],
            command=tuple(values["command"]),
        )
