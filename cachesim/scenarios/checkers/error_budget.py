"""Error budget: the share of a class's operations that were bad.

Rule: bad operations divided by those that were due, over the whole run; `shed` and `info` are
errors of their own. The details have the share by error, and for each step while it was applied.
What was under way when the run ended counts both ways.

Bound: what the scenario expects, a share of 1.

At a speed above 1, the share of production: the windows that stopped the class count as long as the
time scale says (see `time_scale`), the bad operations outside them between as often as they were
and that times the speed, and the run's length is production's.

Unknown: the threshold lies inside the interval; a class that is not rare had nothing due for longer
than the deadline, and what was due in such a time in the baseline would be too much, as a client
that waits for each answer reports nothing while it hangs; the generator was unfit as a whole (see
`generator`), or what was due in spans that it spoiled decides; the profile is wrong; or no
operation of the class was due.
"""

from dataclasses import dataclass
from typing import Any, Literal

from cachesim.history.reader import History, Span
from cachesim.scenarios.checkers import generator, recovery
from cachesim.scenarios.checkers.faults import applied
from cachesim.scenarios.checkers.generator import union
from cachesim.scenarios.checkers.survey import OperationClass, begin_of, classes_of, survey
from cachesim.scenarios.checkers.time_scale import (
    compressed,
    grown,
    least_together,
    stopped,
    why_wrong,
)
from cachesim.scenarios.verdict import Result, Verdict, against, unknown

NAME = "error_budget"

_BAD_AND_DUE = """
SELECT coalesce(sum((outcome = 'ok' AND end <= due + :deadline) IS NOT TRUE), 0), count(*)
FROM operations
WHERE service = :service AND (kind = 'read') = :is_read AND due BETWEEN :begin AND :end
AND NOT (end IS NULL AND outcome != 'shed' AND due + :deadline > :run_end)
"""


@dataclass(frozen=True)
class Expectation:
    """What is expected of a service.

    Attributes:
        service: its name.
        max: the largest share of bad operations, from 0 to 1.
        kind: its reads, its writes, or None for both, each judged alone.
    """

    service: str
    max: float
    kind: Literal["read", "write"] | None = None

    @property
    def name(self) -> str:
        """The name of the verdict."""
        return f"{NAME}: {self.service}{'.' if self.kind else ''}{self.kind or ''}"


def check(history: History, expectation: Expectation) -> Verdict:
    """Return the verdict on the share of bad operations of a service's classes."""
    names = classes_of(history, expectation.service, expectation.kind)
    if not names:
        return unknown(expectation.name, "no operation of it was due")
    shares = {name: share_of(history, name) for name in names}
    low = max(low for low, _ in shares.values())
    high = max(high for _, high in shares.values())
    details = {str(name): _details(history, name) for name in names}
    threshold = expectation.max
    verdict = against(expectation.name, low, high, "share", threshold, "", details)
    reason = None
    fit = history.compute(generator.check)
    if fit.result is not Result.PASS:
        reason = f"the generator: {fit.reason}"
    if verdict.result is Result.FAIL and not any(
        _is_above(history, name, threshold) for name in names
    ):
        reason = reason or "operations that the generator began late decide"
    if history.meta.get("cuts") and verdict.result is Result.FAIL:
        reason = reason or "holds were cut, so that the share in the whole run is less"
    if history.interrupted and verdict.result is Result.FAIL:
        reason = reason or "the run was cut short, so that the share in all of it may be less"
    if verdict.result is Result.PASS:
        reason = reason or _why_silent(history, expectation)
    if history.speed != 1:
        reason = reason or next(filter(None, (why_wrong(history, name) for name in names)), None)
    if reason is None:
        return verdict
    return unknown(
        expectation.name,
        reason,
        low=low,
        high=high,
        unit="share",
        threshold=threshold,
        details=details,
    )


def share_of(history: History, name: OperationClass) -> tuple[float, float]:
    """Return the share of a class that was bad, the least and the most."""
    found = history.compute(survey)[name]
    due = found.all.due + found.undecided
    windows = [(it, stopped(history, name, it)) for it in history.compute(compressed)]
    if not windows:
        bad = found.all.bad
        with_cuts = _with_cuts(history, name, bad + found.undecided, due)
        return min(bad / due, with_cuts), max((bad + found.undecided) / due, with_cuts)
    begin = begin_of(history)
    ready = history.baseline.end if history.baseline else begin
    per_second = due / max(history.end_at - begin, 1e-9)
    production = (ready - begin) + (history.end_at - ready) * history.speed
    outages = [
        (best if effect else 0.0, worst, window)
        for window, effect in windows
        if effect is not False
        for best, worst in [window.outage(history, name, found.all.gap(history.end_at))]
    ]
    covered = union(Span(it.begin, it.end) for it, effect in windows if effect)
    others = found.all.bad - sum(bad_and_due(history, name, span)[0] for span in covered)
    seconds = others / per_second
    low = least_together(history, ((best, it.begin, it.end) for best, _, it in outages))
    fewest, most = grown(history, seconds, seconds + found.undecided / per_second)
    low += fewest
    high = sum(worst for _, worst, _ in outages) + most
    return min(low / production, 1.0), min(high / production, 1.0)


def _with_cuts(history: History, name: OperationClass, bad: float, due: float) -> float:
    """Return the share if what was cut was like the time just before each cut.

    Args:
        bad, due: of the run.
    """
    comeback = history.comeback_of(name.service)
    length = max(recovery.CALM, recovery.UNDECLARED if comeback == float("inf") else comeback)
    for cut in history.meta.get("cuts") or ():
        at, factor = float(cut["at"]), float(cut["seconds"]) / length
        more_bad, more_due = bad_and_due(history, name, Span(at - length, at))
        bad, due = bad + more_bad * factor, due + more_due * factor
    return bad / due


def _is_above(history: History, name: OperationClass, threshold: float) -> bool:
    """Return whether a class is above a share without what is bad in spoiled spans, too."""
    spoiled = sum(bad_and_due(history, name, it)[0] for it in history.compute(generator.spoiled))
    due = history.compute(survey)[name].all.due
    return share_of(history, name)[0] - spoiled / max(due, 1) > threshold


def _why_silent(history: History, expectation: Expectation) -> str | None:
    """Return which class may have hung for longer than its budget, or None if none may."""
    baseline, every = history.baseline, history.compute(survey)
    if baseline is None:
        return None
    for name in classes_of(history, expectation.service, None):
        found = every[name]
        gap = found.all.gap(history.end_at)
        rate = found.baseline_due / max(baseline.end - baseline.begin, 1e-9)
        missing = rate * max(0.0, gap - history.deadline)
        bad, due = found.all.bad + missing, found.all.due + missing
        if expectation.kind in (None, name.kind) and bad > expectation.max * due:
            return f"no operation of {name} was due for {gap:.3g} s: it may have hung"
    return None


def bad_and_due(history: History, name: OperationClass, span: Span) -> tuple[int, int]:
    """Return how many operations of a class were bad, and how many were due, in a span."""
    values = {
        "deadline": history.deadline,
        "service": name.service,
        "is_read": name.kind == "read",
        "begin": span.begin,
        "end": span.end,
        "run_end": history.end_at,
    }
    [(bad, due)] = history.rows(_BAD_AND_DUE, **values)
    return bad, due


def _details(history: History, name: OperationClass) -> dict[str, Any]:
    found = history.compute(survey)[name]
    steps = {}
    for step in history.compute(applied):
        begin = step.begin_call if step.begin_call is not None else history.end_at
        end = step.end_confirmed if step.end_confirmed is not None else history.end_at
        bad, due = bad_and_due(history, name, Span(begin, end))
        steps[step.id] = bad / due if due else 0.0
    return {
        "bad": found.all.bad,
        "due": found.all.due,
        "undecided": found.undecided,
        "errors": dict(found.errors.most_common()),
        "steps": steps,
    }
