"""The live view of `cachesim up`: events scroll by, and below them is the present state."""

import dataclasses
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from cachesim.cli.printing import time_left
from cachesim.control_plane.states import State
from cachesim.dashboard.looking import Look
from cachesim.dashboard.picture import FaultPicture, NodePicture, Picture, is_up

if TYPE_CHECKING:
    from cachesim.events import Event
    from cachesim.simulator.simulator import Simulator

_REFRESH = 0.25  # seconds: nodes also change without an event, and the time of faults runs
_INDENT = 14  # where an event's kind begins
_GOOD, _BAD, _BROKEN = "green", "bold red", "yellow"
_STYLES = {
    "available": _GOOD,
    "recovered": _GOOD,
    "heal": _GOOD,
    "fault": _BROKEN,
    "recovering": _BROKEN,
    "detecting": _BAD,
    "promoting": _BAD,
    "failover": _BAD,
    "power-cut": _BAD,
    "error": _BAD,
}
"""The colours of events, by kind."""


def watch(sim: "Simulator", console: Console, is_over: Callable[[], bool]) -> None:
    """Show a topology on a terminal until it is over. All events stay in its scrollback."""
    look = Look(sim)

    def region() -> Group:
        return Group(*state(look.see(), console.width, console.height))

    with Live(region(), console=console, auto_refresh=False) as live:
        seen = 0
        while not is_over():
            events = sim.events.next(seen, _REFRESH)
            seen += len(events)
            live.update(region())
            if events:  # with the region, in one go
                console.print(
                    *(line for it in events for line in told(it, console.width)), sep="\n"
                )
            else:
                live.refresh()


def told(event: "Event", width: int) -> Iterator[Text]:
    """Yield the lines of an event. They break between words only."""
    lines = [str(event)]
    if len(lines[0]) > width and event.message:
        head = str(dataclasses.replace(event, message=""))
        lines = [*_wrapped(head, width), *_wrapped(" " * _INDENT + event.message, width)]
    for line in lines:
        yield Text(line, _STYLES.get(event.kind, ""))


def state(now: Picture, width: int, height: int) -> Iterator[Text]:
    """Yield the lines of the present state.

    Args:
        width: the terminal's, in columns.
        height: the terminal's, in lines. If the faults need more, they are told more briefly.
    """
    away = [it for it in now["nodes"] if not is_up(it)]
    yield Text()
    yield _heading(now, len(away))
    yield from _nodes(now["nodes"], width)
    yield from _faults(now["faults"], width, height - len(now["nodes"]) - 5)
    yield Text()  # the line of the cursor, where the terminal shows ^C


def _heading(now: Picture, away: int) -> Text:
    is_well = now["shard"] == State.AVAILABLE
    text = Text().append(f"shard {now['shard']}", _GOOD if is_well else _BAD)
    if away:
        text.append(", ").append(f"{away} of {len(now['nodes'])} nodes NOT RUNNING", _BAD)
    if number := len(now["faults"]):
        text.append(", ").append(f"{number} fault{'s' if number > 1 else ''}", _BROKEN)
    return text


def _nodes(nodes: Sequence[NodePicture], width: int) -> Iterator[Text]:
    rows = [("node", "role", "zone", "state", "endpoint")]
    rows += [
        (it["name"], it["role"] or "", f"az-{it['zone']}", _word(it), it["endpoint"])
        for it in nodes
    ]
    widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    if sum(widths) - 2 > width:  # names tell the zone
        widths[2] = 0
    for number, row in enumerate(rows):
        text = Text(style="" if number else "dim")
        for column, (cell, size) in enumerate(zip(row, widths, strict=True)):
            if size:
                is_bad = number and column == 3 and not is_up(nodes[number - 1])
                style = _BAD if is_bad else "bold" if cell == "primary" else ""
                text.append(cell, style).append(" " * (size - len(cell)))
        text.rstrip()
        yield text


def _word(node: NodePicture) -> str:
    if is_up(node):
        return node["state"]
    return node["state"].upper() if node["has_power"] else "NO POWER"


def _faults(faults: Sequence[FaultPicture], width: int, height: int) -> Iterator[Text]:
    if not faults:
        return
    yield Text("id  fault", "dim")
    for number, it in enumerate(faults):
        left = "" if it["seconds"] is None else f", healed in {time_left(it['seconds'])}"
        lines = _wrapped(f"{it['id']:<3} {it['kind']} on {it['target']}{left}", width, 4)
        height -= len(lines)
        others = len(faults) - number
        if height < (others > 1):  # a line is left for those that have no room
            yield Text(f"and {others} more: cachesim fault list", _BROKEN)
            return
        for line in lines:
            yield Text(line, _BROKEN)


def _wrapped(line: str, width: int, indent: int = _INDENT) -> list[str]:
    return textwrap.wrap(
        line, max(width, 2 * indent), subsequent_indent=" " * indent, break_on_hyphens=False
    )
