"""Publish and subscribe: the channels and patterns of a node, with their subscribers."""

from collections.abc import Iterable
from typing import Protocol

from cachesim.embedded.redis.cluster.slots import slot_of
from cachesim.embedded.redis.keyspace.globs import matcher
from cachesim.protocols.resp import Push


class Subscriber(Protocol):
    """A client with its subscriptions."""

    channels: dict[bytes, None]
    patterns: dict[bytes, None]
    shard_channels: dict[bytes, None]

    def push(self, message: Push) -> None:
        """Send a message."""
        ...

    def update_guards(self) -> None:
        """React to the end of a subscription."""
        ...


Subscribers = dict[bytes, dict[Subscriber, None]]


class PubSub:
    """Channels, patterns and shard channels, with their subscribers in order of subscription."""

    def __init__(self) -> None:
        self.channels: Subscribers = {}
        self.patterns: Subscribers = {}
        self.shard_channels: Subscribers = {}

    def add(
        self, subscribers: Subscribers, mine: dict[bytes, None], name: bytes, client: Subscriber
    ) -> None:
        """Subscribe a client.

        Args:
            subscribers: `channels`, `patterns` or `shard_channels` of this object.
            mine: the client's own subscriptions of that kind.
        """
        mine[name] = None
        subscribers.setdefault(name, {})[client] = None

    def remove(
        self, subscribers: Subscribers, mine: dict[bytes, None], name: bytes, client: Subscriber
    ) -> None:
        """Unsubscribe a client. The arguments are those of `add`. Idempotent."""
        mine.pop(name, None)
        if (present := subscribers.get(name)) is not None:
            present.pop(client, None)
            if not present:
                del subscribers[name]

    def leave(self, client: Subscriber) -> None:
        """Unsubscribe a client from everything."""
        for subscribers, mine in (
            (self.channels, client.channels),
            (self.patterns, client.patterns),
            (self.shard_channels, client.shard_channels),
        ):
            for name in list(mine):
                self.remove(subscribers, mine, name, client)

    def close_shard_channels(self) -> None:
        """Unsubscribe all clients from all shard channels, and tell them: another node has these.

        The subscribers of a replica are told, too, when it gets another primary. They hear of the
        channels slot by slot.
        """
        for name in sorted(self.shard_channels, key=lambda name: (slot_of(name), name)):
            for client in list(self.shard_channels[name]):
                self.remove(self.shard_channels, client.shard_channels, name, client)
                client.update_guards()
                client.push(Push([b"sunsubscribe", name, len(client.shard_channels)]))

    def publish(self, channel: bytes, message: bytes) -> int:
        """Send a message to the subscribers of a channel and of matching patterns.

        Returns:
            The number of messages sent.
        """
        sent = 0
        if (subscribers := self.channels.get(channel)) is not None:
            sent += _send(subscribers, Push([b"message", channel, message]))
        for pattern, others in list(self.patterns.items()):
            if matcher(pattern)(channel):
                sent += _send(others, Push([b"pmessage", pattern, channel, message]))
        return sent

    def publish_in_shard(self, channel: bytes, message: bytes) -> int:
        """Send a message to the subscribers of a shard channel; return their number."""
        subscribers = self.shard_channels.get(channel, {})
        return _send(subscribers, Push([b"smessage", channel, message]))


def _send(subscribers: Iterable[Subscriber], message: Push) -> int:
    sent = 0
    for subscriber in list(subscribers):
        subscriber.push(message)
        sent += 1
    return sent
