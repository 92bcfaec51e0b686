"""The commands, in one module for each group of Redis's command table.

A few commands with many subcommands have a module of their own, which their group includes:
`acl`, `client`, `command`, `diagnostics`, `function_dump`, `object`. So do the ranges and the
algebra of sorted sets. What several groups share is in `common`.
"""

from collections.abc import Mapping

from cachesim.embedded.redis.commands.bitmap import HANDLERS as BITMAP
from cachesim.embedded.redis.commands.cluster import HANDLERS as CLUSTER
from cachesim.embedded.redis.commands.connection import HANDLERS as CONNECTION
from cachesim.embedded.redis.commands.generic import HANDLERS as GENERIC
from cachesim.embedded.redis.commands.geo import HANDLERS as GEO
from cachesim.embedded.redis.commands.hash import HANDLERS as HASH
from cachesim.embedded.redis.commands.hyperloglog import HANDLERS as HYPERLOGLOG
from cachesim.embedded.redis.commands.list import HANDLERS as LIST
from cachesim.embedded.redis.commands.pubsub import HANDLERS as PUBSUB
from cachesim.embedded.redis.commands.scripting import HANDLERS as SCRIPTING
from cachesim.embedded.redis.commands.server import HANDLERS as SERVER
from cachesim.embedded.redis.commands.set import HANDLERS as SET
from cachesim.embedded.redis.commands.sorted_set import HANDLERS as SORTED_SET
from cachesim.embedded.redis.commands.stream import HANDLERS as STREAM
from cachesim.embedded.redis.commands.string import HANDLERS as STRING
from cachesim.embedded.redis.commands.transactions import HANDLERS as TRANSACTIONS
from cachesim.embedded.redis.dispatch.entry import Handler

GROUPS: Mapping[str, Mapping[str, Handler]] = {
    "bitmap": BITMAP,
    "cluster": CLUSTER,
    "connection": CONNECTION,
    "generic": GENERIC,
    "geo": GEO,
    "hash": HASH,
    "hyperloglog": HYPERLOGLOG,
    "list": LIST,
    "pubsub": PUBSUB,
    "scripting": SCRIPTING,
    "server": SERVER,
    "set": SET,
    "sorted-set": SORTED_SET,
    "stream": STREAM,
    "string": STRING,
    "transactions": TRANSACTIONS,
}
"""The handlers by group, as `COMMAND DOCS` names the groups."""


def handlers() -> Mapping[str, Handler]:
    """Return the handlers of all commands by name."""
    return {name: run for group in GROUPS.values() for name, run in group.items()}
