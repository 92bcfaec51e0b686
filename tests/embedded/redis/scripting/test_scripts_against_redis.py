"""Scripts, compared with a real Redis 7.0."""

import pytest

from tests.embedded.redis.differential import Pair
from tests.embedded.redis.scripting.script_mutations import SCRIPTS


@pytest.mark.parametrize("resp", [2, 3])
def test_against_redis(real: int, resp: int) -> None:
    """Every reply is the same, errors included."""
    with Pair(real, resp) as pair:
        pair.real(b"FLUSHALL")
        for script in SCRIPTS.read_bytes().splitlines():
            assert pair.differ((b"EVAL", script, b"1", b"{t}k", b"v")) is None, script
