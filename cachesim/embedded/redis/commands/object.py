"""The OBJECT commands, of the generic ones. They follow from a key's value alone."""

from collections.abc import Mapping

from cachesim.embedded.redis.commands.common.help import help_of
from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.values import encoding_of, is_integer
from cachesim.protocols.resp import Error


def object_encoding(client: Client, arguments: list[bytes]) -> Answer:
    """OBJECT ENCODING key."""
    item = client.store.get(arguments[2])
    if item is None:
        return None
    return encoding_of(item.value, client.store.type_name(item.value)).encode()


_SHARED = 2**31 - 1  # how often shared objects are referred to, whoever does


def object_refcount(client: Client, arguments: list[bytes]) -> Answer:
    """OBJECT REFCOUNT key: Redis shares the objects of small numbers."""
    item = client.store.get(arguments[2])
    if item is None:
        return None
    value = item.value
    is_shared = type(value) is bytes and len(value) <= 4 and is_integer(value) and value[:1] != b"-"
    return _SHARED if is_shared else 1


def object_idletime(client: Client, arguments: list[bytes]) -> Answer:
    """OBJECT IDLETIME key: always 0."""
    return None if client.store.get(arguments[2]) is None else 0


def object_freq(client: Client, arguments: list[bytes]) -> Answer:
    """OBJECT FREQ key."""
    if client.store.get(arguments[2]) is None:
        return None
    raise Error(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note "
        "that when switching between policies at runtime LRU and LFU data will take some time to "
        "adjust."
    )


HANDLERS: Mapping[str, Handler] = {
    **help_of("object"),
    "object|encoding": object_encoding,
    "object|freq": object_freq,
    "object|idletime": object_idletime,
    "object|refcount": object_refcount,
}
