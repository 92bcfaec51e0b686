"""Percentiles, everywhere by the same rule."""

from collections.abc import Sequence
from math import ceil


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the least of some values that a share of them, from 0 to 1, does not exceed.

    It is one of the values, by the nearest rank: p99 of 100 is the second largest.

    Args:
        ordered: at least one, in ascending order.
    """
    return ordered[max(ceil(share * len(ordered)), 1) - 1]
