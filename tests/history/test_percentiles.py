"""Percentiles by the nearest rank."""

import pytest

from cachesim.history.percentiles import percentile


@pytest.mark.parametrize(
    ("count", "share", "rank"),
    [
        (1, 0.5, 1),
        (1, 0.99, 1),
        (2, 0.5, 1),
        (3, 0.5, 2),
        (99, 0.99, 99),
        (100, 0.99, 99),
        (101, 0.99, 100),
        (7, 0.0, 1),
        (7, 1.0, 7),
    ],
)
def test_percentile(count: int, share: float, rank: int) -> None:
    """It is one of the values: the least that the share does not exceed."""
    assert percentile(range(1, count + 1), share) == rank
