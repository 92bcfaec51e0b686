"""The command line: click commands without logic.

Each command imports what it needs when it runs, so that `--help` is quick. Exit codes: 0 success;
1 failure, and the message says why, or a verdict that fails (`run`, `report`); 2 a mistake in the
command line or in a scenario file; 3 nothing is up (`status`), a check failed (`doctor`), or a
verdict is unknown (`run`, `report`); 130 interrupted.
"""

from pathlib import Path

import click

from cachesim.cli import options
from cachesim.cli.groups import FaultGroup, Group
from cachesim.cli.monitoring_commands import alarms, metrics
from cachesim.cli.replace_commands import replace, rolling_replacement, scale
from cachesim.cli.report_commands import compare, report
from cachesim.cli.run_commands import command as run
from cachesim.cli.scenario_commands import scenario
from cachesim.cli.zone_commands import exec_

_NOT_WELL = 3


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


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Run a production Redis and Memcached topology on this machine, and break it on purpose."""


# --- a topology's life ----------------------------------------------------------------------


@main.command(epilog="Example: cachesim up -d --name demo --speed 30")
@options.settings
@click.option(
    "-d",
    "--detach",
    is_flag=True,
    help="Keep the topology running after this command, until `down`.",
)
@click.option("--json", "as_json", is_flag=True, help="With -d: print JSON, for programs.")
@click.option("--dashboard", is_flag=True, help="Serve the web page, as `cachesim dashboard` does.")
@click.pass_context
def up(
    ctx: click.Context, /, detach: bool, as_json: bool, dashboard: bool, **arguments: object
) -> None:
    """Start a topology, and run it until Ctrl-C, or detached.

    Prints its addresses and its events. Settings that are not given here come from the variables
    CACHESIM_*, or from cachesim.toml or [tool.cachesim] in pyproject.toml.
    """
    if as_json and not detach:
        raise click.UsageError("--json needs -d: without it, `up` runs as long as the topology.")
    if dashboard and detach:
        raise click.UsageError("--dashboard ends with `up`: leave -d out, or run `dashboard`.")
    if detach:
        from cachesim.cli import life

        ctx.exit(life.up(arguments, as_json=as_json))
    else:
        from cachesim.cli.foreground import run

        ctx.exit(run(arguments, dashboard=dashboard))


@main.command(epilog="Example: cachesim down --name demo")
@click.option("--force", is_flag=True, help="Do so even while a test run has leased it.")
@options.name
@options.as_json
def down(force: bool, name: str | None, as_json: bool) -> None:
    """Take a topology down, or detach from one that `docker compose` runs.

    Detaching heals the topology. Its containers keep running.
    """
    from cachesim.cli import life

    life.down(name, force=force, as_json=as_json)


@main.command(epilog="Example: cachesim compose cache --base-port 17000")
@options.folder
@click.option("--name", help="The topology's name, and the project's.  [default: DIR's]")
@options.engine
@options.advertise_host
@click.option(
    "--base-port", type=int, metavar="PORT", help="The first of thirty ports.  [default: 17000]"
)
@options.as_json
def compose(folder: Path, base_port: int | None, as_json: bool, **arguments: object) -> None:
    """Write the topology to DIR, as files for `docker compose`.

    DIR is new, empty, or was written by this command before. A DIR that was written before keeps
    its secrets, and the settings that options, variables CACHESIM_* and files do not give.
    """
    from cachesim.cli import life

    life.compose(folder, arguments, base_port, as_json=as_json)


@main.command(epilog="Example: cachesim attach cache --speed 30")
@options.folder
@options.speed
@options.seed
@options.as_json
@click.pass_context
def attach(ctx: click.Context, /, folder: Path, as_json: bool, **arguments: object) -> None:
    """Attach to a topology that `docker compose` runs, until `down`.

    DIR was written by `cachesim compose`. This starts a process that heals the topology, is its
    control plane, and executes the other commands.
    """
    from cachesim.cli import life

    ctx.exit(life.up(arguments, folder, as_json=as_json))


@main.command(epilog="Example: cachesim status --json")
@click.option("--name", shell_complete=options.running, help="Show this one alone.  [default: all]")
@options.as_json
@click.pass_context
def status(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Show the topologies that are up, with nodes, roles and faults, and those that died."""
    from cachesim.cli import life

    ctx.exit(0 if life.status(name, as_json=as_json) else _NOT_WELL)


@main.command(epilog="Example: cachesim gc")
@options.as_json
def gc(as_json: bool) -> None:
    """Remove containers and files of topologies whose process was killed, and nothing else."""
    from cachesim.cli import life

    life.gc(as_json=as_json)


# --- looking --------------------------------------------------------------------------------


@main.command(epilog='Example: eval "$(cachesim env)"')
@options.name
@click.option(
    "--format",
    "style",
    type=click.Choice(["shell", "dotenv", "json", "python"]),
    default="shell",
    show_default=True,
    help="The format.",
)
@click.option("--json", "style", flag_value="json", help="The same as --format json.")
@click.option(
    "--python", "style", flag_value="python", help="The code that connects, as --format python."
)
@click.option("--show-secrets", is_flag=True, help="Print the password, and the URL with it.")
def env(name: str | None, style: str, show_secrets: bool) -> None:
    """Print the variables that a service needs, or the Python code that connects.

    To set them in a shell: eval "$(cachesim env)"
    """
    from cachesim.runs.env import render
    from cachesim.runs.registry import find_run

    click.echo(render(find_run(name).env(secrets=show_secrets) or {}, style))


@main.command(epilog="Example: cachesim logs redis-a -f")
@options.node
@click.option("-f", "--follow", is_flag=True, help="Print new lines too, until Ctrl-C.")
@click.option(
    "-n",
    "--lines",
    type=options.Numeral("integer"),
    default=50,
    show_default=True,
    help="The number of lines.",
)
@options.name
@options.as_json
def logs(node: str, follow: bool, lines: int, name: str | None, as_json: bool) -> None:
    """Print the tail of a node's log."""
    from cachesim.cli import commands

    commands.logs(name, node, lines, follow=follow, as_json=as_json)


@main.command(epilog="Example: cachesim events -f")
@click.option("-f", "--follow", is_flag=True, help="Print new events too, until Ctrl-C.")
@options.name
@options.as_json
def events(follow: bool, name: str | None, as_json: bool) -> None:
    """Print the event log.

    With --json, one event a line.
    """
    from cachesim.cli import commands

    commands.events(name, follow=follow, as_json=as_json)


@main.command(epilog="Example: cachesim top --name demo")
@click.option("--once", is_flag=True, help="Print it once. So it does if stdout is no terminal.")
@options.name
@options.as_json
def top(once: bool, name: str | None, as_json: bool) -> None:
    """Show zones, nodes, links, faults and the latest events, live, until Ctrl-C."""
    from cachesim.cli.top import run

    run(name, once=once, as_json=as_json)


@main.command(epilog="Example: cachesim dashboard --port 8400")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[default: a free one]")
@click.option(
    "--open/--no-open", "opens", default=True, help="Open it in a browser, if there is one."
)
@options.name
@options.as_json
def dashboard(port: int, opens: bool, name: str | None, as_json: bool) -> None:
    """Serve a web page that shows a topology and breaks it, until Ctrl-C.

    It is served on 127.0.0.1, to whoever has the printed URL. Needs the extra `web`.
    """
    from cachesim.cli.dashboard import run

    run(name, port, opens=opens, as_json=as_json)


@main.command(epilog="Example: cachesim config --speed 30")
@options.settings
@options.as_json
def config(as_json: bool, **arguments: object) -> None:
    """Show each setting with its value and its source."""
    from cachesim.cli import commands

    commands.config(arguments, as_json=as_json)


@main.command(epilog="Example: cachesim doctor")
@options.as_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check what a topology needs on this machine, and say what to do."""
    from cachesim.cli import commands

    ctx.exit(0 if commands.doctor(as_json=as_json) else _NOT_WELL)


@main.command(
    context_settings={"allow_interspersed_args": False},
    epilog="Example: cachesim shell redis-a SET k v",
)
@options.node
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@options.name
@click.pass_context
def shell(ctx: click.Context, node: str, command: tuple[str, ...], name: str | None) -> None:
    """Open a prompt to a node through its client link, or send it one COMMAND.

    For a Redis node this runs redis-cli or valkey-cli, if there is one. Options go before NODE.
    """
    from cachesim.cli import prompt

    ctx.exit(prompt.run(name, node, command))


# --- breaking -------------------------------------------------------------------------------


@main.group(
    cls=FaultGroup, epilog="Example: cachesim fault latency 'client-to-*' --ms 200 --for 30s"
)
def fault() -> None:
    """Apply a fault. It stays until `cachesim heal`, or as long as --for says.

    Links are named as in `cachesim fault list --links`, and may be patterns: 'client-to-*'.
    """


@main.command(epilog="Example: cachesim heal 3")
@click.argument("fault_id", metavar="[ID]", required=False, shell_complete=options.active_faults)
@options.name
@options.as_json
def heal(fault_id: str | None, name: str | None, as_json: bool) -> None:
    """Heal one fault; or all, and undo changes made to the proxies by hand."""
    from cachesim.cli import commands

    commands.heal(name, fault_id, as_json=as_json)


@main.command(epilog="Example: cachesim reset --name demo")
@options.name
@options.as_json
def reset(name: str | None, as_json: bool) -> None:
    """Heal all faults, start dead nodes, restore the first primary, and empty all nodes."""
    from cachesim.cli import commands

    commands.reset(name, as_json=as_json)


def _verb(verb: str, summary: str) -> None:
    @main.command(verb, help=summary, epilog=f"Example: cachesim {verb} redis-a")
    @options.node
    @options.name
    @options.as_json
    def _(node: str, name: str | None, as_json: bool) -> None:
        from cachesim.cli import commands

        commands.node(name, verb, node, as_json=as_json)


_verb("kill", "SIGKILL a node. `restart` or `heal` starts it again.")
_verb("stop", "Shut a node down cleanly. `restart` or `heal` starts it again.")
_verb("pause", "SIGSTOP a node: it answers nothing until `resume` or `heal`.")
_verb("resume", "Resume a paused node.")
_verb("restart", "Give a node a new process, whatever its state.")


@main.command(epilog="Example: cachesim failover --to b")
@click.option(
    "--to",
    metavar="ZONE",
    shell_complete=options.complete_parts(lambda topology: topology.zones),
    help="The zone whose replica is promoted.  [default: least lag]",
)
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Wait until it is completed."
)
@options.name
@options.as_json
def failover(to: str | None, wait: bool, name: str | None, as_json: bool) -> None:
    """Promote a replica, as ElastiCache's TestFailover does.

    If a failover is in progress, that one is waited for. Another begins only if it did not promote
    a replica of the zone that --to says.
    """
    from cachesim.cli import commands

    commands.failover(name, to, wait=wait, as_json=as_json)


@main.command(epilog="Example: cachesim wait failover --timeout 30s")
@click.argument("what", type=click.Choice(["failover", "available", "healthy"]))
@click.option(
    "--timeout",
    type=options.Duration(),
    metavar="DURATION",
    shell_complete=options.durations,
    help="Fail after this time.  [default: the longest failover, and 10s]",
)
@click.option(
    "--node",
    metavar="NODE",
    shell_complete=options.nodes,
    help="With `healthy`: only this node.",
)
@options.name
@options.as_json
def wait(
    what: str, timeout: float | None, node: str | None, name: str | None, as_json: bool
) -> None:
    """Wait until a failover is completed, the shard is available, or all nodes are healthy.

    A failover that was completed since the last wait counts too.
    """
    from cachesim.cli import commands

    if node is not None and what != "healthy":
        raise click.UsageError("--node goes with `healthy`.")
    commands.wait(name, what, node, timeout, as_json=as_json)


# --- commands of other modules --------------------------------------------------------------

_OTHERS = (
    *(exec_, replace, rolling_replacement, scale),
    *(metrics, alarms, scenario, run, report, compare),
)
for _command in _OTHERS:
    main.add_command(_command)
