"""The alarms of a topology during a run, for its history."""

import contextlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from cachesim.errors import CachesimError, SettingsError
from cachesim.faults.fields import unknown

if TYPE_CHECKING:
    from cachesim.simulator.simulator import Simulator


class AlarmWatch:
    """Watches the alarms, if a scenario expects something of them or the settings want it.

    A reset of the topology comes before it.

    Args:
        expected: the names of alarms.

    Raises:
        SettingsError: the topology does not have them.
    """

    def __init__(self, sim: "Simulator", expected: Collection[str]) -> None:
        self._sim = sim
        settings = sim.settings
        self._is_on = bool(expected) or settings.metrics == "always" or settings.alarms is not None
        if not self._is_on:
            return
        known = list(sim.alarms)  # which begins it
        for name in expected:
            if name not in known:
                raise SettingsError(
                    f"the scenario expects something of an alarm: {unknown('alarm', name, known)} "
                    "The setting `alarms` is a file with others."
                )

    def facts(self) -> dict[str, Any] | None:
        """Return the states of all alarms until now, for the history; None: they are not watched.

        What a topology that has ended would have told is missing.
        """
        if not self._is_on:
            return None
        with contextlib.suppress(CachesimError):
            return {
                "alarms": self._sim.alarms.statuses(),
                "minutes": [
                    {"begin": it.begin, "end": it.end, "nodes": sorted(it.nodes)}
                    for it in self._sim.metrics.minutes()
                ],
            }
        return None
