"""The command line: click commands without logic.

What a command needs is imported when it runs, so that `--help` is there at once. Exit codes: 0 it
is done; 1 it could not be done, the message says why; 2 it was not understood; 3 nothing is up
(`status`), or something is not as it should be (`doctor`); 130 it was interrupted.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from cachesim.daemon.signals import INTERRUPTED

_NOT_WELL = 3


class _Group(click.Group):
    """Tells errors in a line, and ends on an interrupt as shells expect it."""

    def invoke(self, ctx: click.Context) -> object:
        from cachesim.errors import CachesimError

        try:
            return super().invoke(ctx)
        except CachesimError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


class _Duration(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3
    """`10s`, `500ms`, `2m`, `1h`; in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", str(value))
        if match is None:
            self.fail(f"{value!r} should be a number with ms, s, m or h, such as 10s", param, ctx)
        number, unit = match.groups()
        seconds = float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit or "s"]
        if seconds == 0:
            self.fail(f"{value!r} should be above 0", param, ctx)
        return seconds


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("cachesim")
    except PackageNotFoundError:
        number = "(not installed)"
    click.echo(f"cachesim {number}")
    ctx.exit()


def _suggest(words: Callable[[], Iterable[str]]) -> Callable[..., list[str]]:
    """What a shell offers for a word that is begun."""
    return lambda _context, _parameter, begun: [it for it in words() if it.startswith(begun)]


def _parts(which: str) -> Callable[..., list[str]]:
    """The names of nodes, zones or links: every topology has the same."""

    def names() -> list[str]:
        from cachesim.topology import production

        return [part.name for part in getattr(production(), which)]

    return _suggest(names)


def _running() -> list[str]:
    from cachesim.runs.files import living_runs

    return [run.name for run in living_runs()]


_name = click.option(
    "--name",
    shell_complete=_suggest(_running),
    help="The topology's name. Needed only if several are up.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_for = click.option(
    "--for", "seconds", type=_Duration(), metavar="DURATION", help="Heal it after this: 10s, 2m."
)


_engine = click.option(
    "--engine", type=click.Choice(["redis", "valkey"]), help="What the Redis nodes run."
)
_speed = click.option(
    "--speed", type=float, help="How much faster than production time it runs.  [default: 1]"
)
_seed = click.option("--seed", type=int, help="Seed of every draw.  [default: drawn]")
_advertise_host = click.option(
    "--advertise-host", metavar="HOST", help="Told to containers outside the zones."
)
_folder = click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that are settings."""
    # The choices are those of cachesim.config, which takes too long to import for `--help`.
    options = (
        click.option("--name", help="The topology's name.  [default: drawn]"),
        click.option(
            "--backend", type=click.Choice(["auto", "docker", "embedded"]), help="What carries it."
        ),
        _engine,
        _speed,
        _seed,
        _advertise_host,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Your production Redis and Memcached topology here, to be broken on purpose."""


# --- a topology's life ----------------------------------------------------------------------


@main.command()
@_settings
@click.option("-d", "--detach", is_flag=True, help="Let it outlive this command; see `down`.")
@click.option("--json", "as_json", is_flag=True, help="With -d: print JSON, for programs.")
@click.pass_context
def up(ctx: click.Context, /, detach: bool, as_json: bool, **arguments: object) -> None:
    """Run a topology, until Ctrl-C or detached.

    Shows where it is and prints its events. What is not given here comes from the variables
    CACHESIM_*, or from cachesim.toml or [tool.cachesim] in pyproject.toml.
    """
    if as_json and not detach:
        raise click.UsageError("--json goes with -d: without it, `up` ends with the topology.")
    if detach:
        from cachesim.cli import commands

        commands.up(arguments, as_json=as_json)
    else:
        from cachesim.cli.foreground import run

        ctx.exit(run(arguments))


@main.command()
@_name
@_json
def down(name: str | None, as_json: bool) -> None:
    """Take a topology down that `cachesim up` runs, or detach one.

    Detached, it is healed, and its containers go on: they are docker compose's.
    """
    from cachesim.cli import commands

    commands.down(name, as_json=as_json)


@main.command()
@_folder
@click.option("--name", help="The topology's name, and the project's.  [default: DIR's]")
@_engine
@_advertise_host
@click.option(
    "--base-port", type=int, metavar="PORT", help="The first of thirty ports.  [default: 17000]"
)
@_json
def compose(folder: Path, base_port: int | None, as_json: bool, **arguments: object) -> None:
    """Write the topology to DIR, as files for `docker compose`.

    DIR is new, empty, or one that this has written before: then it keeps its secrets, and what is
    not given here, in variables CACHESIM_* or in a file.
    """
    from cachesim.cli import commands

    commands.compose(folder, arguments, base_port, as_json=as_json)


@main.command()
@_folder
@_speed
@_seed
@_json
def attach(folder: Path, as_json: bool, **arguments: object) -> None:
    """Attach to a topology that `docker compose` runs: `down` ends that.

    DIR is what `cachesim compose` has written. A process is started that heals the topology, is its
    control plane, and carries out the other commands on it.
    """
    from cachesim.cli import commands

    commands.up(arguments, folder, as_json=as_json)


@main.command()
@_name
@_json
@click.pass_context
def status(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Show what is up: nodes, roles, faults, and what has died."""
    from cachesim.cli import commands

    ctx.exit(0 if commands.status(name, as_json=as_json) else _NOT_WELL)


@main.command()
@_json
def gc(as_json: bool) -> None:
    """Remove what topologies have left whose process was killed, and nothing else."""
    from cachesim.cli import commands

    commands.gc(as_json=as_json)


# --- looking --------------------------------------------------------------------------------


@main.command()
@_name
@click.option(
    "--format",
    "style",
    type=click.Choice(["shell", "dotenv", "json"]),
    default="shell",
    show_default=True,
    help="How they are written.",
)
@click.option("--json", "style", flag_value="json", help="As --format json.")
@click.option("--show-secrets", is_flag=True, help="Print the password too, and the URL with it.")
def env(name: str | None, style: str, show_secrets: bool) -> None:
    """Print the variables that a service needs.

    They are of a topology that runs on this machine: eval "$(cachesim env)"
    """
    from cachesim.runs import env as run_env

    click.echo(run_env.render(run_env.of_running(name, secrets=show_secrets), style))


@main.command()
@click.argument("node", shell_complete=_parts("nodes"))
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(1), default=50, show_default=True, help="How many."
)
@_name
@_json
def logs(node: str, follow: bool, lines: int, name: str | None, as_json: bool) -> None:
    """Print the tail of a node's log."""
    from cachesim.cli import commands

    commands.logs(name, node, lines, follow=follow, as_json=as_json)


@main.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@_name
@_json
def events(follow: bool, name: str | None, as_json: bool) -> None:
    """Print what was done and what happened, since the start.

    With --json, an event a line.
    """
    from cachesim.cli import commands

    commands.events(name, follow=follow, as_json=as_json)


@main.command()
@_settings
@_json
def config(as_json: bool, **arguments: object) -> None:
    """Show each setting, its value and where it came from."""
    from cachesim.cli import commands

    commands.config(arguments, as_json=as_json)


@main.command()
@_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check what a topology needs here: what is wrong, and what to do."""
    from cachesim.cli import commands

    ctx.exit(0 if commands.doctor(as_json=as_json) else _NOT_WELL)


@main.command(context_settings={"allow_interspersed_args": False})
@click.argument("node", shell_complete=_parts("nodes"))
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@_name
@click.pass_context
def shell(ctx: click.Context, node: str, command: tuple[str, ...], name: str | None) -> None:
    """Talk to a node through its client link, or send it one COMMAND.

    A Redis node is spoken to with redis-cli, or valkey-cli, where there is one. Options go before
    NODE.
    """
    from cachesim.cli import prompt

    ctx.exit(prompt.run(name, node, command))


# --- breaking -------------------------------------------------------------------------------


@main.group()
def fault() -> None:
    """Begin a fault. It stays until `cachesim heal`, or as long as --for says.

    Links are named as in `cachesim fault list --links`, and may be patterns: 'client-to-*'.
    """


def _begin(kind: str, name: str | None, as_json: bool, seconds: float | None, **what: Any) -> None:
    from cachesim.cli import commands

    commands.fault(name, kind, what, seconds, as_json=as_json)


def _fault(name: str, summary: str) -> Callable[[Callable[..., Any]], click.Command]:
    def decorate(function: Callable[..., Any]) -> click.Command:
        for option in (_json, _name, _for):
            function = option(function)
        return fault.command(name, help=summary)(function)

    return decorate


_links = click.argument(
    "links", nargs=-1, required=True, metavar="LINK...", shell_complete=_parts("links")
)
_nodes = click.argument(
    "positions", nargs=-1, required=True, metavar="NODE...", shell_complete=_parts("nodes")
)


@_fault("latency", "Add milliseconds to the round trip.")
@_links
@click.option("--ms", type=click.IntRange(0), required=True, help="How many.")
@click.option("--jitter", type=click.IntRange(0), default=0, help="More or less, milliseconds.")
def _latency(**options: Any) -> None:
    _begin("latency", **options)


@_fault("bandwidth", "Limit both streams.")
@_links
@click.option("--kb-s", type=click.IntRange(1), required=True, help="Kilobytes a second.")
def _bandwidth(**options: Any) -> None:
    _begin("bandwidth", **options)


@_fault("blackhole", "Let packets vanish: connections hang, nothing is refused or closed.")
@_links
def _blackhole(**options: Any) -> None:
    _begin("blackhole", **options)


@_fault("refuse", "Close established connections and refuse new ones.")
@_links
def _refuse(**options: Any) -> None:
    _begin("refuse", **options)


@_fault("reset", "Reset every connection when the client next sends.")
@_links
def _reset(**options: Any) -> None:
    _begin("reset", **options)


@_fault("replication-lag", "Let replicas receive everything later, by SECONDS.")
@click.argument("lag", type=_Duration(), metavar="SECONDS")
@click.option(
    "--replica",
    "replicas",
    multiple=True,
    metavar="NODE",
    shell_complete=_parts("nodes"),
    help="Only this one's.",
)
def _replication_lag(lag: float, replicas: tuple[str, ...], **options: Any) -> None:
    seconds = options.pop("seconds")
    options |= {"replicas": list(replicas)} if replicas else {}
    _begin("replication_lag", seconds=seconds, positions=[lag], **options)


@_fault("partition", "Cut two zones off from each other.")
@click.argument("one", metavar="ZONE", shell_complete=_parts("zones"))
@click.argument("other", metavar="ZONE", shell_complete=_parts("zones"))
@click.option("--one-way", is_flag=True, help="Only what goes from the first to the second.")
def _partition(one: str, other: str, **options: Any) -> None:
    _begin("partition", positions=[one, other], **options)


@_fault("isolate", "Cut a zone off from the others and from clients.")
@click.argument("zone", shell_complete=_parts("zones"))
def _isolate(zone: str, **options: Any) -> None:
    _begin("isolate", positions=[zone], **options)


@_fault("az-power", "Cut the power of a zone, until it is healed.")
@click.argument("zone", shell_complete=_parts("zones"))
def _az_power(zone: str, **options: Any) -> None:
    _begin("az_power", positions=[zone], **options)


@_fault("kill", "SIGKILL nodes; healing starts them.")
@_nodes
def _kill(**options: Any) -> None:
    _begin("kill", **options)


@_fault("stop", "End nodes in order; healing starts them.")
@_nodes
def _stop(**options: Any) -> None:
    _begin("stop", **options)


@_fault("pause", "SIGSTOP nodes; healing resumes them.")
@_nodes
def _pause(**options: Any) -> None:
    _begin("pause", **options)


@fault.command("list")
@click.option("--links", is_flag=True, help="The links that there are, instead.")
@_name
@_json
def _list(links: bool, name: str | None, as_json: bool) -> None:
    """Show the faults that are there."""
    from cachesim.cli import commands

    commands.faults(name, links=links, as_json=as_json)


@main.command()
@click.argument("fault_id", metavar="[ID]", required=False)
@_name
@_json
def heal(fault_id: str | None, name: str | None, as_json: bool) -> None:
    """Heal one fault, or all, and what was done to the proxies by hand."""
    from cachesim.cli import commands

    commands.heal(name, fault_id, as_json=as_json)


@main.command()
@_name
@_json
def reset(name: str | None, as_json: bool) -> None:
    """Make it as new: healed, all nodes up, the first primary, empty."""
    from cachesim.cli import commands

    commands.reset(name, as_json=as_json)


def _verb(verb: str, summary: str) -> None:
    @main.command(verb, help=summary)
    @click.argument("node", shell_complete=_parts("nodes"))
    @_name
    @_json
    def _(node: str, name: str | None, as_json: bool) -> None:
        from cachesim.cli import commands

        commands.node(name, verb, node, as_json=as_json)


_verb("kill", "SIGKILL a node. `restart`, or `heal`, starts it again.")
_verb("stop", "End a node in order. `restart`, or `heal`, starts it again.")
_verb("pause", "SIGSTOP a node: it answers nothing until `resume`, or `heal`.")
_verb("resume", "Let a paused node go on.")
_verb("restart", "Give a node a new process, whatever state it is in.")


@main.command()
@click.option(
    "--to",
    metavar="ZONE",
    shell_complete=_parts("zones"),
    help="Whose replica is promoted.  [default: least lag]",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until it is completed.")
@_name
@_json
def failover(to: str | None, wait: bool, name: str | None, as_json: bool) -> None:
    """Promote a replica, as ElastiCache's TestFailover does."""
    from cachesim.cli import commands

    commands.failover(name, to, wait=wait, as_json=as_json)
