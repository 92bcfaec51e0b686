"""Shows a topology in a terminal, live: `cachesim top`."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cachesim.cli.printing import time_left
from cachesim.daemon.signals import Interrupts
from cachesim.dashboard.figures import Figures, figures
from cachesim.dashboard.picture import Picture, State, is_up, picture
from cachesim.errors import NotRunning
from cachesim.simulator.simulator import Simulator
from cachesim.topology import CLIENT

if TYPE_CHECKING:
    from cachesim.events import Event
    from cachesim.runs.calls import Readings

_EVERY = 1.0  # seconds from one reading of the servers to the next
_PRINTED = 40  # lines, if it is printed once
_WORDS: Mapping[State, str] = {"open": "open", "slow": "SLOW", "partly": "PARTLY", "cut": "CUT"}
_STYLES: Mapping[State, str] = {"open": "dim", "slow": "yellow", "partly": "yellow", "cut": "red"}


def run(name: str | None, *, once: bool) -> None:
    """Show it until an interrupt, or until the topology ends.

    Args:
        name: the topology's name; None: the only free one.
        once: print it once instead.

    Raises:
        CachesimError: no topology is up.
    """
    console = Console(highlight=False, markup=False)
    with Interrupts("") as interrupts, Simulator.attach(name, lease=False) as sim:
        look = _Look(sim)
        if once or not console.is_terminal or console.is_dumb_terminal:
            console.print(look.view(_PRINTED))
            return
        try:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                while not interrupts.requested:
                    live.update(look.view(console.height), refresh=True)
                    look.wait(_EVERY)
        except NotRunning as error:
            print(error, file=sys.stderr)


class _Look:
    """What is shown of a topology, and what has to be known of the time before."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._before: Readings | None = None
        self._figures: Mapping[str, Figures] = {}
        self._due = 0.0

    def wait(self, seconds: float) -> None:
        """Return when something has happened, or after that many seconds."""
        self._sim.events.next(self._sim.events.mark(), seconds)

    def view(self, height: int) -> RenderableType:
        """Return the present state, for a terminal of so many lines."""
        now = picture(self._sim.topology, self._sim.servers.status())
        if time.monotonic() >= self._due:
            readings = self._sim.servers.readings()
            self._figures = figures(readings, self._before, now["primary"])
            self._before, self._due = readings, time.monotonic() + _EVERY
        return view(now, self._figures, self._sim.events.since(0), height)


def view(
    now: Picture,
    seen: Mapping[str, Figures],
    events: "Sequence[Event]",
    height: int,
) -> RenderableType:
    """Return what is shown.

    Args:
        seen: the figures of the nodes that answer.
        events: all of them; the latest fill what is left of the height.
    """
    parts: list[RenderableType] = [_header(now), Text(), _nodes(now, seen), Text(), _reach(now)]
    lines = 2 + (len(now["nodes"]) + 2) + 1 + (len(now["zones"]) + 3)
    if now["faults"]:
        parts += [Text(), _faults(now)]
        lines += len(now["faults"]) + 3
    left = max(1, height - lines - 1)
    latest = [Text(str(it), no_wrap=True, overflow="ellipsis") for it in events[-left:]]
    return Group(*parts, Text(), *latest)


def _header(now: Picture) -> Text:
    leased = f", leased by {now['leased_by']}" if now["leased_by"] else ""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(now["name"], "bold")
    text.append("  ")
    text.append(now["shard"], "bold green" if now["shard"] == "available" else "bold red")
    return text.append(
        f"  {now['engine']}, {now['backend']}, speed {now['speed']:g}, seed {now['seed']}{leased}"
    )


def _nodes(now: Picture, seen: Mapping[str, Figures]) -> Table:
    table = _table("zone", "node", "role", "state")
    for column in ("memory", "conns", "keys", "evict/s", "lag"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("faults", overflow="ellipsis", no_wrap=True)
    kinds = {it["id"]: it["name"] for it in now["faults"]}
    zone = ""
    for node in now["nodes"]:
        it = seen.get(node["name"])
        state = node["state"] if node["has_power"] else "no power"
        cells = ("", "", "", "", "") if it is None else _cells(it)
        table.add_row(
            "" if zone == node["zone"] else f"az-{node['zone']}",
            node["name"],
            Text(node["role"] or "", "bold" if node["role"] == "primary" else ""),
            Text(state, "" if is_up(node) else "red"),
            *cells,
            ", ".join(kinds[key] for key in node["faults"]),
        )
        zone = node["zone"]
    return table


def _cells(it: Figures) -> tuple[str, ...]:
    return (
        "" if it["memory"] is None else f"{it['memory']:.1f} %",
        f"{it['connections']:.0f}",
        f"{it['keys']:.0f}",
        "" if it["evictions"] is None else f"{it['evictions']:.0f}",
        "" if it["lag"] is None else size(it["lag"]),
    )


def _reach(now: Picture) -> Table:
    table = _table("reaches", *(f"az-{zone['name']}" for zone in now["zones"]))
    rows = [(CLIENT, now["clients"]), *((f"az-{it['name']}", it["reach"]) for it in now["zones"])]
    for source, reach in rows:
        table.add_row(source, *(Text(_WORDS[it], _STYLES[it]) for it in reach.values()))
    return table


def _faults(now: Picture) -> Table:
    table = _table("id", "fault", "on", "healed in")
    for it in now["faults"]:
        table.add_row(it["id"], it["kind"], it["target"], time_left(it["seconds"]))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    return table


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
