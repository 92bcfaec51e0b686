"""What makes the operations of a run, as the runner sees it."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from cachesim.scenarios.timeline import Timeline
from cachesim.topology import Endpoint

if TYPE_CHECKING:
    from cachesim.simulator.simulator import Simulator


class Workload(Protocol):
    """What makes the operations. It records them itself."""

    @property
    def profile(self) -> Mapping[str, float]:
        """Of its clients, as far as it knows: `patience` and `comeback`, in seconds."""
        ...

    @property
    def profiles(self) -> Mapping[str, Mapping[str, float]]:
        """The same of the client of each service that has its own, by service."""
        ...

    @property
    def alive(self) -> Collection[str]:
        """The names of its pods that run."""
        ...

    @property
    def command_code(self) -> int | None:
        """The exit code of a user's command; None: there is none, or it has not ended."""
        ...

    @property
    def command_ended_at(self) -> float | None:
        """When the command ended, in monotonic seconds; None: as `command_code`."""
        ...

    @property
    def eps(self) -> float:
        """By how much the times of operations may be wrong, in seconds. Known after the end."""
        ...

    @property
    def pool(self) -> int | None:
        """Connections of each pod to a node, and its workers. None: nobody knows."""
        ...

    @property
    def dead(self) -> Mapping[str, str]:
        """What became of processes that have ended before their time, by name."""
        ...

    @property
    def failure(self) -> str | None:
        """Why one has ended by itself, so that the run is to end; None: none has."""
        ...

    def open(self) -> None:
        """Get ready, with all pools open."""
        ...

    def begin(self, at: float) -> None:
        """Begin at a monotonic time."""
        ...

    def know(self, node: str, address: Endpoint) -> None:
        """Learn that a node has another address, or was added. Its clients are not told.

        It is for what it records: clients find nodes by themselves, as in production.
        """
        ...

    def end(self, patience: float | None = None) -> Mapping[str, int]:
        """Begin nothing more, wait for the calls under way, and return each exit code by name.

        Args:
            patience: the longest wait, in seconds; None: that of the clients.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


WorkloadOf = Callable[["Simulator", Timeline, Path], Workload]
"""Makes the workload of a run, which records to a file."""
