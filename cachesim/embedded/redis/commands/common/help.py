"""HELP of commands with subcommands, with Redis 7.0's texts."""

import functools
from collections.abc import Mapping

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.command_table import data
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import printed
from cachesim.protocols.resp import Error


def help_of(*names: str) -> Mapping[str, Handler]:
    """Return the handlers of the subcommand HELP for commands, given in lower case."""
    return {f"{name}|help": _help(name) for name in names}


def _help(name: str) -> Handler:
    def run(client: Client, arguments: list[bytes]) -> Answer:
        return list(_texts()[name])

    return run


@functools.cache
def _texts() -> Mapping[str, list[str]]:
    return dict(data("help.json"))


def subcommand_error(arguments: list[bytes]) -> Error:
    """Return the error for wrong arguments of a subcommand."""
    return Error(
        f"ERR unknown subcommand or wrong number of arguments for "
        f"'{printed(arguments[1][:128])}'. Try {arguments[0].upper().decode()} HELP."
    )
