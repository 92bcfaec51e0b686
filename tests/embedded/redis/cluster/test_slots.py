"""Sets of slots."""

import pytest

from cachesim.embedded.redis.cluster.slots import ALL_SLOTS, slot_ranges


@pytest.mark.parametrize(
    ("slots", "expected"),
    [(0, []), (5, [(0, 0), (2, 2)]), (ALL_SLOTS, [(0, 16383)]), (6, [(1, 2)])],
    ids=["none", "gaps", "all", "inner"],
)
def test_slot_ranges(slots: int, expected: list[tuple[int, int]]) -> None:
    """A bit mask as ranges."""
    assert slot_ranges(slots) == expected
