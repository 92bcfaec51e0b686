"""Redis's glob patterns."""

import time

import pytest

from cachesim.embedded.redis.keyspace.globs import matcher
from tests.embedded.redis.differential import Pair

NAMES = (b"a", b"abc", b"a*c", b"a[c", b"axxc", b"abcabc", b"\\", b"-", b"]", b"^")
PATTERNS = (
    b"*", b"a*", b"*c", b"a?c", b"a*c*c", b"a\\*c", b"[abc]", b"[^abc]", b"[a-c]", b"[c-a]",
    b"[a", b"[]]", b"[\\]]", b"\\\\", b"a[", b"**a**", b"?", b"", b"[-]", b"a[\\[]c",
)  # fmt: skip


def test_patterns_match_as_in_redis(real: int) -> None:
    """KEYS finds the same keys as in a real Redis."""
    with Pair(real, 2) as pair:
        for name in NAMES:
            assert pair.differ((b"SET", name, b"v")) is None
        for pattern in PATTERNS:
            assert pair.differ((b"KEYS", pattern)) is None, pattern


@pytest.mark.parametrize("stars", [5, 50])
def test_many_stars_take_no_longer(stars: int) -> None:
    """The time does not explode with the number of stars."""
    matches = matcher(b"*a" * stars + b"b")
    begun = time.thread_time()
    assert not matches(b"a" * 2000)
    assert time.thread_time() - begun < 0.5
