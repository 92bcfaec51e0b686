"""All data of a node as requests that make it again."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cachesim.protocols.resp import request

if TYPE_CHECKING:
    from cachesim.embedded.redis.functions import Functions
    from cachesim.embedded.redis.keyspace import Keyspace


def snapshot(store: "Keyspace", functions: "Functions") -> Iterator[bytes]:
    """The requests, encoded: functions, then key by key."""
    from cachesim.embedded.redis.keyspace import recreate

    yield from functions.requests()
    for key, item in store.items.items():
        expires = None if item.expireat is None else b"%d" % milliseconds(item.expireat)
        if type(item.value) is bytes:
            words = [b"SET", key, item.value]
            yield request([*words, b"PXAT", expires] if expires is not None else words)
            continue
        for words in recreate(key, item.value):
            yield request(words)
        if expires is not None:
            yield request([b"PEXPIREAT", key, expires])


def milliseconds(moment: float) -> int:
    """A moment in milliseconds since the epoch, as Redis has it."""
    return round(moment * 1000)
