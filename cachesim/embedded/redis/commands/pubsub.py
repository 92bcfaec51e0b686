"""The pub/sub commands, for the cluster and for the shard."""

from collections.abc import Mapping

from cachesim.embedded.redis.commands.common.help import help_of, subcommand_error
from cachesim.embedded.redis.commands.common.session import session_of
from cachesim.embedded.redis.connections.client import NO_REPLY, Answer, Client
from cachesim.embedded.redis.connections.pubsub import Subscribers
from cachesim.embedded.redis.connections.session import Session
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.globs import matcher
from cachesim.protocols.resp import Push, Raw, Reply, encode


def _kinds(client: Client, kind: bytes) -> tuple[Subscribers, dict[bytes, None]]:
    """Return all subscribers of a kind of channel, and the client's channels of that kind."""
    pubsub = client.server.pubsub
    if kind in (b"ssubscribe", b"sunsubscribe"):
        return pubsub.shard_channels, client.shard_channels
    if kind in (b"psubscribe", b"punsubscribe"):
        return pubsub.patterns, client.patterns
    return pubsub.channels, client.channels


def _count(client: Client, kind: bytes) -> int:
    is_sharded = kind in (b"ssubscribe", b"sunsubscribe")
    return len(client.shard_channels) if is_sharded else client.subscriptions


def _told(session: Session, messages: list[Push]) -> Answer:
    """Return messages as a reply. CLIENT REPLY OFF does not hold them back."""
    encoded = b"".join(encode(message, session.resp) for message in messages)
    if session.mutes and session.may_block:
        session.send(encoded)
        return NO_REPLY
    return Raw(encoded)


def subscribe(client: Client, arguments: list[bytes]) -> Answer:
    """SUBSCRIBE channel..., PSUBSCRIBE pattern..., SSUBSCRIBE channel..."""
    kind = arguments[0].lower()
    session = session_of(client)
    listeners, mine = _kinds(client, kind)
    told = []
    for name in arguments[1:]:
        client.server.pubsub.add(listeners, mine, name, session)
        told.append(Push([kind, name, _count(client, kind)]))
    client.update_guards()
    return _told(session, told)


def unsubscribe(client: Client, arguments: list[bytes]) -> Answer:
    """UNSUBSCRIBE [channel...], PUNSUBSCRIBE [pattern...], SUNSUBSCRIBE [channel...]."""
    kind = arguments[0].lower()
    session = session_of(client)
    listeners, mine = _kinds(client, kind)
    told = []
    for name in arguments[1:] or list(mine):
        client.server.pubsub.remove(listeners, mine, name, session)
        told.append(Push([kind, name, _count(client, kind)]))
    if not told:
        told.append(Push([kind, None, _count(client, kind)]))
    client.update_guards()
    return _told(session, told)


def publish(client: Client, arguments: list[bytes]) -> Answer:
    """PUBLISH channel message: to this node's subscribers, and over the bus to all nodes."""
    server, (_, channel, message) = client.server, arguments
    told = server.pubsub.publish(channel, message)
    server.bus.publish(channel, message, shard=False)
    return told


def spublish(client: Client, arguments: list[bytes]) -> Answer:
    """SPUBLISH channel message: to this node's subscribers, and over the bus to its shard."""
    server, (_, channel, message) = client.server, arguments
    told = server.pubsub.publish_in_shard(channel, message)
    server.bus.publish(channel, message, shard=True)
    return told


def channels(client: Client, arguments: list[bytes]) -> Answer:
    """PUBSUB CHANNELS [pattern], PUBSUB SHARDCHANNELS [pattern]."""
    name = arguments[1].lower()
    if len(arguments) > 3:
        raise subcommand_error(arguments)
    pubsub = client.server.pubsub
    listeners = pubsub.channels if name == b"channels" else pubsub.shard_channels
    matches = matcher(arguments[2] if len(arguments) == 3 else b"*")
    return [channel for channel in listeners if matches(channel)]


def numbers(client: Client, arguments: list[bytes]) -> Answer:
    """PUBSUB NUMSUB [channel...], PUBSUB SHARDNUMSUB [channel...]."""
    pubsub = client.server.pubsub
    is_sharded = arguments[1].lower() == b"shardnumsub"
    listeners = pubsub.shard_channels if is_sharded else pubsub.channels
    flat: list[Reply] = []
    for name in arguments[2:]:
        flat += [name, len(listeners.get(name, ()))]
    return flat


def numpat(client: Client, arguments: list[bytes]) -> Answer:
    """PUBSUB NUMPAT."""
    return len(client.server.pubsub.patterns)


HANDLERS: Mapping[str, Handler] = {
    **help_of("pubsub"),
    "psubscribe": subscribe,
    "publish": publish,
    "pubsub|channels": channels,
    "pubsub|numpat": numpat,
    "pubsub|numsub": numbers,
    "pubsub|shardchannels": channels,
    "pubsub|shardnumsub": numbers,
    "punsubscribe": unsubscribe,
    "spublish": spublish,
    "ssubscribe": subscribe,
    "subscribe": subscribe,
    "sunsubscribe": unsubscribe,
    "unsubscribe": unsubscribe,
}
