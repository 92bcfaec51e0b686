"""Recovery: how long after the last heal the clients were as before.

Rule: from the last heal until the topology is able, C, and from then to the begin of the first 5 s
in which each pod has its rate, 99 % of its operations good, a 99th percentile of the latency below
three times the baseline's plus 10 ms, and none of its classes dead, L. Of less than 100 operations
one may be slower, as their percentile is their slowest; what began late although its pod had an
idle worker counts from its begin. A class, the reads or the writes of a service, is dead if none of
three or more operations is good, or if none is due where ten are expected: it may be too small a
part of a pod to change the pod's own figures. A node is able since the first of five answers in a
row to the prober, which does not retry. C is in production time up to the control plane's last
event before able; what is left of it are the servers' own timeouts, in real time. L is the clients'
part, in real time too. What is real is never multiplied by the speed.

Bound: what the scenario expects, `within`, in seconds of production, on C + L. At a speed above 1,
L is taken as anything from nothing to the `comeback` that the client declares: the longest of those
whose nodes a fault touched.

Never, which fails, is said only after a quiet of twice the declared comeback, at least 20 s.

Unknown: the run ended too early, or the command that makes the operations; a node did not come
back, which is not the client's; nothing was healed; no baseline, no beats; the threshold lies
inside the interval; sampled too thinly; the generator decides; or the profile is wrong: a pod came
back later than the comeback.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from operator import sub
from typing import Any, NamedTuple

from cachesim.history.reader import History, Span
from cachesim.history.rows import ORIGIN
from cachesim.scenarios.checkers.faults import (
    able_since,
    nodes_of_services,
    removed,
    touched,
)
from cachesim.scenarios.checkers.generator import had_idle_worker, why_unfit
from cachesim.scenarios.checkers.resolution import why_too_thin
from cachesim.scenarios.checkers.survey import baseline_p99
from cachesim.scenarios.verdict import Result, Verdict, against, unknown

NAME = "recovery"
STEADY = 5.0
"""Seconds, real, that all pods must be as before."""
STEP = 0.1
"""Seconds between the begins that are tried."""
GOOD_SHARE = 0.99
RATE_SHARE = 0.95
"""The share of its rate in the baseline that a pod must have."""
FEWEST_DUE, FEWEST_EXPECTED = 3, 10
"""Operations of a class in the steady span that are too many for none to be good, or none due."""
LATENCY_FACTOR, LATENCY_MORE = 3.0, 0.01
PLANE = ("detecting", "promoting", "available", "failover", "recovering", "recovered", "replaced")
"""The events of a control plane at work."""
QUIET_FACTOR, QUIET_LEAST = 2.0, 20.0
CALM = 10.0
"""Seconds for which all has to be as in the baseline before a hold is cut, at least."""
UNDECLARED = 60.0
"""Seconds of quiet at most for a client whose comeback is not declared: never can't be said."""

_RATES = """
SELECT pod, service, kind = 'read', count(*) FROM operations
WHERE due >= ? AND due < ? AND service != ? GROUP BY 1, 2, 3
"""
_AFTER = """
SELECT pod, service, kind = 'read', CAST((due - ?) / ? AS INTEGER), count(*),
    sum((outcome = 'ok' AND end <= due + ?) IS TRUE)
FROM operations WHERE due >= ? AND due <= ? AND service != ? GROUP BY 1, 2, 3, 4
"""
_SLOW = """
SELECT pod, service, kind = 'read', CAST((due - ?) / ? AS INTEGER), due, start, end FROM operations
WHERE (end - due < ?) IS NOT TRUE AND due >= ? AND due <= ? AND service != ?
"""


@dataclass(frozen=True)
class Expectation:
    """What is expected of the clients.

    Attributes:
        within: seconds of production from the last heal.
    """

    within: float

    @property
    def name(self) -> str:
        """The name of the verdict."""
        return NAME


@dataclass(frozen=True)
class Recovery:
    """What was measured. Times are monotonic seconds.

    Attributes:
        able: since when the topology was able, from the least to the most; None: it never was.
        steady: since when all pods were as before, from the least to the most; None: they never
            were.
        why: why there is nothing to judge; empty if there is.
    """

    able: Span | None = None
    steady: Span | None = None
    why: str = ""


def measure(history: History) -> Recovery:
    """Return when the topology and the pods had recovered."""
    if history.baseline is None:
        return Recovery(why="no baseline was recorded")
    if history.heal_at is None:
        return Recovery(why="nothing was healed")
    streams = list(history.rows("SELECT DISTINCT node FROM beats WHERE kind = 'read'"))
    left = history.compute(removed)
    spans = {
        node: able_since(history, node, history.heal_at) for (node,) in streams if node not in left
    }
    if any(history.rows("SELECT 1 FROM beats WHERE kind = 'write' LIMIT 1")):
        spans["the primary"] = able_since(history, None, history.heal_at)
    if not spans:
        return Recovery(why="there are no beats")
    if not any(history.rows(_RATES, *history.baseline, ORIGIN)):
        return Recovery(why="nothing was due in the baseline")
    missing = sorted(name for name, span in spans.items() if span is None)
    if missing:
        return Recovery(why=f"{' and '.join(missing)} did not come back")
    found = [span for span in spans.values() if span is not None]
    able = Span(max(it.begin for it in found), max(it.end for it in found))
    return Recovery(able, _steady(history, history.baseline, able))


def _steady(history: History, baseline: Span, able: Span) -> Span | None:
    """Return between which times the first steady span begins."""
    begin, length = able.end, baseline.end - baseline.begin
    limit = LATENCY_FACTOR * history.compute(baseline_p99) + LATENCY_MORE
    expected = {
        tuple(key): STEADY * due / length for *key, due in history.rows(_RATES, *baseline, ORIGIN)
    }
    last = int((history.end_at - begin) / STEP)
    steps = {key: [_Counts()] * last for key in expected}
    slow = _slow(history, begin, limit)
    for *key, number, due, good in history.rows(
        _AFTER, begin, STEP, history.deadline, begin, history.end_at, ORIGIN
    ):
        if tuple(key) in steps and number < last:
            steps[tuple(key)][number] = _Counts(due, good, slow[*key, number])
    classes = [(expected[key], _sliding(counted)) for key, counted in steps.items()]
    pods = list[tuple[float, list[_Counts]]]()
    for pod in {pod for pod, *_ in expected}:
        of_pod = [key for key in expected if key[0] == pod]
        counted = map(_total, zip(*(steps[key] for key in of_pod), strict=True))
        pods.append((sum(expected[key] for key in of_pod), _sliding(list(counted))))
    for first in range(last - round(STEADY / STEP) + 1):
        if any(_is_dead(due, spans[first]) for due, spans in classes):
            continue
        if all(_is_steady(due, spans[first]) for due, spans in pods):
            at = begin + first * STEP
            return Span(at if first == 0 else at - STEP, at)
    return None


def _slow(history: History, begin: float, limit: float) -> Counter[tuple[Any, ...]]:
    """Count the operations that took too long, by pod, service, whether they read, and step.

    What began late although a worker was idle did so through the generator: it counts from then.
    """
    found = Counter[tuple[Any, ...]]()
    for *key, due, start, end in history.rows(
        _SLOW, begin, STEP, limit, begin, history.end_at, ORIGIN
    ):
        was_quick = end is not None and end - start < limit
        if not (was_quick and had_idle_worker(history, key[0], due, start)):
            found[tuple(key)] += 1
    return found


class _Counts(NamedTuple):
    """How many operations were due, and how many of them were good, and slow."""

    due: int = 0
    good: int = 0
    slow: int = 0


def _total(counts: Iterable[_Counts]) -> _Counts:
    return _Counts(*map(sum, zip(*counts, strict=True)))


def _sliding(steps: list[_Counts]) -> list[_Counts]:
    """Return the counts of each span of steps that is as long as the steady one."""
    totals = list(accumulate(steps, lambda *both: _total(both), initial=_Counts()))
    return [
        _Counts(*map(sub, after, before))
        for before, after in zip(totals, totals[round(STEADY / STEP) :], strict=False)
    ]


def _is_dead(expected: float, it: _Counts) -> bool:
    """Return whether a class is not served, however small a part of its pod it is."""
    return (expected >= FEWEST_EXPECTED and not it.due) or (it.due >= FEWEST_DUE and not it.good)


def _is_steady(expected: float, it: _Counts) -> bool:
    """Return whether a pod is as before."""
    return bool(
        it.due > 0
        and it.due >= RATE_SHARE * expected - 1
        and it.good >= GOOD_SHARE * it.due
        and it.slow <= max((1 - GOOD_SHARE) * it.due, 1)
    )


def check(history: History, expectation: Expectation) -> Verdict:
    """Return the verdict on the time from the last heal to recovery."""
    it, within = history.compute(measure), expectation.within
    if it.able is None or history.heal_at is None:
        return unknown(NAME, it.why, unit="s", threshold=within)
    plane = [_in_production(history, history.heal_at, at) for at in it.able]
    details: dict[str, Any] = {"control_plane": plane, "able_at": it.able.end}
    until = history.end_at if it.steady is None else it.steady.end + STEADY
    unfit = why_unfit(history, it.able.end, until)
    why = _why_unknown(history, it, it.able, within)
    if it.steady is None:
        why = unfit or why
        quiet = history.end_at - it.able.end
        low, high, reason = plane[0] + quiet, float("inf"), "the clients never recovered"
        result = Result.UNKNOWN if why else Result.FAIL
        return Verdict(NAME, result, low, high, "s", within, why or reason, details)
    eps = history.operations_eps
    begin, end = it.steady.begin - it.able.end - eps, it.steady.end - it.able.end
    clients = [max(0.0, begin), end]  # what is reported late makes it no longer than it seems
    details |= {"clients": clients, "recovered_at": it.steady.end}
    low, high = plane[0] + clients[0], plane[1] + clients[1]
    if history.speed != 1:
        low, high = plane[0], plane[1] + _comeback(history)
    settle = "" if history.speed == 1 else "the client's part can't be told; --speed 1 settles it"
    verdict = against(NAME, low, high, "s", within, settle, details)
    if verdict.result is not Result.PASS:
        why = unfit or why  # late operations are bad ones: they make nobody recover
    if why is None:
        return verdict
    return unknown(NAME, why, low=low, high=high, unit="s", threshold=within, details=details)


def _comeback(history: History) -> float:
    """Return the longest comeback of the clients whose nodes a fault touched, in seconds."""
    reached = history.compute(touched)
    used = history.compute(nodes_of_services)
    return max(
        (
            history.comeback_of(service)
            for service, nodes in used.items()
            if not nodes or nodes & reached
        ),
        default=history.comeback,
    )


def _in_production(history: History, heal_at: float, able: float) -> float:
    """Return how long it is in production from the last heal until able, in seconds.

    From the heal's end up to its last event, the control plane decides. What healing takes, and the
    servers' own timeouts after that, are real at any speed.
    """

    def last(*kinds: str) -> float:
        return max(
            (it.at for it in history.events(*kinds) if heal_at <= it.at <= able), default=heal_at
        )

    decided = max(last(*PLANE) - last("heal"), 0.0)
    return able - heal_at - decided + decided * history.speed


def _why_unknown(history: History, it: Recovery, able: Span, within: float) -> str | None:
    reason = why_too_thin(within, _longest_beat_gap(history, able.end), history.speed)
    comeback = history.comeback
    if it.steady is None:
        ended = history.meta.get("command_ended_at")
        what = "run" if ended is None else "command"
        quiet = max(0.0, (history.end_at if ended is None else ended) - able.end)
        needed = max(QUIET_FACTOR * comeback, QUIET_LEAST)
        if quiet < needed:
            reason = reason or (
                f"the {what} ended too early: {quiet:.3g} s of quiet, and never is said after "
                f"{needed:.3g} s"
            )
    elif history.speed != 1 and it.steady.begin - able.end > (comeback := _comeback(history)):
        reason = reason or (
            f"the profile is wrong, or the machine was busy: the clients were as before after "
            f"{it.steady.begin - able.end:.3g} s, their comeback is {comeback:.3g} s"
        )
    return reason


def _longest_beat_gap(history: History, able: float) -> float:
    """Return the longest time between two beats of a node until all were able, in seconds."""
    gap, last = 0.0, dict[str, float]()
    for beat in history.beats("kind = 'read' AND due >= ? AND due <= ?", history.heal_at, able):
        gap = max(gap, beat.due - last.get(beat.node, beat.due))
        last[beat.node] = beat.due
    return gap
