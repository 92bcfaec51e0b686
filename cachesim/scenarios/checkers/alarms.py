"""Alarms: which of them fired during the timeline, and how long after the first fault.

Rule: an alarm fires when its state changes to ALARM after the first fault began. The time is from
there to its first ALARM, in seconds of production. Minutes of production begin at any moment, so in
production it may be up to a minute less or more. While the machine stands still, minutes go by that
no alarm counts: by these it may be less.

Bound: what the scenario expects of each alarm: that it fires, `within` a time if one is given, or
that it does not, with `fires: false`.

Unknown: the alarm was in ALARM before the first fault; it never had data after it; in a minute that
matters there were fewer than three readings of every node, as at a high speed; a hold was cut
before it fired, or was to fire; the run ended before its periods were over, which may have begun
with the last fault; or the threshold lies inside the interval.
"""

from dataclasses import dataclass
from typing import Any

from cachesim.history.reader import History
from cachesim.monitoring.states import evaluation_range
from cachesim.scenarios.checkers.faults import applied
from cachesim.scenarios.verdict import Result, Verdict, against, unknown

NAME = "alarms"
MINUTE = 60.0
"""Seconds of production."""


@dataclass(frozen=True)
class Expectation:
    """What is expected of an alarm.

    Attributes:
        alarm: its name.
        fires: whether it fires.
        within: seconds of production from the first fault.
    """

    alarm: str
    fires: bool = True
    within: float | None = None

    @property
    def name(self) -> str:
        """The name of the verdict."""
        return f"{NAME}: {self.alarm}"


def check(history: History, expectation: Expectation) -> Verdict:
    """Return the verdict on an alarm."""
    name, facts = expectation.name, history.meta.get("alarms") or {}
    alarm = next((it for it in facts.get("alarms", ()) if it["name"] == expectation.alarm), None)
    if alarm is None:
        return unknown(name, "the run has no record of it")
    steps = history.compute(applied)
    if not steps or steps[0].begin_call is None:
        return unknown(name, "no fault was applied")
    begin = steps[0].begin_call
    fired_at = _fired(alarm, begin)
    details: dict[str, Any] = {
        "changes": alarm["changes"],
        "begin": begin,
        "fired_at": fired_at,
        "out_of_reach": alarm["out_of_reach"],
        "actions": alarm["actions"],
    }
    if _state_at(alarm, begin) == "ALARM":
        return unknown(name, "it was in ALARM before the first fault", details=details)
    end = history.end_at if fired_at is None else fired_at
    if reason := _why_unknown(history, facts, alarm, begin, end):
        return unknown(name, reason, details=details)
    if fired_at is None:
        begins = begin, steps[-1].begin_call or begin
        return _silent(history, facts, expectation, alarm, begins, details)
    if not expectation.fires:
        result, told = _paged(alarm)
        return Verdict(name, result, reason=told, details=details)
    seconds = (fired_at - begin) * history.speed
    low = max(0.0, seconds - MINUTE - _uncounted(history, facts, begin, fired_at))
    high = seconds + MINUTE
    if expectation.within is None:
        return Verdict(name, Result.PASS, low, high, "s", None, "it fired", details)
    return against(name, low, high, "s", expectation.within, details=details)


def _fired(alarm: dict[str, Any], begin: float) -> float | None:
    times = (it["at"] for it in alarm["changes"] if it["new"] == "ALARM" and it["at"] > begin)
    return next(times, None)


def _state_at(alarm: dict[str, Any], at: float) -> str:
    before = [it["new"] for it in alarm["changes"] if it["at"] <= at]
    return str(before[-1]) if before else "INSUFFICIENT_DATA"


def _why_unknown(
    history: History, facts: dict[str, Any], alarm: dict[str, Any], begin: float, end: float
) -> str | None:
    if any(begin <= cut["at"] <= end for cut in history.meta.get("cuts") or ()):
        return "a hold was cut; a run without cuts settles it"
    thin = [it for it in facts["minutes"] if it["begin"] < end and it["end"] > begin]
    if not thin or any(not it["nodes"] for it in thin):
        return "a minute has too few readings of every node; a lower speed settles it"
    states = {_state_at(alarm, begin), *(it["new"] for it in alarm["changes"] if it["at"] > begin)}
    if states == {"INSUFFICIENT_DATA"}:
        return "it had no data"
    return None


def _uncounted(history: History, facts: dict[str, Any], begin: float, end: float) -> float:
    """Return the seconds of whole minutes of production that went by within another one."""
    over = [it for it in facts["minutes"] if it["begin"] < end and it["end"] > begin]
    length = (over[-1]["end"] - over[0]["begin"]) * history.speed if over else 0.0
    return MINUTE * max(0.0, length // MINUTE - len(over))


def _paged(alarm: dict[str, Any]) -> tuple[Result, str]:
    to = " and ".join(alarm["actions"])
    return Result.FAIL, f"it fired, and went to {to}" if to else "it fired"


def _silent(
    history: History,
    facts: dict[str, Any],
    expectation: Expectation,
    alarm: dict[str, Any],
    begins: tuple[float, float],
    details: dict[str, Any],
) -> Verdict:
    """Return the verdict on an alarm that did not fire.

    Args:
        begins: when the first and the last fault began.
    """
    end = history.end_at
    lasted, last = (
        (end - at) * history.speed - _uncounted(history, facts, at, end) for at in begins
    )
    periods, within = alarm["periods"], expectation.within
    if alarm.get("missing") == "breaching" and alarm["value"] is None:
        periods = evaluation_range(periods)  # it fires once all of that is missing
    looks_at = alarm["period"] * periods
    if last < looks_at + MINUTE and (within is None or lasted < within + MINUTE):
        return unknown(
            expectation.name,
            f"the run ended {last:.0f} s after the last fault, and the alarm looks at {looks_at} s",
            details=details,
        )
    reason = "it did not fire"
    if not expectation.fires:
        return Verdict(expectation.name, Result.PASS, reason=reason, details=details)
    if alarm["out_of_reach"]:
        reason += f": {alarm['out_of_reach']}"
    return Verdict(
        expectation.name, Result.FAIL, lasted, float("inf"), "s", expectation.within, reason,
        details,
    )  # fmt: skip
