"""Runs a topology for as long as a process lives, and answers calls meanwhile."""

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
"""Seconds within which a request to end is noticed."""


def run(
    make: "Callable[[], Simulator]",
    progress: Callable[[], contextlib.AbstractContextManager[Progress]],
    then: "Callable[[Simulator, Interrupts], None]",
) -> int:
    """Start a topology, answer calls until it is to end, and take it down.

    Args:
        make: returns the topology. An interrupt may come while it is called.
        progress: shows the steps of the start.
        then: called when the topology is up; returns when it is to end.

    Returns:
        The exit code: 0, or 130 if an interrupt came before the topology was up.

    Raises:
        CachesimError: the topology did not start, and nothing is left behind; or it could not be
            taken down, and the message says what is left.
    """
    code = 0
    try:
        with Interrupts() as interrupts, contextlib.ExitStack() as life:
            with interrupts.breaking():
                # Imported here, where an interrupt may come.
                from cachesim.daemon.service import serving

                sim = make()
                life.callback(_take_down, sim)
                with progress() as show_step:
                    steps = itertools.count(1)

                    def step(line: str) -> None:
                        # The first step pulls the images, which may take minutes. The others
                        # create things; an interrupt there would leave unknown things behind.
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
    """Wait until the process is to end."""
    while not interrupts.requested:
        time.sleep(LOOK)


def _take_down(sim: "Simulator") -> None:
    try:
        sim.stop()
    except Exception as error:
        raise CachesimError(
            f"not everything of the topology {sim.name!r} could be taken down: {error}. "
            "`cachesim gc`, or the next start of a topology, removes what is left as soon as the "
            "Docker engine answers."
        ) from error
