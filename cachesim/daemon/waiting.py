"""Waits until something is true of the topology: a failover is completed, or all is well again."""

from collections.abc import Callable

from cachesim.clock import Deadline
from cachesim.control_plane.failover import ShardFailover
from cachesim.control_plane.states import State
from cachesim.daemon.operations import Operations
from cachesim.daemon.server import Caller, Hangup
from cachesim.errors import FailoverTimeout, WaitTimeout
from cachesim.events import check_timeout
from cachesim.faults.fields import unknown
from cachesim.runs.calls import Condition
from cachesim.servers.admin import errors
from cachesim.topology import Node, NodeState

_LOOK = 0.5  # seconds within which the end of a caller that waits is noticed
_POLL = 0.05  # seconds between two looks at all nodes
_MARGIN = 10.0  # seconds that a wait takes longer than what it waits for may take


def until(
    caller: Caller,
    wait: Callable[[Callable[[], bool], float], bool],
    condition: Callable[[], bool],
    timeout: float,
) -> bool:
    """Wait until a condition holds; return whether it held in time.

    Args:
        wait: waits for the condition for some seconds, and raises NotRunning if the topology ends.

    Raises:
        Hangup: the caller has hung up.
        NotRunning: the topology has ended.
        ValueError: the timeout is negative or too large.
    """
    check_timeout(timeout)
    deadline = Deadline(timeout)
    while not wait(condition, min(deadline.remaining, _LOOK)):
        if deadline.expired:
            return False
        if caller.has_hung_up:
            raise Hangup
    return True


class Waits:
    """The waits of callers."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def wait(
        self,
        caller: Caller,
        what: str,
        shard: ShardFailover,
        after: int | None = None,
        seconds: float | None = None,
        node: str | None = None,
    ) -> None:
        """Wait until a condition holds.

        Args:
            what: a `Condition`.
            after: the number of failovers to exceed; None: of those that a wait has returned.
            seconds: at most; None: as long as it may take at the present speed, and 10 s more.
            node: `healthy` is asked of this node alone; None: of all nodes, and of the shard.

        Raises:
            WaitTimeout: it did not hold in time. For a failover it is a FailoverTimeout.
            Hangup: the caller has hung up.
            NotRunning: the topology has ended.
            ValueError: there is no such condition, or the time is none.
        """
        if what not in list(Condition):
            raise ValueError(unknown("condition", what, Condition))
        if seconds is None:
            seconds = self._longest(Condition(what)) + _MARGIN
        match Condition(what):
            case Condition.FAILOVER:
                self._wait_for_failover(caller, shard, after, seconds)
            case Condition.DECIDED:
                self._wait_for_states(caller, shard, seconds, State.AVAILABLE, State.REPLACING)
            case Condition.AVAILABLE:
                self._wait_for_states(caller, shard, seconds, State.AVAILABLE)
            case Condition.HEALTHY:
                self._wait_healthy(caller, shard, seconds, node)

    def until(self, caller: Caller, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until a condition holds that events change. See `until`."""
        return until(caller, self._operations.events.wait, condition, timeout)

    def _longest(self, what: Condition) -> float:
        timing = self._operations.control_plane.timing
        if what in (Condition.FAILOVER, Condition.DECIDED):
            return timing.longest_failover
        return timing.longest_failover + timing.replacement[1] / timing.speed

    def _wait_for_failover(
        self, caller: Caller, shard: ShardFailover, after: int | None, seconds: float
    ) -> None:
        seen = shard.reported if after is None else after

        def completed() -> bool:
            # A second primary may have been lost since the first failover.
            return shard.failovers > seen and self._operations.nodes.is_up(shard.primary)

        if not self.until(caller, completed, seconds):
            raise FailoverTimeout(
                f"no failover was completed within {seconds:g} s: the shard is {shard.state}, "
                f"its primary {shard.primary}. What happened:\n{self._since_reset()}"
            )
        shard.reported = shard.failovers

    def _since_reset(self) -> str:
        """Return the events since the last reset, as those before are of other tests."""
        events = list(self._operations.events)
        resets = [place for place, it in enumerate(events) if it.kind == "reset"]
        return "\n".join(map(str, events[resets[-1] if resets else 0 :]))

    def _wait_for_states(
        self, caller: Caller, shard: ShardFailover, seconds: float, *states: State
    ) -> None:
        if not self.until(caller, lambda: shard.state in states, seconds):
            raise WaitTimeout(
                f"the shard is {shard.state} after {seconds:g} s, its primary {shard.primary}"
            )

    def _wait_healthy(
        self, caller: Caller, shard: ShardFailover, seconds: float, node: str | None
    ) -> None:
        check_timeout(seconds)
        asked = None if node is None else self._operations.topology.node(node)
        deadline = Deadline(seconds)
        while (
            problem := self._problem(shard) if asked is None else self._problem_of(asked, shard)
        ) is not None:
            if deadline.expired:
                who = "not all nodes are" if asked is None else f"{asked.name} is not"
                raise WaitTimeout(f"{who} healthy after {seconds:g} s: {problem}")
            self.until(caller, lambda: False, min(deadline.remaining, _POLL))
            if caller.has_hung_up:
                raise Hangup

    def _problem(self, shard: ShardFailover) -> str | None:
        """Return what keeps the topology from being healthy; None: nothing."""
        it = self._operations
        for node in it.topology.nodes:
            if node.name in it.provision.coming:
                return f"{node.name} is being added"
            if (state := it.nodes.state(node.name)) is not NodeState.RUNNING:
                return f"{node.name} is {state}"
        if shard.state is not State.AVAILABLE:
            return f"the shard is {shard.state}"
        for node in it.topology.memcached:
            if (unanswered := self._unanswered(node.name)) is not None:
                return unanswered
        problem = it.clusters[shard.id].health.first_problem(shard.primary)
        return None if problem is None else str(problem)

    def _problem_of(self, node: Node, shard: ShardFailover) -> str | None:
        """Return what keeps one node from being healthy; None: nothing."""
        it = self._operations
        if (state := it.nodes.state(node.name)) is not NodeState.RUNNING:
            return f"it is {state}"
        if node.name in it.memcached:
            return self._unanswered(node.name)
        try:
            return it.clusters[shard.id].health.problem(node.name, shard.primary)
        except errors() as error:
            return f"it does not answer: {error}"

    def _unanswered(self, node: str) -> str | None:
        with self._operations.asking_memcached:
            client = self._operations.memcached[node]
            try:
                client.version()
            except errors() as error:
                client.close()
                return f"{node} does not answer: {error}"
        return None
