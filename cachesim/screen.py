"""What a person sees of a topology: progress while it starts, then where everything is."""

import contextlib
import sys
from collections.abc import Iterator
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from cachesim.backends.base import Progress
from cachesim.config import LoadedSettings
from cachesim.handles import RedisHandle
from cachesim.simulator import Simulator

_SNIPPET = """\
from pathlib import Path

from redis.cluster import RedisCluster

cache = RedisCluster(
    host={host!r},
    port={port},
    password=Path({token!r}).read_text(),
    ssl=True,
    ssl_ca_certs={ca!r},
    decode_responses=True,
)
"""


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Show the steps on stderr: one line that changes, or a line each where that can't be."""
    console = _console(sys.stderr)
    if console.is_terminal and not console.is_dumb_terminal:
        with console.status("") as status:
            yield lambda line: status.update(line)
    else:
        yield lambda line: print(line, file=sys.stderr, flush=True)


def show(sim: Simulator, loaded: LoadedSettings) -> None:
    """Give all that a person needs to use a topology, on stdout, without its secrets."""
    env = sim.env()
    chosen = loaded.sources["backend"]
    if loaded.settings.backend == "auto":
        chosen = "auto: a container engine answers"
    print(f"The topology {sim.name} is up.\n")
    print(f"backend  {env['CACHESIM_BACKEND']} ({chosen})")
    print(f"engine   {loaded.settings.engine}")
    print(f"speed    {loaded.settings.speed:g}")
    print(f"seed     {sim.seed}\n")

    console = _console(sys.stdout)
    nodes = _table("node", "role", "zone", "endpoint")
    for node in sim.nodes.values():
        role = node.role if isinstance(node, RedisHandle) else ""
        nodes.add_row(node.name, role, str(sim.zones[node.zone]), str(node.endpoint))
    console.print(nodes, "")
    proxies = _table("zone", "Toxiproxy")
    for name, zone in sim.zones.items():
        proxies.add_row(str(zone), env[f"CACHESIM_TOXIPROXY_{name.upper()}"])
    console.print(proxies, "")

    print("From Python:\n")
    print(
        _SNIPPET.format(
            host=env["CACHESIM_REDIS_HOST"],
            port=env["CACHESIM_REDIS_PORT"],
            token=env["CACHESIM_REDIS_PASSWORD_FILE"],
            ca=env["CACHESIM_CA_FILE"],
        )
    )
    print(f'From a shell:\n\neval "$(cachesim env --name {sim.name})"\n')


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")  # an address is whole, or of no use
    return table


def _console(file: TextIO) -> Console:
    # Rich takes anything but a terminal to be 80 wide.
    return Console(file=file, width=None if file.isatty() else 200, highlight=False, markup=False)
