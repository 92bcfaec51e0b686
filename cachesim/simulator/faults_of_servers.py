"""The methods of `sim.faults` that change what servers answer and hold."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Generic, TypeVar

from cachesim.faults import catalogue
from cachesim.faults.catalogue import OnePart, name_of, names_of
from cachesim.faults.spec import FaultSpec
from cachesim.topology import Topology

FaultT = TypeVar("FaultT")


class FaultsOfServers(Generic[FaultT]):
    """Base of `cachesim.simulator.faults.Faults`."""

    _topology: Topology

    @abstractmethod
    def _one(self, fault: FaultSpec) -> FaultT:
        """Apply one fault."""

    @abstractmethod
    def _some(self, verb: str, nodes: tuple[OnePart, ...]) -> tuple[str, ...]:
        """Return nodes; raise InvalidFault if there are none."""

    def answer(
        self,
        *nodes: OnePart,
        error: str,
        commands: str | Iterable[str] | None = None,
        to: OnePart | None = None,
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
        names = None if commands is None else names_of(commands)
        some = self._some("answer", nodes)
        return self._one(catalogue.Answer(some, error, names, name_of(to), share, times))

    def delay(
        self,
        *nodes: OnePart,
        ms: int,
        commands: str | Iterable[str] | None = None,
        share: float = 1.0,
    ) -> FaultT:
        """Make emulated nodes answer some commands of users late.

        Args:
            ms: by how many milliseconds. What follows on the connection waits.
            commands: as in `answer`.
            share: as in `answer`.

        Raises:
            FaultError: a node is a real server, or has no such command.
        """
        names = None if commands is None else names_of(commands)
        return self._one(catalogue.Delay(self._some("delay", nodes), ms, names, share))

    def slow(self, *nodes: OnePart, cpu: float = 1.0) -> FaultT:
        """Leave nodes little of their processor.

        Args:
            cpu: the share of one processor that is left, 0.01 to 50 percent. Containers take no
                less than 1.
        """
        return self._one(catalogue.Slow(self._some("slow", nodes), cpu))

    def hot_key(self, *nodes: OnePart, key: str, rate: int = 1000) -> FaultT:
        """Read one key of nodes all the time, over the links of clients.

        Args:
            key: whether it is there or not.
            rate: reads of each node in a second, 1 to 10000. A slow node gets fewer.
        """
        return self._one(catalogue.HotKey(self._some("hot_key", nodes), key, rate))

    def aof_error(self, *nodes: OnePart) -> FaultT:
        """Fill the disks of Redis nodes: they refuse writes with MISCONF, as production does.

        A replica ends itself at the next writes that it gets. It ends with the node's process.

        Raises:
            FaultError: a container's image has no `prlimit`.
        """
        return self._one(catalogue.AofError(self._some("aof_error", nodes)))

    def auth_rotate(self, *nodes: OnePart, strategy: str = "set") -> FaultT:
        """Change the AUTH token. Connections that are open stay.

        The file of `CACHESIM_REDIS_PASSWORD_FILE` has the new token until the fault is healed. A
        node that starts meanwhile starts with it.

        Args:
            nodes: Redis nodes; none: all.
            strategy: `rotate`: the old and the new token are valid. `set`: the new one alone.
        """
        every = nodes or self._topology.redis
        return self._one(catalogue.AuthRotate(names_of(every), strategy))

    def bad_certificate(self, *nodes: OnePart, problem: str = "expired") -> FaultT:
        """Give nodes a certificate that clients refuse. Connections that are open stay.

        Args:
            problem: `expired`, or `wrong-host`.
        """
        return self._one(catalogue.BadCertificate(self._some("bad_certificate", nodes), problem))

    def expire(self, *nodes: OnePart, pattern: str, share: float = 1.0) -> FaultT:
        """Let keys of Redis primaries and Memcached nodes expire, once.

        Args:
            pattern: which keys, such as `session:*`.
            share: of these keys, drawn from the seed.

        Raises:
            FaultError: a node is a replica, nothing expired, or Memcached's crawler is busy.
        """
        return self._one(catalogue.Expire(self._some("expire", nodes), pattern, share))

    def flush(self, *nodes: OnePart) -> FaultT:
        """Empty nodes, once.

        Raises:
            FaultError: a node is a Redis replica.
        """
        return self._one(catalogue.Flush(self._some("flush", nodes)))
