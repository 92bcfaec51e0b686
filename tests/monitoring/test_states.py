"""The state of an alarm with missing data: the vectors of the documentation of CloudWatch."""

import pytest

from cachesim.monitoring.states import MissingData, State, evaluate, evaluation_range

TREATMENTS: tuple[MissingData, ...] = ("missing", "ignore", "breaching", "notBreaching")
NAMES = {"OK": State.OK, "ALARM": State.ALARM, "?": State.INSUFFICIENT_DATA, "keep": None}
POINTS = {"0": False, "X": True, "-": None}

VECTORS = [
    # M, N, points, then what each treatment makes of them.
    (3, 3, "0-X-X", "OK OK OK OK"),
    (3, 3, "0----", "OK OK OK OK"),
    (3, 3, "-----", "? keep ALARM OK"),
    (3, 3, "0XX-X", "ALARM ALARM ALARM ALARM"),
    (3, 3, "--X--", "ALARM keep ALARM OK"),
    (3, 3, "----X", "? keep ALARM OK"),
    (2, 3, "0-X-X", "ALARM ALARM ALARM ALARM"),
    (2, 3, "00X0X", "ALARM ALARM ALARM ALARM"),
    (2, 3, "0-X--", "OK OK ALARM OK"),
    (2, 3, "----0", "OK OK ALARM OK"),
    (2, 3, "----X", "? keep ALARM OK"),
    (2, 3, "---X-", "ALARM keep ALARM OK"),
    # Not from there: nothing is missing in the last ones, so what is before them does not count.
    (3, 3, "XX0XX", "OK OK OK OK"),
    (1, 1, "X-0", "OK OK OK OK"),
    (1, 1, "-X-", "ALARM ALARM ALARM ALARM"),
]


@pytest.mark.parametrize(("needed", "periods", "points", "states"), VECTORS)
def test_missing_data(needed: int, periods: int, points: str, states: str) -> None:
    """Each of the four ways of missing data gives the state of the documentation."""
    found = [evaluate([POINTS[it] for it in points], needed, periods, way) for way in TREATMENTS]
    assert found == [NAMES[it] for it in states.split()]


@pytest.mark.parametrize(("periods", "looks"), [(1, 3), (3, 5), (5, 7), (12, 16)])
def test_range(periods: int, looks: int) -> None:
    """An alarm looks at more periods than decide."""
    assert evaluation_range(periods) == looks
