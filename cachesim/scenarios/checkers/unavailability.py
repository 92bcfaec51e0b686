"""Unavailability: for how long a class of operations was not served.

Rule: good is what was answered within the deadline of its due time (see `survey`); an outage goes
from the first bad operation to the first of three good ones in a row, and outages less than 250 ms
apart are one (see `outages`). It lasted at least from its first to its last bad operation, and at
most from the good one before to the good one after, each less and more the time by which a command
may report late. The class as a whole and each of its pods are judged, and the worst decides. A
Memcached miss is not bad; a `set` that returns False is.

Bound: what the scenario expects, `longest` and `total`, in seconds of production. If it expects
both, the verdict is on the one that fails, or else is unknown; `details` has which one.

An outage in which a hold was cut may have lasted as much longer. At a speed above 1, the outages of
windows that stopped the class are not those measured, but what the time scale says of production
(see `time_scale`).

Unknown: the threshold lies inside the interval; sampled too thinly (see `resolution`); nothing of
the class, or of one of its pods, was due for longer than the threshold, as a client that waits for
each answer reports nothing while it hangs; the generator decides (see `generator`), but for an
outage at speed 1 that is too long even between what the generator spoiled of it; the profile is
wrong; or no operation of the class was due.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from cachesim.history.outages import Outage
from cachesim.history.reader import History
from cachesim.scenarios.checkers.generator import longest_fit, why_unfit
from cachesim.scenarios.checkers.resolution import why_too_thin
from cachesim.scenarios.checkers.survey import OperationClass, classes_of, survey
from cachesim.scenarios.checkers.time_scale import (
    Window,
    compressed,
    least_together,
    most_in_a_row,
    stopped,
    why_wrong,
)
from cachesim.scenarios.verdict import Result, Verdict, against, unknown

NAME = "unavailability"


@dataclass(frozen=True)
class Expectation:
    """What is expected of a service.

    Attributes:
        service: its name.
        kind: its reads, its writes, or None for both.
        longest: the longest outage, in seconds.
        total: all outages together, in seconds.
    """

    service: str
    kind: Literal["read", "write"] | None = None
    longest: float | None = None
    total: float | None = None

    @property
    def name(self) -> str:
        """The name of the verdict."""
        return f"{NAME}: {self.service}{'.' if self.kind else ''}{self.kind or ''}"


class Figure(NamedTuple):
    """How long one outage lasts in production, and where it is in the run.

    Attributes:
        window: the compressed one that it is, if it is one.
    """

    low: float
    high: float
    begin: float
    end: float
    what: str
    window: Window | None = None


_Combined = Callable[[History, list[Figure]], tuple[float, float]]


class _Worst(NamedTuple):
    low: float
    high: float
    figures: list[Figure]
    name: OperationClass


def check(history: History, expectation: Expectation) -> Verdict:
    """Return the verdict on the outages of a service's classes."""
    names = classes_of(history, expectation.service, expectation.kind)
    if not names:
        return unknown(expectation.name, "no operation of it was due")
    limits = [("longest", expectation.longest, _longest), ("total", expectation.total, _total)]
    verdicts = []
    for limit, threshold, combined in [it for it in limits if it[1] is not None] or limits[:1]:
        found = [_worst(history, name, combined) for name in names]
        worst = max(found, key=lambda it: it.high)
        worst = worst._replace(low=max(it.low for it in found))
        verdict = _judge(history, expectation.name, worst, names, threshold, combined)
        verdicts.append(replace(verdict, details={"limit": limit, **verdict.details}))
    order = (Result.FAIL, Result.UNKNOWN, Result.PASS)
    return min(verdicts, key=lambda verdict: order.index(verdict.result))


def _longest(history: History, figures: list[Figure]) -> tuple[float, float]:
    # The effect may have been there since the call. Who asked for the nodes has others.
    windows = (
        (it.high, it.begin - it.window.more / history.speed)
        for it in figures
        if it.window is not None and not it.window.is_discovery
    )
    high = max(*(it.high for it in figures), most_in_a_row(history, windows))
    return max(it.low for it in figures), high


def _total(history: History, figures: list[Figure]) -> tuple[float, float]:
    return least_of(history, figures), sum(_repeated(history, it) for it in figures)


def _repeated(history: History, figure: Figure) -> float:
    """Return the most that an outage lasts with those like it, in seconds of production.

    One that a client makes by itself, as when it tries a dead node again, may come the more often
    the longer the fault lasts.
    """
    windows = history.compute(compressed) if figure.window is None else ()
    is_within = any(it.begin <= figure.end and figure.begin <= it.end for it in windows)
    return figure.high * max(1.0, history.speed) if is_within else figure.high


def _worst(
    history: History,
    name: OperationClass,
    combined: _Combined,
) -> _Worst:
    low = high = 0.0
    worst: list[Figure] = []
    for figures in figures_of(history, name):
        if figures:
            least, most = combined(history, figures)
            low = max(low, least)
            if most > high or not worst:
                high, worst = max(high, most), figures
    return _Worst(low, high, worst, name)


def least_of(history: History, figures: Iterable[Figure]) -> float:
    """Return how long all outages together last in production at least, in seconds."""
    return least_together(history, ((it.low, it.begin, it.end) for it in figures))


def figures_of(history: History, name: OperationClass) -> list[list[Figure]]:
    """Return the outages of a class as production has them: of all of it, and of each pod."""
    found = history.compute(survey)[name]
    end, eps = history.end_at, history.operations_eps
    gap = found.all.gap(end)
    effects = [(it, stopped(history, name, it)) for it in history.compute(compressed)]
    windows = [(it, effect) for it, effect in effects if effect is not False]
    tracks = {"all pods": found.all, **{f"pod {pod}": it for pod, it in found.pods.items()}}
    result = []
    for what, track in tracks.items():
        figures = [
            Figure(
                max(it.low - eps, 0.0), it.high + eps + _cut_in(history, it), it.begin, it.end, what
            )
            for it in track.outages(end)
            if not any(_covers(history, name, w, it) for w, effect in windows if effect)
        ]
        for window, effect in windows:
            best, worst = window.outage(history, name, gap)
            low = best if effect else 0.0
            figures.append(Figure(low, worst, window.begin, window.end, window.what, window))
        result.append(figures)
    return result


def _cut_in(history: History, outage: Outage) -> float:
    """Return how long the holds were that were cut in an outage, in seconds of production.

    A cut needs calm, which one of many pods does not disturb.
    """
    return history.cut_within(outage.begin, outage.end)


def _covers(history: History, name: OperationClass, window: Window, outage: Outage) -> bool:
    """Return whether an outage is a window's, whose length the time scale tells."""
    end = window.end + window.until_able + history.comeback_of(name.service)
    return outage.end >= window.begin and outage.begin <= end


def _judge(
    history: History,
    title: str,
    worst: _Worst,
    names: list[OperationClass],
    threshold: float | None,
    combined: _Combined,
) -> Verdict:
    low, high, figures, name = worst
    details = {
        "class": str(name),
        "outages": [
            {"low": it.low, "high": it.high, "begin": it.begin, "end": it.end, "what": it.what}
            for it in figures[:100]
        ],
        "nodes": _by_node(history, names),
    }
    if threshold is None:
        return Verdict(title, Result.PASS, low, high, "s", None, "nothing is expected", details)
    verdict = against(title, low, high, "s", threshold, _settle(history, name), details)
    every = history.compute(survey)
    scale = history.speed if history.compute(compressed) else 1.0
    # Of a service's reads and writes, the more frequent tell of the others.
    gap = min(every[it].all.gap(history.end_at) for it in names)
    reason = why_too_thin(threshold, gap, scale)
    if verdict.result is not Result.FAIL:
        reason = reason or _why_silent(history, names, threshold)
    if history.speed != 1:
        reason = reason or next(filter(None, (why_wrong(history, it) for it in names)), None)
    is_sure = verdict.result is Result.PASS or (
        history.speed == 1 and combined(history, _without_spoiled(history, figures))[0] > threshold
    )
    for it in figures if not is_sure else ():
        reason = reason or why_unfit(history, it.begin, it.end)
    if reason is None:
        return verdict
    return unknown(
        title, reason, low=low, high=high, unit="s", threshold=threshold, details=details
    )


def _without_spoiled(history: History, figures: list[Figure]) -> list[Figure]:
    """Return the outages, each at least as long as its longest part that is not the generator's."""
    return [it._replace(low=longest_fit(history, it.begin, it.begin + it.low)) for it in figures]


def _why_silent(history: History, names: list[OperationClass], threshold: float) -> str | None:
    """Return which class or pod may have hung for longer than a threshold, or None if none may."""
    for name in names:
        found = history.compute(survey)[name]
        tracks = {
            str(name): found.all,
            **{f"{name} of {pod}": it for pod, it in found.pods.items()},
        }
        for what, track in tracks.items():
            if (gap := track.gap(history.end_at)) > threshold:
                return f"no operation of {what} was due for {gap:.3g} s: it may have hung"
    return None


def _settle(history: History, name: OperationClass) -> str:
    if history.speed == 1:
        return ""
    declared = {
        "patience": history.patience_of(name.service),
        "comeback": history.comeback_of(name.service),
    }
    missing = [it for it, seconds in declared.items() if seconds == float("inf")]
    if missing:
        return f"the client's {' and '.join(missing)} is not declared; --speed 1 settles it"
    return f"at speed {history.speed:g} {name} can't be told; --speed 1 settles it"


def _by_node(history: History, names: list[OperationClass]) -> dict[str, float]:
    """Return the longest outage of each node that answered, in seconds as measured."""
    found: dict[str, float] = {}
    for name in names:
        for node, track in history.compute(survey)[name].nodes.items():
            longest = max((it.high for it in track.outages(history.end_at)), default=0)
            found[node] = max(found.get(node, 0.0), longest)
    return found
