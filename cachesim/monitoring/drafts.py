"""What both forms of alarm files have in common: an alarm as read, and its checks."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from cachesim.monitoring.alarm_yaml import Place
from cachesim.monitoring.alarms import Alarm
from cachesim.monitoring.architecture import HIT_RATE_OF_MEMCACHED, MEMORY_OF_MEMCACHED
from cachesim.monitoring.expressions import Expression
from cachesim.monitoring.findings import Finding
from cachesim.monitoring.metrics import METRICS, NOT_EMULATED, find
from cachesim.monitoring.monitor import HISTORY
from cachesim.topology import Service

_DAY = 86_400
_WEEK = 7 * _DAY
_HOUR = 3600


class Mistake(Exception):
    """A mistake in a file. The message names file, line and key."""


@dataclass
class Draft:
    """An alarm as it was read.

    Attributes:
        place: where it is.
        name_key: the key of its name.
        findings: what is to be told of it.
    """

    alarm: Alarm
    place: Place
    name_key: str
    findings: list[Finding] = field(default_factory=list)


def checked(draft: Draft) -> Alarm:
    """Return the alarm of a draft.

    Raises:
        Mistake: CloudWatch would refuse it, or it can't be emulated.
    """
    it, place = draft.alarm, draft.place
    if it.period not in (10, 20, 30) and (it.period < 60 or it.period % 60):
        raise Mistake(
            place.problem("Period", f"should be 10, 20, 30 or a multiple of 60 s, got {it.period}")
        )
    most = _WEEK if it.period >= _HOUR else _DAY
    if it.period * it.periods > most:
        raise Mistake(
            place.problem("Period", f"times EvaluationPeriods is more than {most // _DAY} days")
        )
    if it.minutes > HISTORY:
        raise Mistake(
            place.problem(
                "Period", f"it looks at {it.minutes} minutes, and {HISTORY} are kept here"
            )
        )
    if it.needed > it.periods:
        raise Mistake(
            place.problem("DatapointsToAlarm", f"{it.needed} of {it.periods} periods can't be")
        )
    try:
        math = Expression(it.math)
    except ValueError as error:
        raise Mistake(place.problem("Expression", str(error))) from None
    unknown = [name for name in math.names if name not in it.queries]
    if unknown:
        known = ", ".join(it.queries)
        raise Mistake(place.problem("Expression", f"no Id {unknown[0]!r}: there are {known}"))
    return it


def finding_of_metrics(alarm: Alarm) -> Iterator[Finding]:
    """Return the metrics of an alarm that its engine does not have, or not here."""
    for name in alarm.metrics:
        known = find(alarm.service, name)
        if known is not None and known.is_published:
            continue
        if name in NOT_EMULATED[alarm.service]:
            yield Finding(
                alarm.name, f"{name} is not emulated, so the alarm has no data here",
                "Production has it: keep the alarm there.", is_fatal=False,
            )  # fmt: skip
            continue
        other = Service.MEMCACHED if alarm.service is Service.REDIS else Service.REDIS
        published = [it.name for it in METRICS[alarm.service] if it.is_published]
        remedy = "Leave the alarm out."
        if near := get_close_matches(name, published, 1, 0.75):
            remedy = f"Did you mean {near[0]}?"
        if alarm.service is Service.MEMCACHED and name in _INSTEAD:
            remedy = f"Use metric math: {_INSTEAD[name]}."
        there = find(other, name)
        is_there = (there is not None and there.is_published) or name in NOT_EMULATED[other]
        where = f"; {other} has it" if is_there else ""
        yield Finding(
            alarm.name, f"ElastiCache has no metric {name} for {alarm.service}{where}", remedy
        )


_INSTEAD = {
    "CacheHitRate": HIT_RATE_OF_MEMCACHED,
    "DatabaseMemoryUsagePercentage": MEMORY_OF_MEMCACHED,
    "EngineCPUUtilization": "CPUUtilization itself, as its threads use all processors",
    "CacheHits": "GetHits itself",
    "CacheMisses": "GetMisses itself",
}  # fmt: skip


def service_of(
    given: Any,
    name: str,
    metrics: Iterable[str],
    place: Place,
    key: str,
    others: Sequence[str] = (),
) -> Service:
    """Return the engine of an alarm: as given, or as its name or its metrics tell.

    Args:
        others: further texts that may name the engine.
    """
    if given is not None:
        if given not in list(METRICS):
            raise Mistake(place.problem(key, f"should be redis or memcached, got {given!r}"))
        return Service(given)
    for text in (name, *others):
        engines = {
            Service.REDIS: any(word in text.lower() for word in ("redis", "valkey")),
            Service.MEMCACHED: "memcache" in text.lower(),
        }
        if sum(engines.values()) == 1:
            return next(service for service, is_it in engines.items() if is_it)
    owners = {
        service
        for service in METRICS
        for it in metrics
        if find(service, it) or it in NOT_EMULATED[service]
    }
    if len(owners) == 1:
        return owners.pop()
    raise Mistake(
        place.problem(
            key,
            f"the engine can't be told from {', '.join(metrics)}: put redis or memcached into the "
            "alarm's name",
        )
    )


def is_lower(metric: str) -> bool:
    """Return whether low values of a metric are bad."""
    return metric in (
        *("CacheHitRate", "CacheHits", "GetHits", "MasterLinkHealthStatus"),
        *("UnusedMemory", "FreeableMemory", "CPUCreditBalance"),
    )


def choice(value: Any, choices: tuple[str, ...], place: Place, key: str) -> Any:
    """Return a value that is one of some words."""
    if value not in choices:
        raise Mistake(place.problem(key, f"should be one of {', '.join(choices)}, got {value!r}"))
    return value


def whole(value: Any, place: Place, key: str) -> int:
    """Return a whole number above 0."""
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or not int(text):
        raise Mistake(place.problem(key, f"should be a whole number above 0, got {value!r}"))
    return int(text)
