"""The types and options that several commands have, and the words that a shell completes."""

import contextlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cachesim.topology import Link, Node, Topology, Zone


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3
    """`10s`, `500ms`, `2m`, `1h`, `1m30s`, or a number of seconds; in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        from cachesim.scenarios.units import seconds

        text = str(value)
        try:
            found = seconds(f"{text}s" if re.fullmatch(r"\d+(\.\d+)?", text) else text)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if found == 0:
            self.fail(f"{text!r} should be above 0", param, ctx)
        return found


class Numeral(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3
    """A number, or whatever was given: what it is for refuses it, with the words that Python has.

    Args:
        name: of what is wanted, for help texts.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(
        self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None
    ) -> Any:
        """Return the number."""
        for number in (int, float):
            with contextlib.suppress(ValueError):
                return number(value)
        return value


Completion = Callable[..., list[str]]
"""Returns the words that begin with the given text. click calls it."""


def complete(words: Callable[[], Iterable[str]]) -> Completion:
    """Complete words of a list, which is made when a shell asks for it."""
    return lambda _context, _parameter, begun: [it for it in words() if it.startswith(begun)]


def complete_parts(
    parts: "Callable[[Topology], Iterable[Link | Node | Zone]]",
) -> Completion:
    """Complete the names of links, nodes or zones. Every topology has the same."""

    def names() -> list[str]:
        from cachesim.topology import production

        return [part.name for part in parts(production())]

    return complete(names)


def _running() -> list[str]:
    from cachesim.runs.registry import living_runs

    return [run.name for run in living_runs()]


running = complete(_running)


def active_faults(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Complete the ids of active faults; none where it is not clear of which topology."""
    from cachesim.errors import CachesimError
    from cachesim.runs.calls import Call
    from cachesim.runs.registry import find_run
    from cachesim.runs.rpc import call

    try:
        found = call(find_run(context.params.get("name")), Call.FAULTS)
    except CachesimError:
        return []
    return [it["id"] for it in found if it["id"].startswith(begun)]


durations = complete(lambda: ("500ms", "5s", "30s", "1m", "1m30s", "1h"))
name = click.option(
    "--name",
    shell_complete=running,
    help="The topology's name. Needed unless `up` runs exactly one that is not leased.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
heal_after = click.option(
    "--for",
    "heal_after",
    type=Duration(),
    shell_complete=durations,
    metavar="DURATION",
    help="Heal it after this time, such as 10s or 2m.",
)
over = click.option(
    "--over",
    type=Duration(),
    shell_complete=durations,
    metavar="DURATION",
    help="Let it grow evenly from nothing, in this time.",
)
flap = click.option(
    "--flap",
    type=(Duration(), Duration()),
    shell_complete=durations,
    metavar="ON OFF",
    help="Let it come and go: how long it is there, and how long it is away.",
)
nodes = complete_parts(lambda topology: topology.nodes)
node = click.argument("node", shell_complete=nodes)
folder = click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))

engine = click.option(
    "--engine", type=click.Choice(["redis", "valkey"]), help="The server of the Redis nodes."
)
speed = click.option(
    "--speed",
    type=Numeral("float"),
    shell_complete=complete(lambda: ("1", "10", "30", "100")),
    help="How many times faster than in production failovers are.  [default: 1]",
)
seed = click.option("--seed", type=int, help="The seed of all random draws.  [default: random]")
ports = click.option(
    "--ports",
    metavar="PORT|NAME=PORT,...",
    help="Fixed ports: the first of thirty, or ports by name.  [default: free ones]",
)
advertise_host = click.option(
    "--advertise-host",
    metavar="HOST",
    help="The host name that containers outside the zones connect to.",
)


# The choices are those of cachesim.settings, which takes too long to import for `--help`.
backend = click.option(
    "--backend",
    type=click.Choice(["auto", "docker", "embedded"]),
    help="The backend that runs it.",
)


def settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that are settings to a command."""
    new_name = click.option("--name", help="The topology's name.  [default: random]")
    return _with(command, new_name, backend, engine, speed, seed, ports, advertise_host)


def run_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the topology of a run to a command."""
    attached = click.option(
        "--name", shell_complete=running, help="Use this topology, which is up."
    )
    return _with(command, attached, backend, engine, speed, seed)


def _with(command: Callable[..., Any], *options: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command
