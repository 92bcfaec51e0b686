"""RESP requests: any input gives requests or an error."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachesim.protocols.resp import request
from cachesim.protocols.resp_parser import UNAUTHENTICATED, Limits, RequestParser, split_words

WORDS = st.lists(st.binary(max_size=50) | st.just(b"\r\n$3\r\n"), min_size=1, max_size=70)


def parsed(data: bytes, limits: Limits | None = None) -> tuple[list[list[bytes]], str | None]:
    """Parse some bytes; return the requests, and the error that ended them."""
    parser = RequestParser(limits)
    parser.feed(data)
    return parser.take(), parser.error


@given(st.lists(WORDS, max_size=20), st.lists(st.integers(1, 200), max_size=30))
def test_pieces_of_any_size(requests: list[list[bytes]], cuts: list[int]) -> None:
    """Requests are the same however the input is cut, also with line ends in arguments."""
    data = b"".join(map(request, requests))
    parser = RequestParser()
    found: list[list[bytes]] = []
    fed = 0
    for size in [*cuts, len(data)]:
        parser.feed(data[:size])
        fed += len(data[:size])
        data = data[size:]
        found += parser.take()
        # A replica counts its offset by this.
        assert parser.buffered == fed - len(b"".join(map(request, found)))
    assert found == requests
    assert parser.error is None
    assert parser.buffered == 0


@given(st.lists(WORDS, min_size=1, max_size=10), st.integers(1, 4))
def test_takes_no_more_than_asked(requests: list[list[bytes]], most: int) -> None:
    """Requests beyond the number asked for are kept."""
    parser = RequestParser()
    parser.feed(b"".join(map(request, requests)))
    assert parser.take(most) == requests[:most]
    assert parser.take() == requests[most:]


def test_mutated_input_is_no_crash() -> None:
    """Any input gives requests or an error, and no more is kept than came."""
    r = random.Random(1)
    for _ in range(5_000):
        requests = [
            request([r.randbytes(r.choice((0, 3, 40))) for _ in range(r.choice((1, 3, 12)))])
            for _ in range(r.randint(0, 4))
        ]
        data = bytearray(b"".join(requests) or b"*1\r\n$4\r\nPING\r\n")
        for _ in range(r.randint(0, 8)):
            data[r.randrange(len(data))] = r.choice((r.randrange(256), *b"*$-\r\n0123456789 "))
        size = r.choice((1, 7, 100))
        parser = RequestParser(UNAUTHENTICATED)
        for at in range(0, len(data), size):
            parser.feed(bytes(data[at : at + size]))
            for words in parser.take():
                assert words, bytes(data)
        assert parser.buffered <= len(data), bytes(data)


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
    """Errors have the texts of Redis."""
    assert parsed(b"PING\r\n" + data) == ([[b"PING"]], f"Protocol error: {error}")


def test_limits_before_authentication() -> None:
    """Before authentication a client may send small requests only."""
    eleven = request([b"x"] * 11)
    assert parsed(eleven, UNAUTHENTICATED)[1] == "Protocol error: unauthenticated multibulk length"
    large = request([b"x" * 16385])
    assert parsed(large, UNAUTHENTICATED)[1] == "Protocol error: unauthenticated bulk length"
    assert parsed(large)[1] is None


def test_query_limit() -> None:
    """All arguments together have a limit."""
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
    """Inline requests are quoted as in a shell."""
    assert split_words(line) == words
