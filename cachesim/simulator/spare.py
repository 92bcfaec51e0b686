"""The process that waits for the next topology of this program, with all imported."""

import contextlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from cachesim.errors import StartError
from cachesim.simulator.launching import DaemonProcess


class Spare:
    """Gives processes for topologies, and keeps one ready from the second start on.

    Importing all is three quarters of a start. But most programs start one topology only, and a
    process that waits takes memory: so the first start brings none.
    """

    def __init__(self) -> None:
        self._has_started = False
        # Without a lock, which a fork in another thread would leave locked.
        self._waiting: list[DaemonProcess] = []

    def take(self) -> DaemonProcess:
        """Return the process that waits, or else a new one.

        Raises:
            StartError: no process can be started.
        """
        with contextlib.suppress(IndexError):
            if (process := self._waiting.pop()).is_running:
                return process
        return DaemonProcess()

    def keep(self, settings: Mapping[str, Any]) -> None:
        """Keep a process, if this is not the first topology that was started.

        Args:
            settings: those of the topology; the next one may be like it.
        """
        if self._has_started and not self._waiting:
            with contextlib.suppress(StartError):  # the next start will say so
                self._waiting.append(DaemonProcess(settings))
        self._has_started = True


@cache
def spare() -> Spare:
    """Return the one of this program."""
    return Spare()
