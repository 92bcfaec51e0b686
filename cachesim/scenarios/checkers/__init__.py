"""Checkers: pure functions of a history, each with a rule, a bound, and when it is unknown.

A checker gets a history, never a live topology. `judge` runs the gates and the expected checkers,
and combines them.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from cachesim.history.reader import History
from cachesim.scenarios.checkers import baseline, command, faults_seen, generator
from cachesim.scenarios.checkers.baseline import Steady
from cachesim.scenarios.checkers.expectations import Expectation, check
from cachesim.scenarios.verdict import Result, Verdict, combine, unknown

Checker = Callable[[History], Verdict]
"""A checker with what is expected."""


@dataclass(frozen=True)
class Judgement:
    """The verdict on a run.

    Attributes:
        run: the verdict on the run as a whole.
        gates: those on the baseline, the generator and the faults.
        verdicts: those of the checkers, in the order of the expectations, then of the others.
    """

    run: Verdict
    gates: tuple[Verdict, ...]
    verdicts: tuple[Verdict, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "run": self.run.as_dict(),
            "gates": [it.as_dict() for it in self.gates],
            "verdicts": [it.as_dict() for it in self.verdicts],
        }


def judge(
    history: History,
    expectations: Iterable[Expectation],
    steady: Steady | None = None,
    others: Iterable[Checker] = (),
) -> Judgement:
    """Return the verdict on a run. A checker that crashes is unknown.

    Args:
        expectations: what is expected of it.
        steady: what is asked of the time before the first fault.
        others: checkers of the user.
    """
    expected = list(expectations)
    calm = _run(baseline.NAME, partial(baseline.check, steady=steady, expected=expected), history)
    gates = [calm, *(_run(it.NAME, it.check, history) for it in (generator, faults_seen))]
    verdicts = [_run(it.name, partial(check, expectation=it), history) for it in expected]
    if command.applies(history):
        verdicts.append(_run(command.NAME, command.check, history))
    verdicts += [_run(getattr(it, "__name__", repr(it)), it, history) for it in others]
    run = combine(gates, verdicts, history.interrupted)
    return Judgement(run, tuple(gates), tuple(verdicts))


def _run(name: str, checker: Checker, history: History) -> Verdict:
    try:
        return _verdict(checker(history))
    except Exception as error:
        return unknown(name, f"the checker crashed: {type(error).__name__}: {error}")


def _verdict(found: object) -> Verdict:
    """Return what a checker returned, which may be a user's own, if it is a verdict.

    Raises:
        TypeError, ValueError: it is none, has another result, or what JSON does not have.
    """
    if not isinstance(found, Verdict):
        raise TypeError(f"it returned {found!r}, and not a Verdict")
    json.dumps(found.as_dict(), allow_nan=False)
    return replace(found, result=Result(found.result))  # "fail" is one too
