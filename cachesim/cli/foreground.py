"""Runs a topology in the foreground, until Ctrl-C: `cachesim up`."""

import contextlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cachesim.cli.starting import started
from cachesim.daemon.signals import INTERRUPTED, Interrupted, Interrupts
from cachesim.runs.calls import Call
from cachesim.runs.registry import find_run
from cachesim.runs.rpc import TakenDown, call

if TYPE_CHECKING:
    from rich.console import Console

    from cachesim.simulator.simulator import Simulator

_LOOK = 0.2  # seconds within which a request to end is noticed


def run(arguments: Mapping[str, object], *, dashboard: bool = False) -> int:
    """Start a topology, show it, print its events until an interrupt, and take it down.

    Args:
        arguments: settings by name; None means not given.
        dashboard: whether to serve the web page too.

    Returns:
        The exit code: 0, or 130 if an interrupt came before the topology was up.

    Raises:
        CachesimError: the topology did not start, and nothing is left behind; or it could not be
            taken down, and the message says what is left.
    """
    try:
        with Interrupts() as interrupts:
            sim, loaded = started(arguments, interrupts)
            try:
                from cachesim.cli import output

                call(find_run(sim.name), Call.OFFER)
                terminal = output.terminal()
                output.show(sim, loaded, briefly=terminal is not None)
                with contextlib.ExitStack() as life:
                    if dashboard:
                        from cachesim.dashboard.serving import served

                        print(f"dashboard  {life.enter_context(served(sim))}\n", flush=True)
                    _say("Events follow. Ctrl-C takes everything down.")
                    with contextlib.suppress(TakenDown):  # by `cachesim down`
                        if terminal is None:
                            _follow(sim, interrupts)
                        else:
                            _watch(sim, terminal, interrupts)
            finally:
                sim.stop()
        code = 0
    except Interrupted:
        code = INTERRUPTED
    _say("Everything is down.")
    return code


def _follow(sim: "Simulator", interrupts: Interrupts) -> None:
    """Print the event log as it grows."""
    printed = 0
    while not interrupts.requested:
        for event in sim.events.next(printed, _LOOK):
            print(event, flush=True)
            printed += 1


def _watch(sim: "Simulator", terminal: "Console", interrupts: Interrupts) -> None:
    """Show the topology on a terminal, and leave the last view there."""
    from cachesim.cli.live import watch

    doing, interrupts.doing = interrupts.doing, ""  # it would be in the middle of the view
    try:
        watch(sim, terminal, lambda: interrupts.requested)
    finally:
        interrupts.doing = doing
    if interrupts.requested:
        _say(doing)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(line, file=sys.stderr, flush=True)
