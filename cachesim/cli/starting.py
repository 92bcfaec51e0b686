"""Starts a topology for a command: with its steps shown, and an end on Ctrl-C."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cachesim.daemon.signals import Interrupts
from cachesim.simulator.launching import DaemonProcess
from cachesim.simulator.simulator import Simulator

if TYPE_CHECKING:
    from cachesim.settings import LoadedSettings


def started(
    arguments: Mapping[str, object], interrupts: Interrupts, folder: Path | None = None
) -> "tuple[Simulator, LoadedSettings]":
    """Start a topology, or attach to the one in a folder of `cachesim compose`.

    Args:
        arguments: settings by name; None means not given.

    Returns:
        The topology, and the settings with their sources.

    Raises:
        Interrupted: an interrupt came; nothing is left behind.
        CachesimError: the topology did not start, and nothing is left behind.
    """
    with interrupts.breaking():
        process = DaemonProcess()
        # Slow to import, which the other process does meanwhile.
        from cachesim.cli import output
        from cachesim.settings import load_settings

        loaded = load_settings(arguments)
        sim = Simulator.prepared(process, loaded.settings, folder)
        with output.progress() as step:
            return sim.start(step), loaded
