"""The gate on sampling: four gaps between operations, times the speed where figures scale."""

import pytest

from cachesim.scenarios.checkers.resolution import why_too_thin


@pytest.mark.parametrize(
    ("threshold", "gap", "scale", "thin"),
    [
        (0.2, 0.05, 1, False),  # 20 writes a second tell 200 ms
        (0.19, 0.05, 1, True),
        (6.0, 0.05, 30, False),  # at a speed of 30, 6 s
        (5.9, 0.05, 30, True),
        (0.1, 0.0, 30, False),
    ],
)
def test_four_gaps(threshold: float, gap: float, scale: float, thin: bool) -> None:
    """A threshold below four gaps can't be judged, and the reason says what could."""
    why = why_too_thin(threshold, gap, scale)
    assert bool(why) == thin
    assert why is None or "50 ms" in why
