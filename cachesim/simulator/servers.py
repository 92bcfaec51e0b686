"""What the servers of a running topology say and have, for whoever judges what clients see."""

from collections.abc import Sequence

from cachesim.runs.calls import Call, Readings, Status
from cachesim.simulator.faults import Calls


class Servers:
    """The servers, over their admin addresses, which cross no link. Thread-safe.

    Every method raises NotRunning if the topology does not run, or belongs to another process.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def readings(self) -> Readings:
        """Return what the servers say now: roles, offsets, counters, connections, memory."""
        found: Readings = self._calls.call(Call.READINGS)
        return found

    def status(self) -> Status:
        """Return what runs and its state, all at once: nodes, roles, faults, who has the lease."""
        found: Status = self._calls.call(Call.STATUS)
        return found

    def stored(self, node: str, keys: Sequence[str], length: int = 512) -> list[str | None]:
        """Return the strings that one Redis node has, primary or replica.

        Args:
            length: how many bytes of each, at most.

        Returns:
            For each key its text; None: the node has no such string.

        Raises:
            CachesimError: there is no such Redis node.
        """
        found: list[str | None] = self._calls.call(
            Call.VALUES, node=node, keys=list(keys), length=length
        )
        return found
