"""The state of an alarm, from its last datapoints. Pure.

Source: "Configuring how CloudWatch alarms treat missing data" in the Amazon CloudWatch user guide,
and the examples there.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

MissingData = Literal["missing", "notBreaching", "breaching", "ignore"]
"""What an alarm makes of missing data."""


class State(StrEnum):
    """The state of an alarm."""

    OK = "OK"
    ALARM = "ALARM"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"


def evaluation_range(periods: int) -> int:
    """Return how many periods an alarm looks at, to decide on the last ones of them."""
    return periods + max(periods // 3, 2)


def evaluate(
    points: Sequence[bool | None], needed: int, periods: int, missing: MissingData
) -> State | None:
    """Return the state of an alarm.

    Args:
        points: of the evaluation range, the oldest first: whether each breaches the threshold;
            None: missing.
        needed: how many have to breach (M).
        periods: of how many (N).
        missing: what is made of missing data.

    Returns:
        The state; None: as it was.
    """
    real = [it for it in points if it is not None]
    if not real:
        return {
            "missing": State.INSUFFICIENT_DATA,
            "ignore": None,
            "breaching": State.ALARM,
            "notBreaching": State.OK,
        }[missing]
    if len(real) >= periods:
        return _decided(sum(real[-periods:]) >= needed)
    breaching = sum(real)
    match missing:
        case "breaching":
            return _decided(breaching + periods - len(real) >= needed)
        case "notBreaching":
            return _decided(breaching >= needed)
    if breaching >= needed:
        return State.ALARM
    if breaching < len(real):
        return State.OK
    if missing == "ignore":
        return None
    # All that is there breaches, but it is too little. It is enough once it is old.
    age = len(points) - points.index(True)
    return State.ALARM if len(real) < needed <= age else State.INSUFFICIENT_DATA


def _decided(is_breaching: bool) -> State:
    return State.ALARM if is_breaching else State.OK
