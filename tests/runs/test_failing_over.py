"""Failing over, and waiting for it, over made-up answers."""

from typing import Any

import pytest

from cachesim.errors import FaultError
from cachesim.runs.calls import Call, Condition
from cachesim.runs.failing_over import fail_over


class Topology:
    """Answers calls as a topology would.

    Attributes:
        begun: the zones that a failover was begun to.
        promotes: the zone whose replica is promoted, whichever was asked for. None: that one.
    """

    promotes: str | None = None

    def __init__(self, *, in_progress: str | None = None) -> None:
        self._primary, self._failovers = "redis-a", 3
        self._coming = in_progress
        self.begun: list[str | None] = []

    def call(self, operation: str, **arguments: Any) -> Any:
        """Answer a call."""
        match operation:
            case Call.FAILOVER:
                before = self._status()
                self.begun.append(arguments["to"])
                self._coming = f"redis-{self.promotes or arguments['to'] or 'b'}"
                return before
            case Call.WAIT:
                if self._coming not in (None, "redis-a"):
                    self._primary, self._failovers = str(self._coming), self._failovers + 1
                self._coming = None
                if arguments["what"] == Condition.FAILOVER:
                    assert self._failovers > arguments["after"]
                return self._status()
            case Call.NODE:
                return {"zone": arguments["node"][-1]}
            case _:
                return self._status()

    def _status(self) -> dict[str, Any]:
        return {"primary": self._primary, "failovers": self._failovers}


@pytest.mark.parametrize(
    ("in_progress", "to", "begun", "primary"),
    [
        (None, None, [None], "redis-b"),
        (None, "c", ["c"], "redis-c"),
        ("redis-c", None, [], "redis-c"),
        ("redis-c", "c", [], "redis-c"),
        ("redis-c", "az-c", [], "redis-c"),
        ("redis-c", "b", ["b"], "redis-b"),
        ("redis-a", None, [None], "redis-b"),
    ],
    ids=["free", "free-to", "waits", "waits-to", "waits-to-az", "other-zone", "given-up"],
)
def test_fail_over(
    in_progress: str | None, to: str | None, begun: list[str | None], primary: str
) -> None:
    """One in progress is waited for; another begins if it is not the one that was asked for."""
    topology = Topology(in_progress=in_progress)
    assert fail_over(topology.call, to)["primary"] == primary
    assert topology.begun == begun


def test_another_replica_is_promoted() -> None:
    """It is no failover to the zone that was asked for, whose replica was paused, say."""
    topology = Topology()
    topology.promotes = "c"
    with pytest.raises(FaultError, match="redis-c is the primary: the replica in zone b could"):
        fail_over(topology.call, "b")
