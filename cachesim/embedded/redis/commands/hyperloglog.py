"""The HyperLogLog commands."""

from collections.abc import Mapping

from cachesim.embedded.redis.connections.client import Answer, Client
from cachesim.embedded.redis.dispatch.entry import Handler
from cachesim.embedded.redis.keyspace.hyperloglog import REGISTERS, HyperLogLog, estimate


def _found(client: Client, key: bytes) -> HyperLogLog | None:
    """Return a key's HyperLogLog, or None if the key is missing.

    Raises:
        Error: the key has no HyperLogLog.
    """
    data: bytes | None = client.store.value(key, bytes)
    largest = client.server.settings.number("hll-sparse-max-bytes")
    return None if data is None else HyperLogLog(data, largest)


def _put(client: Client, key: bytes, counted: HyperLogLog) -> None:
    item = client.store.get(key)
    client.store.put(key, bytes(counted), None if item is None else item.expireat)


def pfadd(client: Client, arguments: list[bytes]) -> Answer:
    """PFADD key [element...]."""
    found = _found(client, arguments[1])
    counted = found or HyperLogLog(None, client.server.settings.number("hll-sparse-max-bytes"))
    changed = found is None
    for element in arguments[2:]:
        changed |= counted.add(element)
    if changed:
        counted.outdate()
        _put(client, arguments[1], counted)
    return int(changed)


def pfcount(client: Client, arguments: list[bytes]) -> Answer:
    """PFCOUNT key...: the estimate for a single key is stored in its string, also on replicas."""
    if len(arguments) > 2:
        return estimate(_merged(client, arguments[1:])[0])
    key = arguments[1]
    counted = _found(client, key)
    if counted is None:
        return 0
    if counted.cached is not None:
        return counted.cached
    count = estimate(counted.registers())
    counted.cache(count)
    if client.server.replica_link is None or client.is_replaying:
        _put(client, key, counted)
    else:
        client.store.values[key] = bytes(counted)
    return count


def _merged(client: Client, keys: list[bytes]) -> tuple[bytearray, bool]:
    """Return the keys' highest values for all registers, and whether a key's encoding is dense."""
    highest, is_dense = bytearray(REGISTERS), False
    for key in keys:
        counted = _found(client, key)
        if counted is not None:
            is_dense |= counted.is_dense
            highest = bytearray(map(max, highest, counted.registers()))
    return highest, is_dense


def pfmerge(client: Client, arguments: list[bytes]) -> Answer:
    """PFMERGE target [source...]."""
    target = arguments[1]
    highest, is_dense = _merged(client, arguments[1:])
    counted = _found(client, target) or HyperLogLog(
        None, client.server.settings.number("hll-sparse-max-bytes")
    )
    if is_dense:
        counted.make_dense()
    for register, value in enumerate(highest):
        if value:
            counted.raise_to(register, value)
    counted.outdate()
    _put(client, target, counted)
    return "OK"


HANDLERS: Mapping[str, Handler] = {"pfadd": pfadd, "pfcount": pfcount, "pfmerge": pfmerge}
