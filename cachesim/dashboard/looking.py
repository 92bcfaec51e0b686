"""Looks at a running topology: its picture, its figures, its alarms and the inbox, as JSON."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from cachesim.dashboard.figures import Figures, figures
from cachesim.dashboard.picture import Picture, picture

if TYPE_CHECKING:
    from cachesim.monitoring.messages import Message
    from cachesim.runs.calls import AlarmStatus, Readings
    from cachesim.simulator.simulator import Simulator


class Sample(TypedDict):
    """One reading of all servers."""

    at: float
    """Wall-clock time, in seconds."""
    nodes: dict[str, Figures]


class Look:
    """Looks at a topology. For one thread at a time.

    Args:
        sim: a topology that runs.

    Attributes:
        picture: as it was last seen; None: not yet.
    """

    def __init__(self, sim: "Simulator") -> None:
        self._sim = sim
        self._before: Readings | None = None
        self.picture: Picture | None = None

    def see(self) -> Picture:
        """Return the state now."""
        topology, status = self._sim.topology, self._sim.servers.status()
        memcached = len(status["nodes"]) - len(topology.redis)
        if memcached != len(topology.memcached):  # another client has added or removed nodes
            self._sim.refresh()
            topology = replace(topology, memcached=topology.scaled(memcached))  # as of the status
        self.picture = picture(topology, status, self._sim.control_plane.endpoints)
        return self.picture

    def measure(self) -> Sample:
        """Return the figures now. The first ones have no rates."""
        now, minute = self._sim.servers.readings(), self._sim.metrics.running()
        primary = (self.picture or self.see())["primary"]
        # A minute that has just begun has too few readings: the one before tells until then.
        points = {**self._sim.metrics.latest(), **minute.nodes}
        found = figures(now, self._before, primary, points)
        self._before = now
        return {"at": round(time.time(), 2), "nodes": found}

    def alarms(self) -> "list[AlarmStatus]":
        """Return all alarms, without their past."""
        return [{**it, "changes": []} for it in self._sim.alarms.statuses()]

    def messages(self, after: int = 0) -> list[Mapping[str, Any]]:
        """Return the messages of the inbox after a number, the oldest first."""
        return [_message(it) for it in self._sim.inbox.since(after)]


def _message(it: "Message") -> Mapping[str, Any]:
    return {**it.as_dict(), "at": time.time() - time.monotonic() + it.at}
