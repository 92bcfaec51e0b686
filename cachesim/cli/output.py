"""Output for people: progress of a start, tables, and how to connect."""

import contextlib
import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from cachesim.cli.printing import time_left
from cachesim.runs import env as run_env

if TYPE_CHECKING:
    from cachesim.backends.base import Progress
    from cachesim.settings import LoadedSettings
    from cachesim.simulator.handles import NodeHandle
    from cachesim.simulator.simulator import Simulator


@contextlib.contextmanager
def progress() -> "Iterator[Progress]":
    """Show the steps on stderr: in one line that changes on a terminal, else in a line each."""
    console = _console(sys.stderr)
    if console.is_terminal and not console.is_dumb_terminal:
        with console.status("") as status:
            yield lambda line: status.update(line)
    else:
        yield lambda line: print(line, file=sys.stderr, flush=True)


def show(sim: "Simulator", loaded: "LoadedSettings", *, briefly: bool) -> None:
    """Print what a user needs to know of a topology, without its secrets.

    Args:
        briefly: whether to leave out the addresses.
    """
    chosen = loaded.sources["backend"]
    if loaded.settings.backend == "auto":
        chosen = f"auto: {sim.backend_reason}"
    print(f"The topology {sim.name} is up.\n")
    print(f"backend  {sim.backend} ({chosen})")
    print(f"engine   {loaded.settings.engine}")
    print(f"speed    {loaded.settings.speed:g}")
    print(f"seed     {sim.seed}\n")
    if not briefly:
        env = sim.env()
        nodes = [
            (node.name, _role(node), f"az-{node.zone}", str(node.endpoint))
            for node in sim.nodes.values()
        ]
        show_table(("node", "role", "zone", "endpoint"), nodes)
        zones = [(str(z), env[run_env.toxiproxy(name)]) for name, z in sim.zones.items()]
        show_table(("zone", "Toxiproxy"), zones)
    show_way_in(sim.name)


def terminal() -> Console | None:
    """Return stdout if it is a terminal on which lines can be changed; else None."""
    console = _console(sys.stdout)
    return console if console.is_terminal and not console.is_dumb_terminal else None


def _role(node: "NodeHandle") -> str:
    return str(getattr(node, "role", ""))  # only Redis nodes have one


def show_status(state: Mapping[str, Any]) -> None:
    """Print the state of a topology, as its process answered."""
    if "unreachable" in state:
        print(f"{state['name']}: {state['unreachable']}\n")
        return
    plane = state["control_plane"]
    for what, who in (("owned", state["owned_by"]), ("leased", state["leased_by"])):
        plane += f", {what} by {who}" if who else ""
    folder = f" ({state['folder']})" if state["folder"] else ""
    print(
        f"{state['name']}: up for {state['uptime_seconds']:.0f} s in process {state['pid']}, "
        f"{plane}\n"
        f"backend {state['backend']}{folder}, engine {state['engine']}, speed {state['speed']:g}, "
        f"seed {state['seed']}\n"
    )
    show_table(
        ("node", "role", "zone", "state", "endpoint"),
        [
            (it["name"], it["role"] or "", f"az-{it['zone']}", it["state"], it["endpoint"])
            for it in state["nodes"]
        ],
    )
    if state["faults"]:
        show_faults(state["faults"])


def show_faults(faults: Iterable[Mapping[str, Any]]) -> None:
    """Print faults, as a topology's process answered."""
    show_table(
        ("id", "fault", "on", "healed in"),
        [(it["id"], it["kind"], it["target"], time_left(it["seconds"])) for it in faults],
    )


def show_way_in(name: str) -> None:
    """Print how clients connect."""
    print("To connect, from a shell and from Python:\n")
    print(f'    eval "$(cachesim env --name {name})"')
    print(f"    cachesim env --name {name} --python\n")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on stdout."""
    table = _table(columns)
    for row in rows:
        table.add_row(*row)
    _console(sys.stdout).print(table, "")


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # a cut address is useless
    return table


def as_text(value: object) -> str:
    """Return a setting's value as a user would write it."""
    match value:
        case None:
            return ""
        case [low, high]:
            return f"{low:g}-{high:g}"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _console(file: TextIO | None) -> Console:
    # Rich assumes 80 columns for anything but a terminal. A closed stream is None.
    width = None if file is not None and file.isatty() else 200
    return Console(file=file or io.StringIO(), width=width, highlight=False, markup=False)
