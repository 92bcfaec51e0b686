"""What outages cost at production's rates."""

from collections.abc import Mapping

from cachesim.history.reader import History
from cachesim.scenarios.checkers.survey import begin_of, survey
from cachesim.scenarios.checkers.unavailability import figures_of, least_of
from cachesim.scenarios.report.record import Cost, Interval
from cachesim.scenarios.report.services import main_classes, services

PRODUCTION: Mapping[str, float] = {"sessions": 5_000.0, "api_cache": 20_000.0}
"""Operations a second of each service, as the architecture has them today."""

MONTHLY_BUDGET = 0.001 * 30 * 24 * 3600
"""Seconds a month, 43 min 12 s, that 99.9 % of the time leave."""

_ALIKE = 0.02
"""The share by which the times of a service's classes may differ to be told as one."""


def costs(history: History) -> list[Cost]:
    """Return what was not served, the most requests first.

    A class has its share of its service's rate. Classes of a service that were not served for the
    same time are one.
    """
    found: list[Cost] = []
    for service in services(history):
        classes = [cost for cost in _of_classes(history, service) if cost.seconds.high != 0]
        if len(classes) > 1 and all(_is_alike(classes[0], it) for it in classes):
            rate = sum(it.rate for it in classes)
            longest = max(classes, key=lambda it: it.seconds.low)
            found.append(_cost(service, longest.seconds, rate, service))
        else:
            found += classes
    return sorted(found, key=lambda cost: -cost.requests.low)


def _of_classes(history: History, service: str) -> list[Cost]:
    found = history.compute(survey)
    length = max(history.end_at - begin_of(history), 1e-9)
    of_service = sum(it.all.due for name, it in found.items() if name.service == service)
    costs = []
    for name in main_classes(history):
        if name.service == service:
            every, *_ = figures_of(history, name)
            seconds = Interval.of(least_of(history, every), sum(it.high for it in every))
            due = found[name].all.due
            rate = PRODUCTION.get(service, of_service / length) * due / max(of_service, 1)
            costs.append(_cost(str(name), seconds, rate, service))
    return costs


def _cost(name: str, seconds: Interval, rate: float, service: str) -> Cost:
    return Cost(
        name=name,
        seconds=seconds,
        rate=rate,
        requests=_times(seconds, rate),
        is_production=service in PRODUCTION,
        budget_share=_times(seconds, 1 / MONTHLY_BUDGET),
    )


def _times(it: Interval, factor: float) -> Interval:
    return Interval(low=it.low * factor, high=None if it.high is None else it.high * factor)


def _is_alike(one: Cost, other: Cost) -> bool:
    ends = [(one.seconds.low, other.seconds.low), (one.seconds.high, other.seconds.high)]
    return all(
        a is None and b is None
        if a is None or b is None
        else abs(a - b) <= _ALIKE * max(a, b, 1e-9)
        for a, b in ends
    )
