"""The commands, by what they are about."""

from collections.abc import Mapping

from cachesim.embedded.redis.commands import (
    clients,
    cluster,
    collections,
    connection,
    expiry,
    transactions,
    waiting,
    watchers,
)
from cachesim.embedded.redis.commands import generic as keys
from cachesim.embedded.redis.commands import hash as hashes
from cachesim.embedded.redis.commands import pubsub as channels
from cachesim.embedded.redis.commands import scripting as scripts
from cachesim.embedded.redis.commands import server as admin
from cachesim.embedded.redis.commands import string as strings
from cachesim.embedded.redis.dispatch.executor import Handler

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
