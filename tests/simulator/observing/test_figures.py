"""The figures of an observation, and how they compare."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from cachesim.history.rows import Operation
from cachesim.simulator.observing.figures import (
    Figures,
    Latency,
    Seconds,
    errors_of,
    latency_of,
    worst,
)

INFINITE = float("inf")


def operation(due: float, outcome: Any, error: str | None = None, takes: float = 0.0) -> Operation:
    """An operation that begins when it is due."""
    return Operation("p", 0, "redis", "read", "k", due, due, due + takes, outcome, error=error)


def figures(outcomes: str, every: float = 0.1) -> Figures:
    """Figures of operations from time 0: `.` is good, `x` an error, `l` late, `s` shed."""
    kinds: dict[str, tuple[Any, ...]] = {
        ".": ("ok",),
        "x": ("info", "TimeoutError"),
        "l": ("ok", None, 1.5),
        "s": ("shed",),
    }
    found = [operation(number * every, *kinds[it]) for number, it in enumerate(outcomes)]
    return Figures("redis reads", found, 0.0, len(outcomes) * every, every, 1.0)


@pytest.mark.parametrize(
    ("outcomes", "longest", "total"),
    [
        ("....", (0, 0), (0, 0)),
        ("..x...", (0, 0.2), (0, 0.2)),
        ("..xx....", (0.1, 0.3), (0.1, 0.3)),
        ("..lss....", (0.2, 0.4), (0.2, 0.4)),
        ("..xx....." + "xxx....", (0.2, 0.4), (0.3, 0.7)),
        ("xx...", (0.1, 0.2), (0.1, 0.2)),
    ],
)
def test_outage(outcomes: str, longest: Any, total: Any) -> None:
    """From the first bad one to the last, or from the good one before to the good one after."""
    it = figures(outcomes)
    assert it.longest() == pytest.approx(longest)
    assert it.total() == pytest.approx(total)
    assert not it.is_in_outage


@pytest.mark.parametrize("outcomes", ["..xx", "..xx..", "xxxx"])
def test_an_outage_that_has_not_ended(outcomes: str) -> None:
    """It may be of any length from what was seen: no comparison with a limit may hold."""
    it = figures(outcomes)
    assert it.is_in_outage
    assert it.longest()[1] == it.total()[1] == INFINITE


def test_few_errors_are_no_long_outage() -> None:
    """Less than 5 % of bad ones, however often, are each alone."""
    it = figures(("x" + "." * 49) * 4 + "x...", every=0.004)
    assert it.longest() == pytest.approx((0, 0.008))
    assert it.errors.total() == 5
    it = figures(("x" + "." * 9) * 4 + "x...", every=0.004)
    assert it.longest() == pytest.approx((0.16, 0.164))


def test_nothing_is_known() -> None:
    """Without any operation, an outage may have any length."""
    assert figures("").longest() == (0, INFINITE)
    assert worst([]) == (0, INFINITE)


@pytest.mark.parametrize(
    ("outcomes", "at", "until", "recovered"),
    [
        ("..xxxx....", 0.35, INFINITE, (0.15, 0.25)),  # it ended between 0.5 and 0.6
        ("..xx......", 0.65, INFINITE, (0.0, 0.05)),  # it had ended before
        ("..xx..........xx....", 0.25, INFINITE, (1.25, 1.35)),  # the last one
        ("..xx..........xx....", 0.25, 1.0, (0.05, 0.15)),  # the last one before the next fault
        ("..xx..........xx....", 0.25, 1.45, (0.05, 0.15)),  # it was under way at the next fault
        ("..xxxx", 0.35, INFINITE, (0.15, INFINITE)),  # it goes on
        ("......", 0.65, INFINITE, (0.0, INFINITE)),  # nothing was seen after it
    ],
)
def test_recovery(outcomes: str, at: float, until: float, recovered: Any) -> None:
    """From a time to the end of the last outage after it."""
    assert figures(outcomes).recovered_after(at, until) == pytest.approx(recovered)


@pytest.mark.parametrize(
    ("takes", "until", "is_before"),
    [
        (0.2, 0.9, True),  # it failed at 0.7
        (0.5, 0.9, False),  # it was under way, and may have failed through the next fault
        (None, 1.7, True),  # without an answer since 0.5, which was too late at 1.5
        (None, 1.5, False),
    ],
)
def test_recovery_before_another_fault(takes: float | None, until: float, is_before: bool) -> None:
    """An outage whose first operation was under way at the next fault may be that one's doing."""
    it = figures("..........")
    first = operation(0.5, "info", "TimeoutError", takes or 0.0)
    rows = list(it.operations)
    rows[5] = first if takes else first._replace(end=None)
    found = replace(it, operations=rows).recovered_after(0.25, until)
    assert found == pytest.approx((0.25, 0.35) if is_before else (0.0, 0.05))


def test_errors() -> None:
    """They are counted by name; late and shed ones are errors too."""
    assert figures("..xxl.s").errors == {"TimeoutError": 2, "late": 1, "shed": 1}
    hung = operation(0, "info")._replace(end=None)
    assert errors_of([hung]) == {"unanswered": 1}


def test_latency() -> None:
    """Of answers, also of late ones, from when they were due."""
    assert figures("..l").latencies == pytest.approx([0, 0, 1.5])
    assert latency_of([0.1 * number for number in range(1, 101)]) == pytest.approx((5.0, 9.9, 10.0))
    assert latency_of([]) == Latency(INFINITE, INFINITE, INFINITE)


def test_comparisons_hold_for_all_of_it() -> None:
    """What the interval leaves open does not hold, neither way."""
    it = Seconds(2.9, 3.1)
    assert it < 3.2
    assert it > 2.8
    assert it <= 3.1
    assert it >= 2.9
    for wrong in (it < 3, it > 3, it <= 3, it >= 3, it == 3, it == 2.9, it < 2.9, it > 3.1):
        assert not wrong
    assert Seconds(1, 2) < Seconds(2.1, 3)
    assert not Seconds(1, 2.2) < Seconds(2.1, 3)
    assert Seconds(0, 0) == 0
    assert not Seconds(0, 0)
    assert Seconds(0, 0.1)
    assert Seconds(3, INFINITE) > 2
    assert not Seconds(3, INFINITE) < 1e9


def test_a_limit_that_can_not_be_told() -> None:
    """Operations every 0.5 s tell 2 s and more: less is an error of whoever asks."""
    it = Seconds(0, 0, gap=0.5)
    assert it < 2
    assert it == 0
    with pytest.raises(ValueError, match=r"every 0.5 s can't tell 1.9 s: .* every=0.475 or less"):
        _ = it < 1.9


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(1, 1.5, "1.00 to 1.50 s"), (0, 0, "0.00 s"), (2, INFINITE, "more than 2.00 s")],
)
def test_text(low: float, high: float, text: str) -> None:
    """It is shown as an interval."""
    assert str(Seconds(low, high)) == text
    assert Seconds(low, high, "the outage").explain() == f"the outage was {text}"


def test_worst() -> None:
    """The least and the most that the longest may be."""
    spans: Sequence[tuple[float, float]] = [(1, 5), (2, 3)]
    assert worst(spans) == (2, 5)
