"""Redis's serialization of values."""

import pytest

from cachesim.embedded.redis.keyspace.dump import dumped, restored
from cachesim.embedded.redis.keyspace.values import Hash
from cachesim.protocols.resp import Error
from tests.embedded.redis.differential import Pair
from tests.embedded.redis.grammar import Words

MADE_AND_READ: dict[bytes, tuple[Words, Words]] = {
    b"string": ((b"SET", b"{t}a", b"\x00\xff" * 50), (b"GET", b"{t}b")),
    b"list": ((b"RPUSH", b"{t}a", b"a", b"", b"a" * 20_000), (b"LRANGE", b"{t}b", b"0", b"-1")),
    b"set": ((b"SADD", b"{t}a", b"a", b"\r\n"), (b"SMISMEMBER", b"{t}b", b"a", b"\r\n", b"c")),
    b"hash": ((b"HSET", b"{t}a", b"f", b"v" * 70, b"g", b""), (b"HMGET", b"{t}b", b"f", b"g")),
    b"zset": (
        (b"ZADD", b"{t}a", b"1.5", b"a", b"-inf", b"b", b"0.1", b"c"),
        (b"ZRANGE", b"{t}b", b"0", b"-1", b"WITHSCORES"),
    ),
}
"""For each type a request that makes a value, and one that reads its copy."""


@pytest.mark.parametrize("kind", MADE_AND_READ)
def test_a_dump_is_restored(real: int, kind: bytes) -> None:
    """An embedded node and a real Redis make the same value of a dump."""
    made, read = MADE_AND_READ[kind]
    with Pair(real, 2) as pair:
        pair.ours(*made)
        payload = pair.ours(b"DUMP", b"{t}a")
        for words in ((b"RESTORE", b"{t}b", b"0", payload), (b"TYPE", b"{t}b"), read):
            assert pair.differ(words) is None
        assert pair.ours(b"TYPE", b"{t}b") == kind.decode()


PACKED: tuple[Words, ...] = (
    (b"SADD", b"{t}a", b"1", b"-2"),
    (b"SADD", b"{t}a", b"1", b"70000", b"9223372036854775807"),
    (b"HSET", b"{t}a", b"f", b"-1", b"g", b"128", b"h", b"-4097", b"i", b"70000", b"j", b"-9" * 9),
    (b"HSET", b"{t}a", b"f", b"8388607", b"g", b"-8388608", b"h", b"2147483648", b"i", b"x" * 63),
    (b"ZADD", b"{t}a", b"1", b"a", b"1.5", b"b", b"-inf", b"c"),
    (b"RPUSH", b"{t}a", *(b"element %d" % number for number in range(2000)), b"y" * 9000),
    (b"SET", b"{t}a", b"abcabcabc" * 500),
    (b"SET", b"{t}a", b"-70000"),
)
"""Requests that make a value which Redis packs or compresses."""


@pytest.mark.parametrize("made", PACKED, ids=lambda made: str(made[:3]))
def test_packed_forms_are_restored(real: int, made: Words) -> None:
    """An embedded node restores what a real Redis has packed or compressed."""
    with Pair(real, 2) as pair:
        pair.real(*made)
        payload = pair.real(b"DUMP", b"{t}a")
        assert pair.differ((b"RESTORE", b"{t}b", b"0", payload)) is None
        _, read = MADE_AND_READ[pair.real(b"TYPE", b"{t}b").encode()]
        reads = ({b"SMISMEMBER": (b"SMEMBERS", b"{t}b"), b"HMGET": (b"HGETALL", b"{t}b")}).get(
            read[0], read
        )
        assert pair.differ(reads) is None


def test_a_hash_counts_its_bytes_again() -> None:
    """A restored hash has the size and the encoding of the original."""
    value = Hash()
    value.put(b"f", b"v" * 70)
    value.put(b"g", b"w")
    again = restored(dumped("hash", value))
    assert (again, again.payload, again.is_table) == (value, 73, True)


def test_a_damaged_dump_is_refused() -> None:
    """Any changed byte is noticed."""
    payload = dumped("list", [b"a", b"bc"])
    for at in range(len(payload)):
        damaged = payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]
        with pytest.raises(Error, match="DUMP payload version or checksum are wrong"):
            restored(damaged)


READS: tuple[Words, ...] = (
    (b"XRANGE", b"-", b"+"),
    (b"XINFO", b"GROUPS"),
    (b"XINFO", b"STREAM"),
    (b"XPENDING", b"g"),
    (b"XPENDING", b"h"),
)


@pytest.mark.parametrize("count", [1, 5, 250])
def test_streams(real: int, count: int) -> None:
    """An embedded node and a real Redis restore each other's streams, with all groups."""
    a = b"{t}a"
    made: list[Words] = [
        (b"XADD", a, b"%d-%d" % (1000 + at // 3, at), b"f%d" % (at % 4), b"-%d" % at**4)
        for at in range(count)
    ]
    made += [
        (b"XGROUP", b"CREATE", a, b"g", b"0"),
        (b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", b"3", b"STREAMS", a, b">"),
        (b"XREADGROUP", b"GROUP", b"g", b"d", b"COUNT", b"1", b"STREAMS", a, b">"),
        (b"XGROUP", b"CREATE", a, b"h", b"$"),
    ]
    if count == 1:
        made.append((b"XTRIM", a, b"MAXLEN", b"0"))
    with Pair(real, 2) as pair:
        for words in made:
            pair.real(*words)
        for maker, source, target in ((pair.real, a, b"{t}b"), (pair.ours, b"{t}b", b"{t}c")):
            payload = maker(b"DUMP", source)
            assert pair.differ((b"RESTORE", target, b"0", payload)) is None
            for name, *rest in READS:
                key_at = 1 if name == b"XINFO" else 0
                assert pair.differ((name, *rest[:key_at], target, *rest[key_at:])) is None, name
