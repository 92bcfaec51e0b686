"""The command that runs a program in a zone."""

import click

from cachesim.cli import options


@click.command(
    "exec",
    context_settings={"allow_interspersed_args": False},
    epilog="Example: cachesim exec --zone b -- python -m service",
)
@click.option(
    "--zone",
    metavar="ZONE",
    required=True,
    shell_complete=options.complete_parts(lambda topology: topology.zones),
    help="The zone that the program is in.",
)
@click.option(
    "--reach",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    multiple=True,
    help="Another port of 127.0.0.1 that the program may connect to.",
)
@click.option(
    "--by-address",
    is_flag=True,
    help="No namespace: the variables have the zone's addresses. A Redis client has to map those "
    "that nodes announce, as CACHESIM_REDIS_ADDRESS_MAP says; else it leaves the zone.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@options.name
@click.pass_context
def exec_(
    ctx: click.Context,
    zone: str,
    reach: tuple[int, ...],
    by_address: bool,
    command: tuple[str, ...],
    name: str | None,
) -> None:
    """Run COMMAND as if in a zone, with the variables of `cachesim env` and the secrets.

    It has a network namespace of its own, in which the nodes' addresses lead to the zone's links,
    and reaches nothing else on the network. The exit code is that of COMMAND. Needs Linux.
    """
    from cachesim.cli import in_zone

    if by_address and reach:
        raise click.UsageError("--reach goes with a namespace: with --by-address all is reached.")

    ctx.exit(in_zone.run(name, zone, command, reach=reach, by_address=by_address))
