"""Requests of Memcached's binary protocol."""

import random

import pytest

from cachesim.protocols.memcached import Request
from cachesim.protocols.memcached_binary import INVALID, UNKNOWN, BinaryRequestParser
from tests.embedded.memcached.binary import drawn, request


def parsed(*pieces: bytes, largest: int = 1024) -> tuple[list[Request], BinaryRequestParser]:
    """Return the requests in pieces of data, and the parser."""
    parser, found = BinaryRequestParser(largest), []
    for piece in pieces:
        parser.feed(piece)
        while some := parser.take():
            found += some
    return found, parser


def test_parts() -> None:
    """A request is a name, a header, extras and a key, and perhaps a value."""
    asked = request(0x01, b"key", b"extras..", b"value")
    assert parsed(asked)[0] == [([b"set", asked[:24], b"extras..", b"key"], b"value")]


@pytest.mark.parametrize(
    ("data", "name", "is_broken"),
    [
        (request(0x99, value=b"x"), UNKNOWN, False),
        (request(0x20), UNKNOWN, False),
        (request(0x00), INVALID, True),
        (request(0x00, b"k" * 251), INVALID, True),
        (request(0x01, b"k"), INVALID, True),
        (b"\x80\0\0\1" + bytes(21), UNKNOWN, True),
        (request(0x07), b"quit", True),
    ],
)
def test_odd_requests(data: bytes, name: bytes, is_broken: bool) -> None:
    """What can't be served has a name of its own, and may be the last one."""
    found, parser = parsed(data)
    assert [words[0] for words, _ in found] == [name]
    assert parser.is_broken == is_broken


def test_too_large() -> None:
    """A request with too large a value is told at once. The value is dropped, and no more."""
    asked = request(0x01, b"a", bytes(8), bytes(2000)) + request(0x0A)
    (first,), _ = parsed(asked[:100])
    assert first[1] is None
    found, parser = parsed(asked[:100], asked[100:1500], asked[1500:])
    assert [words[0] for words, _ in found] == [b"set", b"mn"]
    assert not parser.buffered


def test_no_request_at_all() -> None:
    """Another first byte ends it."""
    found, parser = parsed(request(0x0A) + b"get a\r\n" + bytes(24))
    assert len(found) == 1
    assert parser.is_broken


def test_any_pieces() -> None:
    """However the data is cut, the same requests come out."""
    r = random.Random(1)
    data = b"".join(drawn(r, lambda _key: 7) for _ in range(300))
    whole = parsed(data)[0]
    cuts = sorted(r.randrange(len(data)) for _ in range(400))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert parsed(*pieces)[0] == whole
