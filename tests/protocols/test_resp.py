"""RESP2 and RESP3 without I/O."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesim.protocols.resp import (
    NULL_ARRAY,
    UNAUTHENTICATED,
    Error,
    Limits,
    Pairs,
    Push,
    Reply,
    RequestParser,
    Unordered,
    Verbatim,
    encode,
    request,
    split_words,
)

WORDS = st.lists(st.binary(max_size=50) | st.just(b"\r\n$3\r\n"), min_size=1, max_size=70)


def parsed(data: bytes, limits: Limits | None = None) -> tuple[list[list[bytes]], str | None]:
    """All requests in some bytes, and the error that ended them."""
    parser = RequestParser(limits)
    parser.feed(data)
    return parser.take(), parser.error


@given(st.lists(WORDS, max_size=20), st.lists(st.integers(1, 200), max_size=30))
def test_requests_come_back_however_they_are_cut(
    requests: list[list[bytes]], cuts: list[int]
) -> None:
    """Pieces of any size, with line ends in the arguments, give the same requests."""
    data = b"".join(map(request, requests))
    parser = RequestParser()
    found: list[list[bytes]] = []
    fed = 0
    for size in [*cuts, len(data)]:
        parser.feed(data[:size])
        fed += len(data[:size])
        data = data[size:]
        found += parser.take()
        # A replica counts its offset by that.
        assert parser.buffered == fed - len(b"".join(map(request, found)))
    assert found == requests
    assert parser.error is None
    assert parser.buffered == 0


@given(st.lists(WORDS, min_size=1, max_size=10), st.integers(1, 4))
def test_takes_no_more_than_asked(requests: list[list[bytes]], most: int) -> None:
    """What is not asked for is kept."""
    parser = RequestParser()
    parser.feed(b"".join(map(request, requests)))
    assert parser.take(most) == requests[:most]
    assert parser.take() == requests[most:]


@settings(max_examples=2000)
@given(
    st.lists(WORDS, max_size=4),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    st.integers(1, 100),
)
def test_mutated_input_is_no_crash(
    requests: list[list[bytes]], changes: list[tuple[int, int]], size: int
) -> None:
    """Whatever comes, there are requests or an error, and nothing is kept but what came."""
    data = bytearray(b"".join(map(request, requests)) or b"*1\r\n$4\r\nPING\r\n")
    for at, value in changes:
        data[at % len(data)] = value
    parser = RequestParser(UNAUTHENTICATED)
    for at in range(0, len(data), size):
        parser.feed(bytes(data[at : at + size]))
        for words in parser.take():
            assert words
    assert parser.buffered <= len(data)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*1\r\n+x\r\n", "expected '$', got '+'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$99999999999\r\n", "invalid bulk length"),
        (b"*1\r\n$01\r\n", "invalid bulk length"),
        (b'get "a\r\n', "unbalanced quotes in request"),
        (b"x" * 65537, "too big inline request"),
        (b"*" + b"1" * 65537, "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 65537, "too big bulk count string"),
    ],
)
def test_protocol_errors(data: bytes, error: str) -> None:
    """As Redis has them."""
    assert parsed(b"PING\r\n" + data) == ([[b"PING"]], f"Protocol error: {error}")


def test_limits_before_authentication() -> None:
    """Who has not said who it is gets little room."""
    eleven = request([b"x"] * 11)
    assert parsed(eleven, UNAUTHENTICATED)[1] == "Protocol error: unauthenticated multibulk length"
    large = request([b"x" * 16385])
    assert parsed(large, UNAUTHENTICATED)[1] == "Protocol error: unauthenticated bulk length"
    assert parsed(large)[1] is None


def test_query_limit() -> None:
    """Many large arguments together have a limit."""
    data = request([b"x" * 600] * 3)
    assert parsed(data, Limits(bulk=1000, query=1500))[1] is not None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"set a  b", [b"set", b"a", b"b"]),
        (rb'"a\x41\n" ' + rb"'it\'s'", [b"aA\n", b"it's"]),
        (b'"a"b', None),
        (b"", []),
    ],
)
def test_inline_words(line: bytes, words: list[bytes] | None) -> None:
    """Quoted as in a shell."""
    assert split_words(line) == words


@pytest.mark.parametrize(
    ("reply", "resp2", "resp3"),
    [
        ("OK", b"+OK\r\n", b"+OK\r\n"),
        (b"\r\n", b"$2\r\n\r\n\r\n", b"$2\r\n\r\n\r\n"),
        (300, b":300\r\n", b":300\r\n"),
        (None, b"$-1\r\n", b"_\r\n"),
        (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (3.2, b"$18\r\n3.2000000000000002\r\n", b",3.2000000000000002\r\n"),
        (-math.inf, b"$4\r\n-inf\r\n", b",-inf\r\n"),
        (Error("ERR a\nb"), b"-ERR a b\r\n", b"-ERR a b\r\n"),
        ([1, [b"a"]], b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n", b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n"),
        (Pairs([b"k", 1]), b"*2\r\n$1\r\nk\r\n:1\r\n", b"%1\r\n$1\r\nk\r\n:1\r\n"),
        ({b"k": 1}, b"*2\r\n$1\r\nk\r\n:1\r\n", b"%1\r\n$1\r\nk\r\n:1\r\n"),
        (Unordered([1]), b"*1\r\n:1\r\n", b"~1\r\n:1\r\n"),
        (Push([1]), b"*1\r\n:1\r\n", b">1\r\n:1\r\n"),
        (Verbatim(b"hi"), b"$2\r\nhi\r\n", b"=6\r\ntxt:hi\r\n"),
    ],
)
def test_replies(reply: Reply, resp2: bytes, resp3: bytes) -> None:
    """Each type in both versions."""
    assert encode(reply, 2) == resp2
    assert encode(reply, 3) == resp3
