"""A topology that lives as long as the process that carries it, and is open to others meanwhile."""

import contextlib
import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cachesim.backends.base import Progress
from cachesim.daemon.signals import INTERRUPTED, Interrupted, Interrupts
from cachesim.errors import CachesimError

if TYPE_CHECKING:
    from cachesim.simulator.simulator import Simulator

LOOK = 0.2
"""Seconds: how soon the end is noticed while nothing happens."""


def carry(
    make: "Callable[[], Simulator]",
    progress: Callable[[], contextlib.AbstractContextManager[Progress]],
    then: "Callable[[Simulator, Interrupts], None]",
) -> int:
    """Start a topology, take calls for it until its end is asked for, and take it down.

    Args:
        make: gives the topology. It is called where an interrupt may come.
        progress: shows the steps of the start.
        then: called when it is up; returns when the end is asked for.

    Returns:
        The exit code: 0, or 130 if the interrupt came before it was up.

    Raises:
        CachesimError: it did not come up, and nothing is left behind; or what is left behind.
    """
    code = 0
    try:
        with Interrupts() as interrupts, contextlib.ExitStack() as life:
            with interrupts.breaking():
                # Imported here: it takes long enough for an interrupt to come.
                from cachesim.daemon.service import serving

                sim = make()
                life.callback(_take_down, sim)
                with progress() as show_step:
                    steps = itertools.count(1)

                    def step(line: str) -> None:
                        # The first one finds the images, and may take minutes. The others make
                        # things, and whoever breaks in on that does not know what there is.
                        if next(steps) > 1:
                            interrupts.hold()
                        show_step(line)

                    sim.start(step)
            with serving(sim, interrupts):
                then(sim, interrupts)
    except Interrupted:
        code = INTERRUPTED
    return code


def wait(_sim: "Simulator", interrupts: Interrupts) -> None:
    """Wait until the end is asked for."""
    while not interrupts.requested:
        time.sleep(LOOK)


def _take_down(sim: "Simulator") -> None:
    try:
        sim.stop()
    except Exception as error:
        raise CachesimError(
            f"not everything of the topology {sim.name!r} could be taken down: {error}. "
            "`cachesim gc`, or the next start of one, removes what is left as soon as the engine "
            "answers."
        ) from error
