"""The HyperLogLog commands. fakeredis runs them with sets, so the counts are exact."""

from collections.abc import Mapping

from cachesim.embedded.redis.commands.common.by_fakeredis import plain
from cachesim.embedded.redis.dispatch.entry import Handler

_PLAIN = (
    "pfadd",  # key [element...]
    "pfcount",  # key...
    "pfmerge",  # target source...
)

HANDLERS: Mapping[str, Handler] = {name: plain(name) for name in _PLAIN}
