"""The command line: click commands without logic.

What a command needs is imported when it runs, so that `--help` is there at once. Exit codes: 0 it
is done; 1 it could not be done, the message says why; 2 it was not understood; 3 nothing is up
(`status`), or something is not as it should be (`doctor`); 130 it was interrupted.
"""

from collections.abc import MutableMapping
from pathlib import Path

import click

from cachesim.cli import options
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


class _FaultGroup(click.Group):
    """Has a command for each fault. Making them takes time, so it is done when one is needed."""

    _commands: MutableMapping[str, click.Command]

    @property
    def commands(self) -> MutableMapping[str, click.Command]:
        """The commands by name."""
        if not self._commands:
            from cachesim.cli.fault_commands import fault_commands
            from cachesim.faults.catalogue import CATALOGUE

            self._commands = fault_commands(CATALOGUE)
        return self._commands

    @commands.setter
    def commands(self, commands: MutableMapping[str, click.Command]) -> None:
        self._commands = commands


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
@options.settings
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
@options.name
@options.as_json
def down(name: str | None, as_json: bool) -> None:
    """Take a topology down that `cachesim up` runs, or detach one.

    Detached, it is healed, and its containers go on: they are docker compose's.
    """
    from cachesim.cli import commands

    commands.down(name, as_json=as_json)


@main.command()
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

    DIR is new, empty, or one that this has written before: then it keeps its secrets, and what is
    not given here, in variables CACHESIM_* or in a file.
    """
    from cachesim.cli import commands

    commands.compose(folder, arguments, base_port, as_json=as_json)


@main.command()
@options.folder
@options.speed
@options.seed
@options.as_json
def attach(folder: Path, as_json: bool, **arguments: object) -> None:
    """Attach to a topology that `docker compose` runs: `down` ends that.

    DIR is what `cachesim compose` has written. A process is started that heals the topology, is its
    control plane, and carries out the other commands on it.
    """
    from cachesim.cli import commands

    commands.up(arguments, folder, as_json=as_json)


@main.command()
@options.name
@options.as_json
@click.pass_context
def status(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """Show what is up: nodes, roles, faults, and what has died."""
    from cachesim.cli import commands

    ctx.exit(0 if commands.status(name, as_json=as_json) else _NOT_WELL)


@main.command()
@options.as_json
def gc(as_json: bool) -> None:
    """Remove what topologies have left whose process was killed, and nothing else."""
    from cachesim.cli import commands

    commands.gc(as_json=as_json)


# --- looking --------------------------------------------------------------------------------


@main.command()
@options.name
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
@options.node
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@click.option(
    "-n", "--lines", type=click.IntRange(1), default=50, show_default=True, help="How many."
)
@options.name
@options.as_json
def logs(node: str, follow: bool, lines: int, name: str | None, as_json: bool) -> None:
    """Print the tail of a node's log."""
    from cachesim.cli import commands

    commands.logs(name, node, lines, follow=follow, as_json=as_json)


@main.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@options.name
@options.as_json
def events(follow: bool, name: str | None, as_json: bool) -> None:
    """Print what was done and what happened, since the start.

    With --json, an event a line.
    """
    from cachesim.cli import commands

    commands.events(name, follow=follow, as_json=as_json)


@main.command()
@options.settings
@options.as_json
def config(as_json: bool, **arguments: object) -> None:
    """Show each setting, its value and where it came from."""
    from cachesim.cli import commands

    commands.config(arguments, as_json=as_json)


@main.command()
@options.as_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check what a topology needs here: what is wrong, and what to do."""
    from cachesim.cli import commands

    ctx.exit(0 if commands.doctor(as_json=as_json) else _NOT_WELL)


@main.command(context_settings={"allow_interspersed_args": False})
@options.node
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@options.name
@click.pass_context
def shell(ctx: click.Context, node: str, command: tuple[str, ...], name: str | None) -> None:
    """Talk to a node through its client link, or send it one COMMAND.

    A Redis node is spoken to with redis-cli, or valkey-cli, where there is one. Options go before
    NODE.
    """
    from cachesim.cli import prompt

    ctx.exit(prompt.run(name, node, command))


# --- breaking -------------------------------------------------------------------------------


@main.group(cls=_FaultGroup)
def fault() -> None:
    """Apply a fault. It stays until `cachesim heal`, or as long as --for says.

    Links are named as in `cachesim fault list --links`, and may be patterns: 'client-to-*'.
    """


@main.command()
@click.argument("fault_id", metavar="[ID]", required=False)
@options.name
@options.as_json
def heal(fault_id: str | None, name: str | None, as_json: bool) -> None:
    """Heal one fault, or all, and what was done to the proxies by hand."""
    from cachesim.cli import commands

    commands.heal(name, fault_id, as_json=as_json)


@main.command()
@options.name
@options.as_json
def reset(name: str | None, as_json: bool) -> None:
    """Make it as new: healed, all nodes up, the first primary, empty."""
    from cachesim.cli import commands

    commands.reset(name, as_json=as_json)


def _verb(verb: str, summary: str) -> None:
    @main.command(verb, help=summary)
    @options.node
    @options.name
    @options.as_json
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
    shell_complete=options.complete_parts(lambda topology: topology.zones),
    help="Whose replica is promoted.  [default: least lag]",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until it is completed.")
@options.name
@options.as_json
def failover(to: str | None, wait: bool, name: str | None, as_json: bool) -> None:
    """Promote a replica, as ElastiCache's TestFailover does."""
    from cachesim.cli import commands

    commands.failover(name, to, wait=wait, as_json=as_json)
