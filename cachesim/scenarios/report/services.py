"""Which services and classes of operations a report is about."""

from cachesim.history.reader import History
from cachesim.scenarios.checkers.survey import OperationClass, classes_of, survey


def services(history: History) -> list[str]:
    """Return the services, those of the architecture first. What a cache loads from is none."""
    names = {name.service for name in history.compute(survey)}
    return sorted(names, key=lambda it: (it != "sessions", it != "api_cache", it))


def main_classes(history: History) -> list[OperationClass]:
    """Return the classes of operations of all services, without the rare ones.

    A cache is written to when a read misses: such writes are told with their reads.
    """
    return [name for it in services(history) for name in sorted(classes_of(history, it, None))]
