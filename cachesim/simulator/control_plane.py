"""The handle on the control plane of a running topology."""

import contextlib
from collections.abc import Callable, Iterator

from cachesim.control_plane.states import State
from cachesim.control_plane.timing import Timing
from cachesim.events import check_timeout
from cachesim.faults.catalogue import FORMER, HANG, OnePart, name_of
from cachesim.runs.calls import Call, ShardStatus
from cachesim.runs.failing_over import fail_over
from cachesim.simulator.connection import Connection
from cachesim.simulator.means import Handle, Means


def hangs(old: str) -> bool:
    """Return whether connections to an old address hang; raise ValueError for another word."""
    if old not in FORMER:
        raise ValueError(f"old must be {' or '.join(FORMER)}, got {old!r}")
    return old == HANG


class ControlPlaneHandle(Handle):
    """The stand-in for ElastiCache's control plane: it fails over and replaces nodes.

    Attributes:
        endpoints: the addresses of the configuration endpoints: `redis` and `memcached`.
    """

    def __init__(self, means: Means, scaled: Callable[[int], None]) -> None:
        super().__init__(means)
        self.endpoints = dict(means.configuration)
        self._scaled = scaled

    @property
    def timing(self) -> Timing:
        """The durations of its phases, until the next reset. It can be set."""
        return Timing.from_dict(self._connection.call(Call.TIMING))

    @timing.setter
    def timing(self, timing: Timing) -> None:
        self._connection.call(Call.SET_TIMING, timing=timing.as_dict())

    @property
    def state(self) -> State:
        """The state of the only shard."""
        return State(self._shard()["state"])

    @property
    def primary(self) -> str:
        """The name of the only shard's primary, as far as the control plane knows."""
        return self._shard()["primary"]

    @property
    def failovers(self) -> int:
        """The number of completed failovers of the only shard since the start or last reset."""
        return self._shard()["failovers"]

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Decide nothing inside the context. Contexts may overlap: the last one to end counts."""
        with self._connection.channel() as channel:
            channel.call(Call.SUSPEND)
            yield

    def failover(
        self, to: OnePart | None = None, *, shard: str | None = None, wait: bool = False
    ) -> str:
        """Fail over as ElastiCache's TestFailover does: without a detection.

        It takes as long as a promotion does.

        Args:
            to: the zone whose replica is promoted; without it, the replica with the least lag.
            shard: the shard's id; needed only if there are several.
            wait: return when it is completed. A failover that is in progress already is waited for;
                another one begins only if that one has not promoted a replica of the zone `to`.

        Returns:
            The name of the primary: with `wait` the new one, else the one that is replaced.

        Raises:
            ValueError: the primary is in that zone, or there is no such zone or shard.
            FaultError: a failover is in progress already, without `wait`; or the replica does not
                answer; or, with `wait`, it could not be promoted, and another one was.
            FailoverTimeout: it was not completed in time.
            NotRunning: the topology does not run, or belongs to another process.
        """
        zone = None if to is None else name_of(to)
        if wait:
            return fail_over(self._connection.wait, zone, shard)["primary"]
        begun: ShardStatus = self._connection.call(Call.FAILOVER, to=zone, shard=shard)
        return begun["primary"]

    def wait(self, what: str, timeout: float | None = None) -> str:
        """Wait until something is true of the only shard.

        Args:
            what: `failover`: a failover is completed; one since the last wait counts too.
                `available`: no failover is in progress, and every old primary is back.
                `healthy`: that, and all nodes run and answer, and replicas follow without a lag.
                Faults on links to clients do not count.
            timeout: seconds; by default as long as it may take at the present speed, plus 10 s.

        Returns:
            The name of the primary.

        Raises:
            WaitTimeout: it did not become true in time; the message says why.
            NotRunning: the topology was stopped meanwhile, or belongs to another process.
            ValueError: the timeout is below 0, or too long; or there is no such condition.
        """
        return wait_for(self._connection, what, timeout)["primary"]

    def scale(self, memcached: int) -> None:
        """Add or remove Memcached nodes, until there are so many.

        New ones are put into the zones in turn, and named `memcached-a2`, `memcached-b2` and so
        on; the last ones are removed first. `Simulator.reset` brings back the three of the start.

        Args:
            memcached: 3 to 6.

        Raises:
            FaultError: there can't be so many.
        """
        self._connection.wait(Call.SCALE, memcached=memcached)
        self._scaled(memcached)

    def rolling_replacement(self, *, new_addresses: bool = False, old: str = "refuse") -> None:
        """Replace all nodes, one after the other, as an upgrade of the engine does.

        Of Redis the replicas come first. Each node has recovered before the next one is replaced.

        Args:
            new_addresses: whether the new nodes have other addresses. Then no client knows a
                living address from its start, but for those of `endpoints`.
            old: what connections to the old addresses do: `refuse` or `hang`.

        Raises:
            FaultError: a node could not be replaced, or did not recover. Those after it stay.
        """
        arguments = {"new_addresses": new_addresses, "hangs": hangs(old)}
        self._connection.wait(Call.ROLL, **arguments)

    def _shard(self) -> ShardStatus:
        status: ShardStatus = self._connection.call(Call.SHARD)
        return status


def wait_for(
    connection: Connection,
    what: str,
    timeout: float | None,
    shard: str | None = None,
    node: str | None = None,
) -> ShardStatus:
    """Wait until a shard, or one node, is as it should be; see `ControlPlaneHandle.wait`."""
    if timeout is not None:
        check_timeout(timeout)
    status: ShardStatus = connection.wait(
        Call.WAIT, limit=timeout, what=what, shard=shard, seconds=timeout, node=node
    )
    return status
