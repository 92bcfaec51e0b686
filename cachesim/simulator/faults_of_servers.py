"""The methods of `sim.faults` that change what servers answer and hold."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Generic, TypeVar

from cachesim.faults import catalogue
from cachesim.faults.spec import FaultSpec

FaultT = TypeVar("FaultT")


class FaultsOfServers(Generic[FaultT]):
    """Base of `cachesim.simulator.faults.Faults`."""

    @abstractmethod
    def _one(self, fault: FaultSpec) -> FaultT:
        """Apply one fault."""

    @abstractmethod
    def _some(self, verb: str, nodes: tuple[str, ...]) -> tuple[str, ...]:
        """Return nodes; raise InvalidFault if there are none."""

    def answer(
        self,
        *nodes: str,
        error: str,
        commands: Iterable[str] | None = None,
        to: str | None = None,
        share: float = 1.0,
        times: int | None = None,
    ) -> FaultT:
        """Make emulated nodes answer some commands of users with an error.

        Args:
            error: a word such as `LOADING`, `TRYAGAIN` or `MOVED`, or the whole text of an error.
                Memcached: `SERVER_ERROR`, `CUT-OFF` (half of the reply, then the connection is
                closed) or `OTHER-REPLY` (the reply of the request before).
            commands: their names, such as `get` or `client|list`; None: all that have keys.
            to: the node that `MOVED` and `ASK` lead to.
            share: of the requests, drawn from the seed for each.
            times: how many requests are answered so, on all nodes together; None: all.

        Raises:
            FaultError: a node is a real server, or has no such command.
        """
        names = None if commands is None else tuple(commands)
        some = self._some("answer", nodes)
        return self._one(catalogue.Answer(some, error, names, to, share, times))

    def delay(
        self, *nodes: str, ms: int, commands: Iterable[str] | None = None, share: float = 1.0
    ) -> FaultT:
        """Make emulated nodes answer some commands of users late.

        Args:
            ms: by how many milliseconds. What follows on the connection waits.
            commands: as in `answer`.
            share: as in `answer`.

        Raises:
            FaultError: a node is a real server, or has no such command.
        """
        names = None if commands is None else tuple(commands)
        return self._one(catalogue.Delay(self._some("delay", nodes), ms, names, share))
