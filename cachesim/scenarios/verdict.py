"""Verdicts: what a checker says of a history, and what all of them say of the run."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Result(StrEnum):
    """A verdict in one word. What the evidence does not decide is unknown."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """What one checker says.

    Attributes:
        name: the checker, with the class of operations if it judges one: `recovery`,
            `unavailability: sessions.write`.
        result: the verdict.
        low: the least that the figure may be, in `unit`. None: there is no figure.
        high: the most that the figure may be; it may be infinite.
        unit: of the figure: `s`, `writes`, `share`, `connections/s`, or empty.
        threshold: what the figure must not exceed. None: nothing is expected of it.
        reason: one sentence on how the verdict came about.
        details: further figures by name, as JSON has them but for infinite numbers.
    """

    name: str
    result: Result
    low: float | None = None
    high: float | None = None
    unit: str = ""
    threshold: float | None = None
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON. An infinite figure is null, with `unbounded` true."""
        return {
            "name": self.name,
            "result": str(self.result),
            "low": _finite(self.low),
            "high": _finite(self.high),
            "unbounded": self.high == float("inf"),
            "unit": self.unit,
            "threshold": self.threshold,
            "reason": self.reason,
            "details": _finite(self.details),
        }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if value in (float("inf"), float("-inf")) else value


def unknown(name: str, reason: str, **more: Any) -> Verdict:
    """Return a verdict that is unknown.

    Args:
        name: the checker.
        reason: why.
        more: further attributes of `Verdict`.
    """
    return Verdict(name, Result.UNKNOWN, reason=reason, **more)


def against(
    name: str,
    low: float,
    high: float,
    unit: str,
    threshold: float,
    reason: str = "",
    details: dict[str, Any] | None = None,
) -> Verdict:
    """Return the verdict on a figure that must not exceed a threshold.

    It passes if all of the interval is within the threshold, fails if none of it is, and is unknown
    if the threshold lies inside.

    Args:
        reason: why, if it is unknown.
    """
    if high <= threshold:
        result, text = Result.PASS, "within the threshold"
    elif low > threshold:
        result, text = Result.FAIL, "above the threshold"
    else:
        result, text = Result.UNKNOWN, reason or "the threshold lies inside the interval"
    return Verdict(name, result, low, high, unit, threshold, text, details or {})


def combine(
    gates: Sequence[Verdict], verdicts: Sequence[Verdict], interrupted: str | None = None
) -> Verdict:
    """Return the verdict on a run.

    A run that was not steady before its first fault is unknown. Else it fails if one of its
    verdicts fails, is unknown if one of them is, if it was cut short or if nothing was expected of
    it, and passes if all pass.

    Args:
        gates: the verdict on the time before the first fault, and those of the other gates.
        verdicts: those of the checkers.
        interrupted: why the run was cut short, if it was.
    """
    baseline, *others = gates
    if baseline.result is not Result.PASS:
        return unknown("run", f"{baseline.name}: {baseline.reason}")
    found = [*others, *verdicts]
    for result in (Result.FAIL, Result.UNKNOWN):
        because = [f"{it.name}: {it.reason}" for it in found if it.result is result]
        if because:
            return Verdict("run", result, reason="; ".join(because))
    if interrupted:
        return unknown("run", f"cut short: {interrupted}")
    if not verdicts:
        return unknown("run", "nothing was expected of it")
    return Verdict("run", Result.PASS, reason="all that was expected holds")
