"""A topology that lives as long as the command that started it: `cachesim up`."""

import contextlib
import itertools
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cachesim.errors import CachesimError
from cachesim.interrupts import Interrupted, Interrupts

if TYPE_CHECKING:
    from cachesim.simulator import Simulator

INTERRUPTED = 130
"""The exit code of a command that was interrupted, as shells have it."""
_LOOK = 0.2  # seconds: how soon an interrupt is noticed while nothing happens


def run(arguments: Mapping[str, object]) -> int:
    """Start a topology, show it, print its events until an interrupt, and take it down.

    Args:
        arguments: settings by name; None is not given.

    Returns:
        The exit code: 0, or 130 if the interrupt came before it was up.

    Raises:
        CachesimError: it did not come up, and nothing is left behind; or what is left behind.
    """
    code = 0
    try:
        with Interrupts() as interrupts, contextlib.ExitStack() as life:
            with interrupts.breaking():
                # Imported here: they take long enough for an interrupt to come.
                from cachesim import screen
                from cachesim.config import load_settings
                from cachesim.simulator import Simulator

                loaded = load_settings(arguments)
                sim = Simulator(loaded.settings)
                life.callback(_take_down, sim)
                with screen.progress() as show_step:
                    steps = itertools.count(1)

                    def step(line: str) -> None:
                        # The first one finds the images, and may take minutes. The others make
                        # things, and whoever breaks in on that does not know what there is.
                        if next(steps) > 1:
                            interrupts.hold()
                        show_step(line)

                    sim.start(step)
            screen.show(sim, loaded)
            _say("Events follow. Ctrl-C takes everything down.")
            _follow(sim, interrupts)
    except Interrupted:
        code = INTERRUPTED
    _say("Everything is down.")
    return code


def _follow(sim: "Simulator", interrupts: Interrupts) -> None:
    """Print the event log as it grows."""
    printed = 0

    def has_grown() -> bool:
        return len(sim.events) > printed

    while not interrupts.requested:
        sim.events.wait(has_grown, _LOOK)
        for event in sim.events.since(printed):
            print(event, flush=True)
            printed += 1


def _take_down(sim: "Simulator") -> None:
    try:
        sim.stop()
    except Exception as error:
        raise CachesimError(
            f"not everything of the topology {sim.name!r} could be taken down: {error}. "
            "The next start of one removes what is left, as soon as the engine answers."
        ) from error


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(line, file=sys.stderr, flush=True)
