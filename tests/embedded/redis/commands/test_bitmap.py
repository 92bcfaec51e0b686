"""Bits of strings, and their errors, compared with a real Redis."""

from collections.abc import Callable

import pytest

Agree = Callable[..., None]
_DATA = ("SET a{t} foobar EX 100000", "SET b{t} ab", "SET n{t} 10", "RPUSH l{t} x")


@pytest.mark.parametrize(
    "request_",
    [
        "BITFIELD a{t} SET u8 0 255 GET u4 0 INCRBY i5 3 100", "BITFIELD a{t} GET u8 #1 GET i64 40",
        "BITFIELD z{t} OVERFLOW SAT INCRBY u2 100 9 OVERFLOW FAIL INCRBY u2 100 9",
        "BITFIELD z{t} OVERFLOW FAIL SET u2 100 9", "BITFIELD z{t} SET i8 0 200 GET i8 0",
        "BITFIELD l{t} GET u8 -1", "BITFIELD l{t} GET u65 0", "BITFIELD a{t} SET u8 0",
        "BITFIELD a{t} OVERFLOW FOO", "BITFIELD l{t} GET u8 0", "BITFIELD z{t} GET u8 0",
        "BITFIELD a{t} SET u63 0 -1", "BITFIELD_RO a{t} GET i65 0 SET u8 0 1",
        "BITFIELD_RO a{t} SET u8 0 1", "BITFIELD_RO a{t} GET u8 0", "BITFIELD_RO a{t} OVERFLOW SAT",
        "BITOP FOO d{t} a{t}", "BITOP NOT d{t} a{t} b{t}", "BITOP NOT d{t} b{t}",
        "BITOP AND d{t} a{t} b{t}", "BITOP OR a{t} none{t}", "BITOP XOR d{t} a{t} b{t} n{t}",
        "BITOP OR d{t} a{t} l{t}", "BITCOUNT a{t} 1 -2 BIT", "BITCOUNT a{t} 5 1",
        "BITCOUNT a{t} -1 -5 FOO", "BITCOUNT a{t} 1", "BITCOUNT l{t} x", "BITCOUNT none{t} x y",
        "BITPOS a{t} 1 2 -1 BIT", "BITPOS a{t} 0", "BITPOS a{t} 2", "BITPOS none{t} 0",
        "BITPOS a{t} 1 9", "BITPOS a{t} 1 0 -1 FOO", "BITPOS b{t} 0 1 -1", "BITPOS l{t} 1",
        "SETBIT a{t} 100 1", "SETBIT a{t} 0 0", "SETBIT a{t} 0 2", "SETBIT l{t} -1 1",
        "GETBIT a{t} 1", "GETBIT a{t} 4294967296", "GETBIT l{t} 1", "GETBIT n{t} 2",
    ],
)  # fmt: skip
def test_replies(agree: Agree, request_: str) -> None:
    """Replies, errors and what is stored are Redis's."""
    agree(*_DATA, request_, "GET a{t}", "GET d{t}", "GET z{t}", "TYPE z{t}", "TTL a{t}", "DBSIZE")
