"""Requests that recreate a value, for replicas and the append-only file."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from cachesim.embedded.redis.keyspace.streams import recreate_stream
from cachesim.protocols.resp import double

_BATCH = 128  # elements in one request


def recreate(key: bytes, value: Any, kind: str) -> Iterator[list[bytes]]:
    """Yield the requests that give a key its value, but not its expiry.

    Args:
        kind: the type of the value, as `TYPE` returns it.
    """
    if kind == "string":
        yield [b"SET", key, value]
    elif kind == "list":
        for batch in _batches(value, _BATCH):
            yield [b"RPUSH", key, *batch]
    elif kind == "hash":
        flat = (word for pair in value.items() for word in pair)
        for batch in _batches(flat, 2 * _BATCH):
            yield [b"HSET", key, *batch]
        for field, at in (value.deadlines or {}).items():
            yield [b"HPEXPIREAT", key, b"%d" % at, b"FIELDS", b"1", field]
    elif kind == "set":
        for batch in _batches(value, _BATCH):
            yield [b"SADD", key, *batch]
    elif kind == "zset":
        scored = (word for member, score in value.items() for word in (double(score), member))
        for batch in _batches(scored, 2 * _BATCH):
            yield [b"ZADD", key, *batch]
    elif kind == "stream":
        yield from recreate_stream(key, value)


def _batches(words: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    left = iter(words)
    while batch := list(islice(left, size)):
        yield batch
