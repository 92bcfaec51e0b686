"""The command line: click commands without logic.

What a command needs is imported when it runs, so that `--help` is there at once.
"""

import click


class _Group(click.Group):
    """Tells errors in a line, and ends on an interrupt as shells expect it."""

    def invoke(self, ctx: click.Context) -> object:
        from cachesim.errors import CachesimError
        from cachesim.foreground import INTERRUPTED

        try:
            return super().invoke(ctx)
        except CachesimError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None


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


# The choices are those of cachesim.config, which takes too long to import for `--help`.
@main.command()
@click.option("--name", help="The topology's name.  [default: drawn]")
@click.option("--backend", type=click.Choice(["auto", "docker"]), help="What carries it.")
@click.option("--engine", type=click.Choice(["redis", "valkey"]), help="What the Redis nodes run.")
@click.option(
    "--speed", type=float, help="How much faster than production time it runs.  [default: 1]"
)
@click.option("--seed", type=int, help="Seed of every draw.  [default: drawn]")
@click.option("--advertise-host", metavar="HOST", help="Told to containers outside the zones.")
@click.pass_context
def up(ctx: click.Context, /, **arguments: object) -> None:
    """Run a topology until Ctrl-C.

    Shows where it is and prints its events. What is not given here comes from the variables
    CACHESIM_*, or from cachesim.toml or [tool.cachesim] in pyproject.toml.
    """
    from cachesim.foreground import run

    ctx.exit(run(arguments))


@main.command()
@click.option("--name", help="The topology's name. Needed only if several are up.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["shell", "dotenv", "json"]),
    default="shell",
    show_default=True,
    help="How they are written.",
)
@click.option("--show-secrets", is_flag=True, help="Print the password too, and the URL with it.")
def env(name: str | None, style: str, show_secrets: bool) -> None:
    """Print the variables that a service needs.

    They are of a topology that runs on this machine: eval "$(cachesim env)"
    """
    from cachesim import variables

    click.echo(variables.render(variables.of_running(name, secrets=show_secrets), style))
