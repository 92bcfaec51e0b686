"""The commands that replace, add and remove nodes."""

import click

from cachesim.cli import options

_OLD = click.option(
    "--old",
    type=click.Choice(["refuse", "hang"]),
    default="refuse",
    show_default=True,
    help="What connections to an old address do.",
)


@click.command(epilog="Example: cachesim replace redis-b --new-address")
@options.node
@click.option("--new-address", is_flag=True, help="The new node has another address.")
@_OLD
@options.name
@options.as_json
def replace(node: str, new_address: bool, old: str, name: str | None, as_json: bool) -> None:
    """Replace a node. A Redis primary is succeeded by a replica first.

    `reset` brings old addresses back.
    """
    from cachesim.cli import commands

    commands.replace(name, node, new_address=new_address, old=old, as_json=as_json)


@click.command(epilog="Example: cachesim scale memcached 4")
@click.argument("what", type=click.Choice(["memcached"]))
@click.argument("count", type=int)
@options.name
@options.as_json
def scale(what: str, count: int, name: str | None, as_json: bool) -> None:  # noqa: ARG001
    """Add or remove Memcached nodes, until there are COUNT of them, 3 to 6.

    Clients learn of it by auto discovery. `reset` brings back the three of the start.
    """
    from cachesim.cli import commands

    commands.scale(name, count, as_json=as_json)


@click.command(
    "rolling-replacement", epilog="Example: cachesim rolling-replacement --new-addresses"
)
@click.option("--new-addresses", is_flag=True, help="The new nodes have other addresses.")
@_OLD
@options.name
@options.as_json
def rolling_replacement(new_addresses: bool, old: str, name: str | None, as_json: bool) -> None:
    """Replace all nodes, one after the other, as an upgrade of the engine does.

    With new addresses, no client knows a living address from its start, but for those of the
    configuration endpoints. `reset` brings the old ones back.
    """
    from cachesim.cli import commands

    commands.roll(name, new_addresses=new_addresses, old=old, as_json=as_json)
