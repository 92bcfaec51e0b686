"""Gate: the run was steady before its first fault.

Rule: the baseline is at least 5 s long, real; at least 200 operations of each class were due in it,
but for classes that nothing is expected of and that are less than 5 % of their service; each
service, and each that the scenario asks of, has the share of good operations and of hits that it
asks for, by default 99 % good; and what is expected of unavailability, of the error budget, of the
hit rate and of the origin's loads holds in it. Else the run as a whole is unknown, also if a
checker fails. Of a command that reports no operations the exit code alone is judged.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cachesim.history.outages import Track
from cachesim.history.reader import History, Span
from cachesim.scenarios.checkers import command, error_budget, herd, hit_rate, unavailability
from cachesim.scenarios.checkers.remap import around
from cachesim.scenarios.checkers.survey import ClassSurvey, OperationClass, classes_of, survey
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
    history: History, steady: Steady | None = None, expected: Collection[object] = ()
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
    problems = _rare(history, expected)
    steady = steady or Steady()
    services = {name.service for name in history.compute(survey)}
    for service in sorted({*services, *steady.good, *steady.hit_rate}):
        problems += _problems(history, service, steady)
    if not history.compute(survey):
        if command.applies(history):
            reason = "the command reported no operations: its exit code alone tells"
            return Verdict(NAME, Result.PASS, length, length, "s", None, reason)
        problems.append("no operation was due")
    for it in expected:
        problems += _unmet(history, span, it)
    if problems:
        return unknown(NAME, f"not steady before the first fault: {'; '.join(problems)}")
    return Verdict(NAME, Result.PASS, length, length, "s", None, "steady before the first fault")


def _rare(history: History, expected: Collection[object]) -> list[str]:
    """Return which classes that are to be judged had too few operations."""
    every = history.compute(survey)
    names = {name for it in every for name in classes_of(history, it.service, None)}
    for it in expected:
        if isinstance(it, unavailability.Expectation | error_budget.Expectation):
            names.update(classes_of(history, it.service, it.kind))
    return [
        f"{every[name].baseline_due} operations of {name}, and {OPERATIONS} are needed"
        for name in sorted(names)
        if every[name].baseline_due < OPERATIONS
    ]


def _problems(history: History, service: str, steady: Steady) -> list[str]:
    """Return what a service lacks of what is asked of it."""
    found = {it: its for it, its in history.compute(survey).items() if it.service == service}
    due = sum(it.baseline_due for it in found.values())
    if not found:
        return [f"no operation of {service} was due"]
    good = 1 - sum(it.baseline_bad for it in found.values()) / max(due, 1)
    problems = []
    if good < (wanted := steady.good.get(service, GOOD_SHARE)):
        problems.append(f"{good:.2%} of {service} were good, and {wanted:.2%} should be")
    reads = found.get(OperationClass(service, "read"), ClassSurvey(Track(0)))
    hits = reads.baseline_hits / max(reads.baseline_due, 1)
    if hits < (wanted := steady.hit_rate.get(service, 0.0)):
        problems.append(f"{hits:.2%} of {service}.read were hits, and {wanted:.2%} should be")
    return problems


def _unmet(history: History, span: Span, expectation: object) -> list[str]:
    """Return which of the expectations of the run do not even hold in its baseline."""
    every = history.compute(survey)
    if isinstance(expectation, unavailability.Expectation):
        return [
            problem
            for name in classes_of(history, expectation.service, expectation.kind)
            for problem in _outages(history, span, expectation, name)
        ]
    if isinstance(expectation, error_budget.Expectation):
        return [
            f"{found.baseline_bad} of {found.baseline_due} {name} were bad"
            for name in classes_of(history, expectation.service, expectation.kind)
            for found in [every[name]]
            if found.baseline_bad > expectation.max * found.baseline_due
        ]
    if isinstance(expectation, hit_rate.Expectation):
        name = OperationClass(expectation.service, "read")
        reads = every.get(name, ClassSurvey(Track(0)))
        hits, due = reads.baseline_hits, reads.baseline_due
        # Without any version, the client does not tell them.
        is_less = hits and around(due - hits, due)[0] > 1 - expectation.min
        return [f"{hits / due:.2%} of {name} were hits"] if is_less else []
    if isinstance(expectation, herd.Expectation):
        return _loads(history, span, expectation)
    return []


def _outages(
    history: History, span: Span, expected: unavailability.Expectation, name: OperationClass
) -> list[str]:
    outages = [
        it.low
        for it in history.compute(survey)[name].all.outages(history.end_at)
        if it.begin < span.end
    ]
    limits = ((expected.longest, max(outages, default=0.0)), (expected.total, sum(outages)))
    return [
        f"{name} was not served for {seconds:.3g} s"
        for limit, seconds in limits
        if limit is not None and seconds > limit
    ]


def _loads(history: History, span: Span, expected: herd.Expectation) -> list[str]:
    found = herd.loads_of(history, *span)
    figures = (
        (expected.same_key, found.same_key, "loads of one key were under way at once"),
        (expected.loads, found.peak, "loads began within a second"),
        (expected.refused, found.refused, "loads were refused"),
    )
    return [
        f"{figure} {what}"
        for limit, figure, what in figures
        if limit is not None and figure > limit
    ]
