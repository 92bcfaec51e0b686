"""Random members of a collection: SRANDMEMBER, HRANDFIELD, ZRANDMEMBER."""

import random
from collections.abc import Sequence

from cachesim.embedded.redis.keyspace.values import (
    HIGHEST,
    LOWEST,
    MOST_RANDOM,
    SYNTAX,
    integer,
)
from cachesim.protocols.resp import Error

_OUT_OF_RANGE = "ERR value is out of range"


def count_of(words: Sequence[bytes], option: bytes | None = None) -> tuple[int, bool]:
    """Read `count [option]`. Return the count, and whether the option is there.

    Raises:
        Error: the count is out of range, or there is another option.
    """
    count = integer(words[0])
    if count == LOWEST:
        raise Error(f"{_OUT_OF_RANGE}, value must between -{HIGHEST} and {HIGHEST}")
    if len(words) == 1:
        return count, False
    if len(words) > 2 or words[1].lower() != option:
        raise Error(SYNTAX)
    if not -(HIGHEST // 2) <= count <= HIGHEST // 2:
        raise Error(_OUT_OF_RANGE)
    return count, True


def picked(members: list[bytes], count: int) -> list[bytes]:
    """Return random members; with repetitions if the count is negative.

    Raises:
        Error: the count is too large.
    """
    if not members:
        return []
    if count >= 0:
        return members if count >= len(members) else random.sample(members, count)
    if -count > MOST_RANDOM:
        raise Error(_OUT_OF_RANGE)
    return random.choices(members, k=-count)
