"""Many broken requests. `python -m tests.embedded.memcached.mutations` sends more."""

import random

import pytest

from tests.embedded.memcached.mutations import give, new_server, try_many
from tests.embedded.mutations import HANG

pytestmark = pytest.mark.usefixtures("_small_heap")


def test_nothing_crashes_or_hangs() -> None:
    """Any input is answered or refused quickly."""
    hung, _ = try_many(3000, seed=random.randrange(2**32))
    assert not hung


def test_many_bytes_of_a_kind() -> None:
    """Input that would be much work for a naive server is quick."""
    server, r = new_server(), random.Random(1)
    zeros = b"0" * 400_000
    for data in (
        b"set n 0 0 400000\r\n" + zeros + b"\r\n" + b"incr n 1\r\n" * 20,
        b"set n 0 0 400000\r\n" + b" " * 400_000 + b"\r\n" + b"incr n 1\r\n" * 20,
        b"get " + b"a " * 1_000_000 + b"\r\n",
        b"get " + b"k" * 3_000_000 + b"\r\n",
        b"\0" * 10_000_000,
        b"\n" * 300_000,
        b"mn\r\n" * 300_000,
        b"mg " + b" " * 15_000 + b"\r\n",
        b"set a 0 0 2147483645\r\n" + bytes(20_000_000),
        b"set a 0 0 5\r\n" * 50_000,
        b"incr a " + b"9" * 16_000 + b"\r\n",
    ):
        assert give(server, data, r) < HANG, data[:40]
