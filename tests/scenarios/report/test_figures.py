"""Figures as text."""

import pytest

from cachesim.scenarios.report import figures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.0123, "12.3 ms"),
        (0.9996, "1 s"),
        (21.625, "21.6 s"),
        (100, "100 s"),
        (119.96, "2 min"),
        (125.4, "2 min 5 s"),
        (3599.7, "1 h"),
        (3900, "1 h 5 min"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    """A time has the unit that suits its size."""
    assert figures.seconds(value) == text


@pytest.mark.parametrize(
    ("low", "high", "unit", "text"),
    [
        (21.6, 22, "s", "21.6 to 22 s"),
        (21.61, 21.62, "s", "21.6 s"),
        (0.5, 1.5, "s", "500 ms to 1.5 s"),
        (90, 130, "s", "90 s to 2 min 10 s"),
        (3, None, "s", "3 s or more"),
        (3, float("inf"), "writes", "3 writes or more"),
        (0, 0, "writes", "0 writes"),
        (1000, 2000, "writes", "1,000 to 2,000 writes"),
        (0.001, 0.02, "share", "0.1 to 2 %"),
        (1, 2, "", "1 to 2"),
    ],
)
def test_interval(low: float, high: float | None, unit: str, text: str) -> None:
    """An interval has its unit once, if both ends have the same."""
    assert figures.interval(low, high, unit) == text
