"""Shows a topology in a terminal, live: `cachesim top`."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cachesim.cli.printing import print_json, time_left
from cachesim.daemon.signals import Interrupts
from cachesim.dashboard.figures import Figures
from cachesim.dashboard.looking import Look, Sample
from cachesim.dashboard.picture import Picture, State, is_up
from cachesim.errors import NotRunning
from cachesim.simulator.simulator import Simulator
from cachesim.topology import CLIENT

if TYPE_CHECKING:
    from cachesim.events import Event
    from cachesim.runs.calls import AlarmStatus

T = TypeVar("T")
_EVERY = 1.0  # seconds from one reading of the servers to the next
_PRINTED = 40  # lines, if it is printed once
_WORDS: Mapping[State, str] = {"open": "open", "slow": "SLOW", "partly": "PARTLY", "cut": "CUT"}
_STYLES: Mapping[State, str] = {"open": "dim", "slow": "yellow", "partly": "yellow", "cut": "red"}


def run(name: str | None, *, once: bool, as_json: bool) -> None:
    """Show it until an interrupt, or until the topology ends.

    Args:
        name: the topology's name; None: the only free one.
        once: print it once instead.
        as_json: print it once, as JSON.

    Raises:
        CachesimError: no topology is up.
    """
    console = Console(highlight=False, markup=False)
    with Interrupts("") as interrupts, Simulator.attach(name, lease=False) as sim:
        look = Look(sim)
        if as_json:
            print_json({"picture": look.see(), **look.measure(), "alarms": look.alarms()})
        elif once or not console.is_terminal or console.is_dumb_terminal:
            console.print(_view(sim, look, look.measure(), look.alarms(), _PRINTED))
        else:
            with (
                contextlib.suppress(NotRunning),  # it was taken down
                Live(console=console, screen=True, auto_refresh=False) as live,
            ):
                _follow(sim, look, live, interrupts)


def _follow(sim: Simulator, look: Look, live: Live, interrupts: Interrupts) -> None:
    due = 0.0
    while not interrupts.requested:
        if time.monotonic() >= due:
            due = time.monotonic() + _EVERY
            sample, alarms = look.measure(), look.alarms()
        mark = sim.events.mark()
        live.update(_view(sim, look, sample, alarms, live.console.height), refresh=True)
        sim.events.next(mark, max(0.0, due - time.monotonic()))


def _view(
    sim: Simulator, look: Look, sample: Sample, alarms: "Sequence[AlarmStatus]", height: int
) -> RenderableType:
    return view(look.see(), sample["nodes"], alarms, sim.events.since(0), height)


def view(
    now: Picture,
    seen: Mapping[str, Figures],
    alarms: "Sequence[AlarmStatus]",
    events: "Sequence[Event]",
    height: int,
) -> RenderableType:
    """Return what is shown.

    Args:
        seen: the figures of the nodes that answer.
        events: all of them; the latest fill what is left of the height.
    """
    parts: list[RenderableType] = [_header(now), Text(), _nodes(now, seen), Text(), _reach(now)]
    firing = [it for it in alarms if it["state"] == "ALARM"]
    # Beside the rows: the head, two more heads and the clients' row, two blank lines; and an event.
    left = height - len(now["nodes"]) - len(now["zones"]) - 6 - 2
    if now["faults"]:
        rows = max(1, left - 2 - min(len(firing), 2) - bool(firing))
        parts += [Text(), _faults(now, rows)]
        left -= 2 + min(rows, len(now["faults"]))
    if firing:
        rows = max(1, left - 1)
        told, more = _fitting(firing, rows)
        parts += [Text(), *map(_alarm, told), *([Text(f"{more} alarms")] if more else [])]
        left -= 1 + min(rows, len(firing))
    latest = events[-max(1, left + 1) :]
    return Group(
        *parts, Text(), *(Text(str(it), no_wrap=True, overflow="ellipsis") for it in latest)
    )


def _fitting(items: Sequence[T], rows: int) -> tuple[Sequence[T], str]:
    """Return the items that fit into some rows, and how many more there are; empty: none."""
    if len(items) <= rows:
        return items, ""
    return items[: rows - 1], f"and {len(items) - rows + 1} more"


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
    for column in ("memory", "cpu", "hits", "conns", "evict/s", "lag"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("faults", overflow="ellipsis", no_wrap=True)
    kinds = {it["id"]: it["name"] for it in now["faults"]}
    zone = ""
    for node in now["nodes"]:
        it = seen.get(node["name"])
        state = node["state"] if node["has_power"] else "no power"
        cells = ("",) * 6 if it is None else _cells(it)
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
        _percent(it["memory"]),
        _percent(it["cpu"]),
        _percent(it["hit_rate"]),
        f"{it['connections']:.0f}",
        "" if it["evictions"] is None else f"{it['evictions']:.0f}",
        "" if it["lag"] is None else size(it["lag"]),
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}%"


def _reach(now: Picture) -> Table:
    table = _table("reaches", *(f"az-{zone['name']}" for zone in now["zones"]))
    rows = [(CLIENT, now["clients"]), *((f"az-{it['name']}", it["reach"]) for it in now["zones"])]
    for source, reach in rows:
        table.add_row(source, *(Text(_WORDS[it], _STYLES[it]) for it in reach.values()))
    return table


def _faults(now: Picture, rows: int) -> Table:
    table = _table("id", "fault", "on", "healed in")
    told, more = _fitting(now["faults"], rows)
    for it in told:
        table.add_row(it["id"], it["kind"], it["target"], time_left(it["seconds"]))
    if more:
        table.add_row("", more)
    return table


def _alarm(it: "AlarmStatus") -> Text:
    value = "" if it["value"] is None else f" {it['value']:.4g}"
    where = f" on {it['node']}" if it["node"] else ""
    text = Text(no_wrap=True, overflow="ellipsis").append(f"ALARM  {it['name']}", "bold red")
    return text.append(f"  {it['metric']}{value}{where}, threshold {it['threshold']:g}")


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
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
