"""RESP replies in both versions of the protocol."""

import math

import pytest

from cachesim.protocols.resp import (
    NULL_ARRAY,
    Error,
    Pairs,
    Push,
    Reply,
    Unordered,
    Verbatim,
    encode,
)


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
    """Each type is encoded for both versions."""
    assert encode(reply, 2) == resp2
    assert encode(reply, 3) == resp3
