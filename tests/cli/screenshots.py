"""Screenshots of the live view of `cachesim up`, with two faults and a failover.

`python -m tests.cli.screenshots DIR` writes one SVG for each width there.
"""

import sys
from io import StringIO
from pathlib import Path

from rich.console import Console

from cachesim import Simulator
from cachesim.cli.live import state, told
from cachesim.dashboard.looking import Look
from cachesim.faults.catalogue import Kill

WIDTHS = (60, 80, 140)
"""Columns of terminals."""
_LINES = 40  # of a terminal


def main(folder: Path) -> None:
    """Take them of a topology of emulated nodes."""
    with Simulator(name="demo", backend="embedded", speed=30, seed=7) as sim:
        break_(sim)
        take(sim, folder)


def break_(sim: Simulator) -> None:
    """Inject two faults, and wait until the failover is completed."""
    sim.faults.latency("client-to-*", ms=200)
    sim.faults.apply(Kill((sim.redis.primary.name,)), heal_after=90)
    sim.redis.wait_for_failover()


def take(sim: Simulator, folder: Path) -> list[Path]:
    """Write the events and the state of a topology, as a terminal of each width shows them."""
    now, events = Look(sim).see(), list(sim.events)
    files = []
    for width in WIDTHS:
        console = Console(
            record=True, width=width, height=_LINES, file=StringIO(), color_system="truecolor"
        )
        for event in events:
            console.print(*told(event, width), sep="\n")
        console.print(*state(now, width, _LINES), sep="\n")
        files.append(folder / f"live-view-{width}.svg")
        files[-1].write_text(console.export_svg(title="cachesim up"), encoding="utf-8")
    return files


if __name__ == "__main__":
    main(Path(sys.argv[1]))
