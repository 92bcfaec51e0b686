"""Broken requests in great number; `python -m tests.embedded.redis.mutations` sends more."""

import random

import pytest

from tests.embedded.mutations import HANG
from tests.embedded.redis.mutations import Target, try_many

pytestmark = pytest.mark.usefixtures("_small_heap")


def test_nothing_crashes_or_hangs() -> None:
    """Every input is answered or refused, and quickly."""
    hung, _ = try_many(3000, seed=random.randrange(2**32))
    assert not hung


def test_many_bytes_of_a_kind() -> None:
    """Inputs that are costly for a naive parser are not."""
    with Target() as target:
        for data in (
            b"*1000000\r\n" + b"$1\r\na\r\n" * 100_000,
            b"$" * 1_000_000,
            b"\r\n" * 300_000,
            b"\0" * 10_000_000,
            b"a " * 1_000_000,
            b'"' * 1_000_000 + b"\r\n",
            b"*1\r\n$536870912\r\n" + bytes(10_000_000),
            b"*0\r\n" * 200_000,
            b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$-5\r\n" * 10_000,
        ):
            assert target.give(data, random.Random(1)) < HANG, data[:40]
