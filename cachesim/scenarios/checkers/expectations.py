"""What is expected of a run: from the plain values of a scenario file to the checkers."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cachesim.history.reader import History
from cachesim.scenarios.checkers import (
    alarms,
    connection_storm,
    error_budget,
    herd,
    hit_rate,
    lost_writes,
    recovery,
    remap,
    split_brain,
    stale_reads,
    unavailability,
)
from cachesim.scenarios.verdict import Verdict

Expectation = (
    alarms.Expectation
    | connection_storm.Expectation
    | error_budget.Expectation
    | herd.Expectation
    | hit_rate.Expectation
    | lost_writes.Expectation
    | recovery.Expectation
    | remap.Expectation
    | split_brain.Expectation
    | stale_reads.Expectation
    | unavailability.Expectation
)
"""What is expected of one checker."""

CHECKERS: Mapping[type[Expectation], Callable[[History, Any], Verdict]] = {
    alarms.Expectation: alarms.check,
    connection_storm.Expectation: connection_storm.check,
    error_budget.Expectation: error_budget.check,
    herd.Expectation: herd.check,
    hit_rate.Expectation: hit_rate.check,
    lost_writes.Expectation: lost_writes.check,
    recovery.Expectation: recovery.check,
    remap.Expectation: remap.check,
    split_brain.Expectation: split_brain.check,
    stale_reads.Expectation: stale_reads.check,
    unavailability.Expectation: unavailability.check,
}
"""The checker of each expectation."""

OF_THE_RUN: Mapping[str, Callable[..., Expectation]] = {
    lost_writes.NAME: lost_writes.Expectation,
    split_brain.NAME: split_brain.Expectation,
    recovery.NAME: recovery.Expectation,
    connection_storm.NAME: connection_storm.Expectation,
    herd.NAME: herd.Expectation,
}
OF_A_SERVICE: Mapping[str, Callable[..., Expectation]] = {
    stale_reads.NAME: stale_reads.Expectation,
    remap.NAME: remap.Expectation,
    hit_rate.NAME: hit_rate.Expectation,
}
OF_AN_ALARM: Mapping[str, Callable[..., Expectation]] = {alarms.NAME: alarms.Expectation}
OF_CLASSES: Mapping[str, Callable[..., Expectation]] = {
    unavailability.NAME: unavailability.Expectation,
    error_budget.NAME: error_budget.Expectation,
}


def check(history: History, expectation: Expectation) -> Verdict:
    """Return the verdict of the checker that an expectation is of."""
    return CHECKERS[type(expectation)](history, expectation)


def read(expect: Mapping[str, Any]) -> Iterator[Expectation]:
    """Return what plain values expect.

    The keys are checkers, as in a scenario file: `{"recovery": {"within": 60}}`. What a checker
    asks of services is by `service` or `service.kind`: `{"unavailability": {"sessions.write":
    {"longest": 35}}}`.

    Args:
        expect: times in seconds, shares from 0 to 1.

    Raises:
        ValueError: there is no such checker, or no such kind of operation.
        TypeError: a checker has no such field, or lacks one.
    """
    for name, values in expect.items():
        if name in OF_THE_RUN:
            yield OF_THE_RUN[name](**values)
        elif name in OF_A_SERVICE:
            for service, fields in values.items():
                yield OF_A_SERVICE[name](service=service, **fields)
        elif name in OF_AN_ALARM:
            for alarm, fields in values.items():
                yield OF_AN_ALARM[name](alarm=alarm, **fields)
        elif name in OF_CLASSES:
            for key, fields in values.items():
                service, dot, kind = key.rpartition(".")
                if not dot:
                    service, kind = key, ""
                elif kind not in ("read", "write"):
                    raise ValueError(f"{name}: {key}: a service has .read and .write")
                yield OF_CLASSES[name](service=service, kind=kind or None, **fields)
        else:
            every = ", ".join(sorted({*OF_THE_RUN, *OF_A_SERVICE, *OF_AN_ALARM, *OF_CLASSES}))
            raise ValueError(f"there is no checker {name!r}; there are {every}")
