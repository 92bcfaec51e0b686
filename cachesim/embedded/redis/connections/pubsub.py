"""Who listens to which channels of a node."""

from collections.abc import Iterable

from cachesim.embedded.redis.connections.client import Client
from cachesim.embedded.redis.keyspace.globs import matcher
from cachesim.protocols.resp import Push

Listeners = dict[bytes, dict[Client, None]]


class PubSub:
    """Channels, patterns and the channels of sharded pub/sub with their listeners, in order."""

    def __init__(self) -> None:
        self.channels: Listeners = {}
        self.patterns: Listeners = {}
        self.shard_channels: Listeners = {}

    def add(self, listeners: Listeners, mine: dict[bytes, None], name: bytes, who: Client) -> None:
        """Let a client listen."""
        mine[name] = None
        listeners.setdefault(name, {})[who] = None

    def remove(
        self, listeners: Listeners, mine: dict[bytes, None], name: bytes, who: Client
    ) -> None:
        """Let a client no longer listen. Repeating it is harmless."""
        mine.pop(name, None)
        if (present := listeners.get(name)) is not None:
            present.pop(who, None)
            if not present:
                del listeners[name]

    def leave(self, who: Client) -> None:
        """Let a client listen to nothing."""
        for listeners, mine in (
            (self.channels, who.channels),
            (self.patterns, who.patterns),
            (self.shard_channels, who.shard_channels),
        ):
            for name in list(mine):
                self.remove(listeners, mine, name, who)

    def publish(self, channel: bytes, message: bytes) -> int:
        """Tell the listeners of a channel, and those of patterns that match it."""
        told = 0
        if (listeners := self.channels.get(channel)) is not None:
            told += _tell(listeners, Push([b"message", channel, message]))
        for pattern, others in list(self.patterns.items()):
            if matcher(pattern)(channel):
                told += _tell(others, Push([b"pmessage", pattern, channel, message]))
        return told

    def publish_in_shard(self, channel: bytes, message: bytes) -> int:
        """Tell the listeners of a channel of sharded pub/sub."""
        listeners = self.shard_channels.get(channel, {})
        return _tell(listeners, Push([b"smessage", channel, message]))


def _tell(listeners: Iterable[Client], message: Push) -> int:
    told = 0
    for listener in list(listeners):
        listener.push(message)
        told += 1
    return told
