"""Requests that make a value again."""

from contextlib import closing

import pytest

from cachesim.embedded.redis.keyspace.recreate import recreate
from tests.embedded.redis.differential import Ours
from tests.embedded.redis.grammar import Words

MANY = tuple(b"%d" % number for number in range(1000))

MADE_AND_READ: dict[str, tuple[tuple[Words, ...], Words]] = {
    "string": (((b"SET", b"k", b"v"),), (b"GET", b"k")),
    "list": (((b"RPUSH", b"k", *MANY),), (b"LRANGE", b"k", b"0", b"-1")),
    "hash": (((b"HSET", b"k", *MANY),), (b"HGETALL", b"k")),
    "set": (((b"SADD", b"k", *MANY),), (b"SMISMEMBER", b"k", *MANY, b"x")),
    "zset": (((b"ZADD", b"k", *MANY),), (b"ZRANGE", b"k", b"0", b"-1", b"WITHSCORES")),
    "stream": (
        (
            (b"XADD", b"k", b"1-1", b"f", b"v"),
            (b"XADD", b"k", b"2-1", b"f", b"w", b"g", b"x"),
            (b"XGROUP", b"CREATE", b"k", b"g", b"0"),
            (b"XGROUP", b"CREATECONSUMER", b"k", b"g", b"idle"),
            (b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", b"1", b"STREAMS", b"k", b">"),
            (b"XDEL", b"k", b"2-1"),
        ),
        (b"XPENDING", b"k", b"g"),
    ),
}
"""For each type the requests that make a value, and one that reads it."""


@pytest.mark.parametrize("kind", MADE_AND_READ)
def test_a_value_is_made_again(kind: str) -> None:
    """The requests make the same value in an empty node."""
    made, read = MADE_AND_READ[kind]
    with closing(Ours()) as before, closing(Ours()) as after:
        for words in made:
            before(*words)
        value = before.value(b"k")
        requests = list(recreate(b"k", value, kind))
        for request in requests:
            after(*request)
        assert after(b"TYPE", b"k") == before(b"TYPE", b"k") == kind
        assert after(*read) == before(*read)
        if kind == "stream":
            assert after(b"XINFO", b"STREAM", b"k") == before(b"XINFO", b"STREAM", b"k")
            assert after(b"XINFO", b"GROUPS", b"k") == before(b"XINFO", b"GROUPS", b"k")
        assert all(len(request) < 300 for request in requests)  # no request is long
