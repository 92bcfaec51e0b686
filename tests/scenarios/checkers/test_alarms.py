"""Whether alarms fired, and when."""

from typing import Any

import pytest

from cachesim.history.rows import Step
from cachesim.scenarios.checkers import alarms
from cachesim.scenarios.checkers.alarms import Expectation
from cachesim.scenarios.verdict import Verdict
from tests.scenarios.histories import history_of, operation, times

FAULT = Step(
    "full", {"fault": "memory-fill", "nodes": ["redis-a"], "to": 1.0}, "redis-a",
    100.0, 100.1, 400.0, 400.1, {}, "applied",
)  # fmt: skip
OK, ALARM, NONE = "OK", "ALARM", "INSUFFICIENT_DATA"


def changes(*some: tuple[float, str]) -> list[dict[str, Any]]:
    """Changes of an alarm, at these times to these states."""
    found, old = [], NONE
    for at, new in some:
        found.append({"at": at, "old": old, "new": new})
        old = new
    return found


def verdict_on(
    some: list[dict[str, Any]],
    expectation: Expectation,
    *,
    empty: tuple[int, ...] = (),
    out_of_reach: str = "",
    end: float = 1000.0,
    speed: float = 1.0,
    again: float | None = None,
    missing: str = "missing",
    value: float | None = 5.0,
    stall: float = 0.0,
    **facts: Any,
) -> Verdict:
    """Return the verdict on a run with a fault at 100 s.

    Args:
        empty: the minutes in which no node had data.
        again: when another fault began.
        missing: what the alarm makes of missing data.
        value: what it saw last; None: no data.
        stall: the seconds that the minute after the fault took longer.
    """
    alarm = {
        "name": "an-alarm", "period": 300, "periods": 1, "changes": some, "actions": ["PagerDuty"],
        "out_of_reach": out_of_reach, "missing": missing, "value": value,
    }  # fmt: skip
    length = 60 / speed
    minutes: list[dict[str, Any]] = [
        {"begin": n * length, "end": (n + 1) * length, "nodes": [] if n in empty else ["redis-a"]}
        for n in range(int((end - stall) / length) + 1)
    ]
    for it in minutes:
        it["begin"] += stall if it["begin"] > 150 else 0
        it["end"] += stall if it["end"] > 150 else 0
    rows = [FAULT, *(operation(at) for at in times(0, end, 10))]
    if again is not None:
        rows.append(FAULT._replace(id="again", begin_call=again))
    meta = {"alarms": {"alarms": [alarm], "minutes": minutes}, "speed": speed, "end_at": end}
    with history_of(rows, **{**meta, **facts}) as history:
        return alarms.check(history, expectation)


FIRED = changes((60, OK), (420, ALARM), (720, OK))


@pytest.mark.parametrize(
    ("within", "result"),
    [(None, "pass"), (380, "pass"), (379, "unknown"), (261, "unknown"), (259, "fail")],
)
def test_fired(within: float | None, result: str) -> None:
    """It is the time from the first fault, and up to a minute less or more."""
    verdict = verdict_on(FIRED, Expectation("an-alarm", within=within))
    assert (verdict.result, verdict.low, verdict.high) == (result, 260, 380)
    assert verdict.details["fired_at"] == 420


@pytest.mark.parametrize(("stall", "low"), [(0, 260), (50, 260), (60, 200), (130, 140)])
def test_the_machine_stood_still(stall: float, low: float) -> None:
    """Minutes that went by within another one are none to an alarm, which fires later by them."""
    assert verdict_on(FIRED, Expectation("an-alarm"), stall=stall).low == low


@pytest.mark.parametrize(("stall", "low"), [(0, 1740), (4, 1620)])
def test_the_machine_stood_still_at_a_speed(stall: float, low: float) -> None:
    """Four seconds are two of production's minutes at speed 30."""
    some = changes((2, OK), (160, ALARM))
    found = verdict_on(some, Expectation("an-alarm"), end=200.0, speed=30.0, stall=stall)
    assert found.low == low


@pytest.mark.parametrize(("minute", "result"), [(0, "pass"), (2, "unknown"), (8, "pass")])
def test_minutes_that_matter(minute: int, result: str) -> None:
    """Those from the fault until it fired: before and after, readings may be missing."""
    assert verdict_on(FIRED, Expectation("an-alarm"), empty=(minute,)).result == result


@pytest.mark.parametrize(("stall", "result"), [(0, "fail"), (120, "unknown")])
def test_silent_while_the_machine_stood_still(stall: float, result: str) -> None:
    """An alarm that has not seen all minutes of its period may still fire."""
    some = changes((60, OK))
    assert verdict_on(some, Expectation("an-alarm"), end=480.0, stall=stall).result == result


def test_at_a_speed() -> None:
    """The time is production's."""
    some = changes((2, OK), (110, ALARM))
    verdict = verdict_on(some, Expectation("an-alarm"), end=200.0, speed=30.0)
    assert (verdict.low, verdict.high) == (240, 360)


def test_silent() -> None:
    """An alarm that had data and did not fire fails, with what keeps it from firing."""
    verdict = verdict_on(changes((60, OK)), Expectation("an-alarm"), out_of_reach="two vCPUs")
    assert verdict.result == "fail"
    assert "two vCPUs" in verdict.reason


@pytest.mark.parametrize(
    ("some", "result"), [(changes((60, OK)), "pass"), (FIRED, "fail"), (changes(), "unknown")]
)
def test_is_not_to_fire(some: list[dict[str, Any]], result: str) -> None:
    """One that is not to fire passes only if it had data."""
    verdict = verdict_on(some, Expectation("an-alarm", fires=False))
    assert verdict.result == result
    assert result != "fail" or "PagerDuty" in verdict.reason


def test_another_alarm_before() -> None:
    """One that was in ALARM before the first fault tells nothing of it."""
    some = changes((60, ALARM), (200, OK), (400, ALARM))
    assert verdict_on(some, Expectation("an-alarm")).result == "unknown"
    again = changes((30, ALARM), (60, OK), (400, ALARM))
    assert verdict_on(again, Expectation("an-alarm")).result == "pass"


@pytest.mark.parametrize(("empty", "result"), [((3,), "unknown"), ((0,), "pass"), ((9,), "pass")])
def test_too_few_readings(empty: tuple[int, ...], result: str) -> None:
    """A minute without readings counts between the first fault and the alarm."""
    assert verdict_on(FIRED, Expectation("an-alarm"), empty=empty).result == result


@pytest.mark.parametrize(("at", "result"), [(300, "unknown"), (500, "pass"), (50, "pass")])
def test_cuts(at: float, result: str) -> None:
    """A hold that was cut counts between the first fault and the alarm."""
    cuts = [{"at": at, "seconds": 100.0}]
    assert verdict_on(FIRED, Expectation("an-alarm"), cuts=cuts).result == result


def test_ended_too_early() -> None:
    """Of a run that ended before the alarm's period was over, nothing is told."""
    verdict = verdict_on(changes((60, OK)), Expectation("an-alarm"), end=400.0)
    assert (verdict.result, "ended" in verdict.reason) == ("unknown", True)
    # It was to fire earlier than that.
    early = verdict_on(changes((60, OK)), Expectation("an-alarm", within=120), end=400.0)
    assert early.result == "fail"


@pytest.mark.parametrize(("end", "result"), [(279.0, "unknown"), (281.0, "fail")])
def test_late_by_less_than_a_minute(end: float, result: str) -> None:
    """An alarm that would have fired up to a minute too late may be in time in production."""
    expectation = Expectation("an-alarm", within=120)
    assert verdict_on(changes((60, OK)), expectation, end=end).result == result
    fired = verdict_on(changes((60, OK), (279, ALARM)), expectation)
    assert fired.result == "unknown"


@pytest.mark.parametrize(("end", "result"), [(459.0, "unknown"), (461.0, "pass")])
def test_ended_before_it_could_fire(end: float, result: str) -> None:
    """That an alarm did not fire tells nothing before its periods are over."""
    expectation = Expectation("an-alarm", fires=False)
    assert verdict_on(changes((60, OK)), expectation, end=end).result == result
    fired = changes((60, OK), (end - 1, ALARM))
    assert verdict_on(fired, expectation, end=end).result == "fail"


@pytest.mark.parametrize(
    ("end", "expectation", "result"),
    [
        (859.0, Expectation("an-alarm"), "unknown"),
        (861.0, Expectation("an-alarm"), "fail"),
        (859.0, Expectation("an-alarm", fires=False), "unknown"),
        (861.0, Expectation("an-alarm", fires=False), "pass"),
        # It is `within` a time from the first one.
        (859.0, Expectation("an-alarm", within=400), "fail"),
    ],
)
def test_ended_too_early_after_the_last_fault(
    end: float, expectation: Expectation, result: str
) -> None:
    """A later fault may be the one that lets it fire: its periods count from there."""
    assert verdict_on(changes((60, OK)), expectation, end=end, again=500).result == result


@pytest.mark.parametrize(
    ("missing", "value", "end", "result"),
    [
        # Three periods of 300 s without data, and up to a minute.
        ("breaching", None, 1059.0, "unknown"),
        ("breaching", None, 1061.0, "fail"),
        ("breaching", 5.0, 461.0, "fail"),
        ("notBreaching", None, 461.0, "fail"),
    ],
)
def test_missing_data_that_would_breach(
    missing: str, value: float | None, end: float, result: str
) -> None:
    """An alarm that takes missing data for a breach fires later, once all that it looks at is."""
    some, expectation = changes((60, OK)), Expectation("an-alarm")
    verdict = verdict_on(some, expectation, end=end, missing=missing, value=value)
    assert verdict.result == result


def test_no_record() -> None:
    """Without a record of the alarm, or without a fault, the verdict is unknown."""
    assert verdict_on(FIRED, Expectation("another")).result == "unknown"
    with history_of([operation(1)]) as history:
        assert alarms.check(history, Expectation("an-alarm")).result == "unknown"
