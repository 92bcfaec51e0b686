"""Metric math, and what is not understood of it."""

import pytest

from cachesim.monitoring.expressions import Expression

VALUES = {"m1": 6.0, "m2": 2.0, "gone": None}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("m1", 6),
        ("100 * m1 / (m1 + m2)", 75),
        ("-m1 + 2^3", 2),
        ("  100 * m1\n    / (m1 + m2)\n", 75),
        ("MAX([m1, m2])", 6),
        ("MIN(METRICS())", 2),
        ("SUM([m1, gone])", 6),
        ("AVG(METRICS())", 4),
        ("FILL(gone, 0) + 1", 1),
        ("MIN(FILL(METRICS(), 0))", 0),
        ("SUM(FILL([], 1), m1)", 6),
        ("gone + 1", None),
        ("m1 / (m2 - 2)", None),
        ("MAX([gone])", None),
        ("(-m1)^0.5", None),
        ("m1 * 1e308 * 10", None),
    ],
)
def test_value(text: str, value: float | None) -> None:
    """A missing operand and a division by zero are missing; functions leave missing ones out."""
    assert Expression(text).value(VALUES) == value


@pytest.mark.parametrize(
    "text",
    [
        "m1 +", "METRICS()", "[m1]", "m1 + METRICS()", "m1.real",
        "-METRICS()", "FILL([], 0)", "FILL(m1, METRICS())", "MAX([METRICS()])",
        "__import__('os')", "m1 if m2 else 0",
        "ANOMALY_DETECTION_BAND(m1)", "FILL(m1)", "'m1'", "m1 % m2", "MAX(m1, key=m2)",
    ],
)  # fmt: skip
def test_refused(text: str) -> None:
    """What is no such expression is refused, with the text."""
    with pytest.raises(ValueError, match=r".+"):
        Expression(text)


def test_names() -> None:
    """The ids of an expression are found, the functions are none."""
    assert Expression("MAX([m1, m2]) + m1").names == ("m1", "m2")
