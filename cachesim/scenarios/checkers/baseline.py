"""Gate: the run was steady before its first fault.

Rule: the baseline is at least 5 s long, real; at least 200 operations of each class were due in it;
each service has the share of good operations and of hits that the scenario asks for, by default 99
% good; and what is expected of unavailability and of the error budget holds in it. Else the run as
a whole is unknown, also if a checker fails.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cachesim.scenarios.checkers import error_budget, unavailability
from cachesim.scenarios.checkers.survey import ClassSurvey, OperationClass, classes_of, survey
from cachesim.scenarios.history import History, Span
from cachesim.scenarios.verdict import Result, Verdict, unknown

NAME = "baseline"
SECONDS = 5.0
OPERATIONS = 200
GOOD_SHARE = 0.99


@dataclass(frozen=True)
class Steady:
    """What the scenario asks of the baseline, by service, as shares from 0 to 1.

    Attributes:
        good: the share of good operations; `GOOD_SHARE` for a service that is not in it.
        hit_rate: the share of reads that find something.
    """

    good: Mapping[str, float] = field(default_factory=dict)
    hit_rate: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def by_service(cls, services: Mapping[str, Mapping[str, float]]) -> "Steady":
        """Return what plain values ask: `{"sessions": {"good": 0.999, "hit_rate": 0.8}}`."""
        return cls(
            {name: asked["good"] for name, asked in services.items() if "good" in asked},
            {name: asked["hit_rate"] for name, asked in services.items() if "hit_rate" in asked},
        )


def check(
    history: History, steady: Steady | None = None, expected: Iterable[object] = ()
) -> Verdict:
    """Return whether the run was steady before its first fault.

    Args:
        expected: the expectations of the run.
    """
    span = history.baseline
    if span is None:
        return unknown(NAME, "no baseline was recorded")
    length = span.end - span.begin
    if length < SECONDS:
        return unknown(NAME, f"it was {length:.3g} s long, and {SECONDS:g} s are needed")
    problems = [
        problem
        for name, found in history.compute(survey).items()
        for problem in _problems(name, found, steady or Steady())
    ]
    if not history.compute(survey):
        problems.append("no operation was due")
    for it in expected:
        problems += _unmet(history, span, it)
    if problems:
        return unknown(NAME, f"not steady before the first fault: {'; '.join(problems)}")
    return Verdict(NAME, Result.PASS, length, length, "s", None, "steady before the first fault")


def _problems(name: OperationClass, found: ClassSurvey, steady: Steady) -> list[str]:
    due = found.baseline_due
    if due < OPERATIONS:
        return [f"{due} operations of {name}, and {OPERATIONS} are needed"]
    problems = []
    good, wanted = 1 - found.baseline_bad / due, steady.good.get(name.service, GOOD_SHARE)
    if good < wanted:
        problems.append(f"{good:.2%} of {name} were good, and {wanted:.2%} should be")
    hits, wanted = found.baseline_hits / due, steady.hit_rate.get(name.service, 0.0)
    if name.kind == "read" and hits < wanted:
        problems.append(f"{hits:.2%} of {name} were hits, and {wanted:.2%} should be")
    return problems


def _unmet(history: History, span: Span, expectation: object) -> list[str]:
    """Return which of the expectations of the run do not even hold in its baseline."""
    every = history.compute(survey)
    if isinstance(expectation, unavailability.Expectation) and expectation.longest is not None:
        return [
            f"{name} was not served for {outage.low:.3g} s"
            for name in classes_of(history, expectation.service, expectation.kind)
            for outage in every[name].all.outages(history.end_at)
            if outage.counts and outage.begin < span.end and outage.low > expectation.longest
        ]
    if isinstance(expectation, error_budget.Expectation):
        return [
            f"{found.baseline_bad} of {found.baseline_due} {name} were bad"
            for name in classes_of(history, expectation.service, expectation.kind)
            for found in [every[name]]
            if found.baseline_bad > expectation.max * found.baseline_due
        ]
    return []
