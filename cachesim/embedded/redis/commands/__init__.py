"""The commands, by what they are about."""

from collections.abc import Mapping

from cachesim.embedded.redis.commands import (
    admin,
    channels,
    clients,
    cluster,
    collections,
    connection,
    expiry,
    hashes,
    keys,
    scripts,
    strings,
    transactions,
    waiting,
    watchers,
)
from cachesim.embedded.redis.executor import Handler

_MODULES = (
    strings,
    hashes,
    keys,
    expiry,
    collections,
    waiting,
    connection,
    clients,
    channels,
    transactions,
    cluster,
    scripts,
    watchers,
    admin,
)


def handlers() -> Mapping[str, Handler]:
    """What runs each command, by its name."""
    return {name: run for module in _MODULES for name, run in module.HANDLERS.items()}
