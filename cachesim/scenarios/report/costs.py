"""What outages cost at production's rates."""

from collections.abc import Mapping

from cachesim.history.reader import History
from cachesim.scenarios.checkers.survey import begin_of, survey
from cachesim.scenarios.checkers.time_scale import INFINITE
from cachesim.scenarios.checkers.unavailability import figures_of
from cachesim.scenarios.report.record import Cost, Interval
from cachesim.scenarios.report.services import main_classes

PRODUCTION: Mapping[str, float] = {"sessions": 5_000.0, "api_cache": 20_000.0}
"""Operations a second of each service, as the architecture has them today."""

MONTHLY_BUDGET = 0.001 * 30 * 24 * 3600
"""Seconds a month, 43 min 12 s, that 99.9 % of the time leave."""


def costs(history: History) -> list[Cost]:
    """Return the cost of each class that was not served for a time, the highest first."""
    costly: list[Cost] = []
    found = history.compute(survey)
    length = max(history.end_at - begin_of(history), 1e-9)
    for name in main_classes(history):
        it = found[name]
        every, *_ = figures_of(history, name)
        low = sum(figure.low for figure in every)
        high = sum(figure.high for figure in every)
        if high == 0:
            continue
        of_service = sum(one.all.due for cls, one in found.items() if cls.service == name.service)
        rate = it.all.due / length
        if name.service in PRODUCTION:
            rate = PRODUCTION[name.service] * it.all.due / max(of_service, 1)
        cost = Cost(
            name=str(name),
            seconds=_interval(low, high, 1),
            rate=rate,
            requests=_interval(low, high, rate),
            is_production=name.service in PRODUCTION,
            budget_share=_interval(low, high, 1 / MONTHLY_BUDGET),
        )
        costly.append(cost)
    return sorted(costly, key=lambda cost: -cost.requests.low)


def _interval(low: float, high: float, factor: float) -> Interval:
    return Interval(low=low * factor, high=None if high == INFINITE else high * factor)
