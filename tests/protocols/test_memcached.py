"""Requests of Memcached's protocols, parsed from pieces."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachesim.protocols.memcached import (
    PART,
    Request,
    RequestParser,
    signed32,
    unsigned,
    unsigned32,
)

WORD = st.text("abk01\t", min_size=1, max_size=8).map(str.encode)
LINES = st.lists(WORD, min_size=1, max_size=5).map(lambda words: [b"x", *words])


def parsed(data: bytes, size: int = 1 << 20) -> list[Request]:
    """Parse bytes that come in pieces."""
    parser, found = RequestParser(), []
    for at in range(0, len(data), size):
        parser.feed(data[at : at + size])
        while requests := parser.take():
            found += requests
    return found


@pytest.mark.parametrize("size", [1, 2, 7, 1 << 20])
def test_requests(size: int) -> None:
    """Requests are words and perhaps a value, however the input is split."""
    data = (
        b"get a\r\nset a 1 0 3\r\nabc\r\n  get  b \nset b 0 0 0\r\n\r\nms k 2 T0\r\n\r\n\r\n"
        b"cas a 0 0 1 7 noreply\r\nz\r\n\r\nmn\r\n"
    )
    assert parsed(data, size) == [
        ([b"get", b"a"], None),
        ([b"set", b"a", b"1", b"0", b"3"], b"abc\r\n"),
        ([b"get", b"b"], None),
        ([b"set", b"b", b"0", b"0", b"0"], b"\r\n"),
        ([b"ms", b"k", b"2", b"T0"], b"\r\n\r\n"),
        ([b"cas", b"a", b"0", b"0", b"1", b"7", b"noreply"], b"z\r\n"),
        ([b"\r"], None),
        ([b"mn"], None),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"set k 0 0 x", b"set k x 0 1", b"set k 0 x 1", b"set k 0 0", b"set k 0 0 -1",
        b"set k 0 0 2147483646", b"cas k 0 0 1 x", b"ms k", b"ms k x", b"set k 0 0 1 2 3",
        b"set " + b"k" * 251 + b" 0 0 1", b"ms k 1" + b" q" * 20,
    ],
)  # fmt: skip
def test_no_value_follows_a_wrong_line(line: bytes) -> None:
    """After a wrong line the next line follows, not a value."""
    assert parsed(line + b"\r\nz\r\n") == [(line.split(b" "), None), ([b"z"], None)]


def test_value_is_taken_by_its_size() -> None:
    """A value may contain anything. Its line end is not checked here."""
    assert parsed(b"set k 0 0 2\r\nabcdef\r\n") == [
        ([b"set", b"k", b"0", b"0", b"2"], b"abcd"),
        ([b"ef"], None),
    ]


@pytest.mark.parametrize("size", [100, 4096, 1 << 20])
def test_large_values_are_dropped(size: int) -> None:
    """The request is returned without a large value, which is not kept."""
    words = [b"set", b"k", b"0", b"0", b"3000000"]
    parser = RequestParser()
    parser.feed(b" ".join(words) + b"\r\n")
    assert parser.take() == [(words, None)]
    for _ in range(3_000_002 // size):
        parser.feed(bytes(size))
        assert parser.buffered == 0
    parser.feed(bytes(3_000_002 % size) + b"mn\r\n")
    assert parser.take() == [([b"mn"], None)]


@pytest.mark.parametrize("data", [b"x" * 2049, b"gets" + b"x" * 2049, b" " * 101 + b"get a" * 500])
def test_long_lines_break(data: bytes) -> None:
    """Long lines break the connection as in Memcached, unless they are of `get`."""
    parser = RequestParser()
    parser.feed(b"mn\r\n" + data)
    assert parser.take() == [([b"mn"], None)]
    assert parser.take() == []
    assert parser.is_broken
    assert parser.buffered == 0


@pytest.mark.parametrize("size", [1000, 1 << 20])
@pytest.mark.parametrize("count", [25, 700, 40_000])
@pytest.mark.parametrize("name", [b"get", b"gets", b"gat 0"])
def test_many_keys(name: bytes, count: int, size: int) -> None:
    """A `get` of many keys is returned in parts, all but the last with a mark."""
    if name == b"gat 0":  # which has no long lines
        count, size = min(count, 700), 1 << 20
    keys = [b"%d" % number for number in range(count)]
    found = parsed(b" ".join([name, *keys]) + b"\r\nmn\r\n", size)
    assert found.pop() == ([b"mn"], None)
    head = name.split()
    assert all(words[: len(head)] == head and len(words) <= 26 for words, _ in found)
    assert [key for words, _ in found for key in words[len(head) :]] == keys
    assert [value for _, value in found] == [PART] * (len(found) - 1) + [None]


@pytest.mark.parametrize("before", [b"", b"a " * 100, b"a " * 10_000])
def test_long_key_among_many(before: bytes) -> None:
    """A line with a key that is too long is returned whole, as its only reply is an error."""
    found = parsed(b"get " + before + b"k" * 251 + b" b" * 2000 + b"\r\nmn\r\n")
    assert len(found) == 2
    assert found[0][0][-1] == b"k" * 251 or b"k" * 251 in found[0][0]


def test_endless_get() -> None:
    """The line of a `get` has a limit."""
    parser = RequestParser()
    for _ in range(100):
        parser.feed(b"get " + b"a " * 50_000)
        assert parser.take() == []
        assert parser.buffered <= 5 << 20
    assert parser.is_broken


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0", 0), (b"007", 7), (b"+3", 3), (b"\t4", 4), (b"5\tx", 5), (b"1\r\n", 1),
        (b"18446744073709551615", 2**64 - 1), (b"-18446744073709551615", 1), (b"", None),
        (b"18446744073709551616", None), (b"-1", None), (b"1_0", None), (b"x", None),
        (b"1.5", None), (b" ", None), (b"+-1", None), (b"9" * 5000, None), (b"0" * 5000, 0),
        ("٣".encode(), None),
    ],
)  # fmt: skip
def test_unsigned(text: bytes, number: int | None) -> None:
    """Numbers are parsed as in C."""
    assert unsigned(text) == number


def test_numbers_of_32_bits() -> None:
    """Of larger numbers Memcached takes the lower 32 bits."""
    assert unsigned32(b"4294967296") == 0
    assert signed32(b"4294967295") == -1
    assert signed32(b"-1") == -1
    assert signed32(b"2147483648") == -(2**31)
    assert signed32(b"9223372036854775808") is None


@given(st.lists(LINES, max_size=10), st.integers(1, 50))
def test_pieces_make_no_difference(lines: list[list[bytes]], size: int) -> None:
    """Input in pieces gives the same requests as at once."""
    data = b"".join(b" ".join(line) + b"\r\n" for line in lines)
    assert parsed(data, size) == parsed(data) == [(line, None) for line in lines]


def test_mutated_input_is_no_crash() -> None:
    """Any input gives requests, and no more is kept than came."""
    r = random.Random(1)
    valid = b"set a 0 0 20\r\n01234567890123456789\r\nget a b c\r\nms k 3 O1\r\nabc\r\n" * 2
    for _ in range(5_000):
        data = bytearray(valid)
        for _ in range(r.randint(0, 8)):
            data[r.randrange(len(data))] = r.choice((r.randrange(256), *b"\r\n -0123456789"))
        size = r.choice((1, 7, 100))
        parser = RequestParser()
        for at in range(0, len(data), size):
            parser.feed(bytes(data[at : at + size]))
            while requests := parser.take():
                assert all(isinstance(words, list) for words, _ in requests), bytes(data)
        assert parser.buffered <= len(data), bytes(data)
