"""Alarm files: the architecture's form here, CloudFormation's in `cloudformation`.

```yaml
Alarms:
  - Name: redis-memory-high
    Metric: DatabaseMemoryUsagePercentage
    Threshold: 85%
    Period: 5 minutes
    Action: SNS -> PagerDuty
```
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, get_args

from cachesim.errors import SettingsError
from cachesim.monitoring import cloudformation
from cachesim.monitoring.alarm_yaml import Place, load
from cachesim.monitoring.alarms import SIGNS, Alarm, Comparison, Query, Statistic
from cachesim.monitoring.architecture import nodes_of
from cachesim.monitoring.drafts import (
    Draft,
    Mistake,
    checked,
    choice,
    finding_of_metrics,
    is_lower,
    service_of,
    whole,
)
from cachesim.monitoring.findings import Finding, findings
from cachesim.monitoring.metrics import Unit, find
from cachesim.monitoring.states import MissingData, State
from cachesim.topology import Service, Topology

_KEYS = (
    *("Name", "Metric", "Threshold", "Period", "Action", "Service", "Node", "Statistic"),
    *("EvaluationPeriods", "DatapointsToAlarm", "TreatMissingData", "Description"),
)
_REQUIRED = ("Name", "Metric", "Threshold")
_COMPARISONS: Mapping[str, Comparison] = {sign: comparison for comparison, sign in SIGNS.items()}
# A small m would be a million here, and minutes to who writes it.
_THRESHOLD = re.compile(r"([<>]=?)?\s*(\d+(?:\.\d+)?)\s*([KkM]?)\s*((?i:%|/min|s))?")
_UNITS: Mapping[str, tuple[Unit, ...]] = {
    "%": ("Percent",),
    "/min": ("Count", "Bytes"),
    "s": ("Seconds",),
}
_PERIOD = re.compile(r"(\d+)\s*(s|seconds?|m|min|minutes?|h|hours?|)", re.IGNORECASE)
_DEFAULT_PERIOD = 300


class Contents(NamedTuple):
    """What an alarm file has.

    Attributes:
        alarms: all that could be read.
        mistakes: what could not, with file, line and key.
        findings: what can't work, or is ignored.
    """

    alarms: list[Alarm]
    mistakes: list[str]
    findings: list[Finding]


def read_alarms(path: Path, topology: Topology) -> list[Alarm]:
    """Return the alarms of a file.

    Raises:
        SettingsError: it has mistakes; the message has all of them, one a line.
    """
    found = examine(path, topology)
    if found.mistakes:
        raise SettingsError("\n".join(found.mistakes))
    return found.alarms


def examine(path: Path, topology: Topology) -> Contents:
    """Return all that can be told about a file of alarms.

    Raises:
        SettingsError: it can't be read, or has no alarms.
    """
    data = load(path)
    if isinstance(data, Mapping) and isinstance(data.get("Resources"), Mapping):
        drafts: Iterator[Draft | Mistake | Finding] = cloudformation.drafts(
            data, str(path), topology
        )
    elif isinstance(data, Mapping) and isinstance(data.get("Alarms"), list):
        drafts = _drafts(data["Alarms"], str(path), topology)
    else:
        raise SettingsError(
            f"{path}: should have `Alarms`, a list; or `Resources`, as CloudFormation has them"
        )
    alarms: list[Alarm] = []
    mistakes: list[str] = []
    found: list[Finding] = []
    for it in drafts:
        if isinstance(it, Finding):
            found.append(it)
            continue
        if isinstance(it, Mistake):
            mistakes.append(str(it))
            continue
        try:
            alarm = checked(it)
        except Mistake as mistake:
            mistakes.append(str(mistake))
            continue
        if any(alarm.name == other.name for other in alarms):
            mistakes.append(it.place.problem(it.name_key, f"a second alarm named {alarm.name!r}"))
            continue
        alarms.append(alarm)
        missing = list(finding_of_metrics(alarm))
        is_dead = any(one.is_fatal for one in missing)
        found += [*it.findings, *missing, *([] if is_dead else findings(alarm))]
    if not alarms and not mistakes:
        raise SettingsError(f"{path}: it has no alarms on AWS/ElastiCache")
    return Contents(alarms, mistakes, found)


def _drafts(items: list[Any], file: str, topology: Topology) -> Iterator[Draft | Mistake]:
    for number, item in enumerate(items):
        place = Place(file, getattr(item, "line", 1), f"Alarms[{number}]")
        if not isinstance(item, Mapping):
            yield Mistake(place.problem("", "should be a mapping with Name, Metric, Threshold"))
            continue
        try:
            yield _draft(item, place, topology)
        except Mistake as mistake:
            yield mistake


def _draft(item: Mapping[str, Any], place: Place, topology: Topology) -> Draft:
    for key in item:
        if key not in _KEYS:
            near = get_close_matches(key, _KEYS, 1)
            hint = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(_KEYS)}"
            raise Mistake(place.problem(key, f"unknown key; {hint}"))
    for key in _REQUIRED:
        if item.get(key) in (None, ""):
            raise Mistake(place.problem(key, "is missing"))
    name, metric = str(item["Name"]), str(item["Metric"])
    node = item.get("Node")
    service = service_of(item.get("Service"), name, (metric,), place, "Service", [str(node)])
    nodes = nodes_of(topology, service)
    if node is not None:
        if node not in nodes:
            raise Mistake(place.problem("Node", f"no {service} node {node!r}: {', '.join(nodes)}"))
        nodes = (str(node),)
    comparison, threshold = _threshold(item["Threshold"], metric, service, place)
    statistic = choice(item.get("Statistic", "Average"), get_args(Statistic), place, "Statistic")
    periods = whole(item.get("EvaluationPeriods", 1), place, "EvaluationPeriods")
    actions = _actions(item.get("Action"), place)
    alarm = Alarm(
        name,
        service,
        nodes,
        {"m1": Query(metric, statistic)},
        "m1",
        comparison,
        threshold,
        period=_period(item.get("Period", _DEFAULT_PERIOD), place),
        periods=periods,
        needed=whole(item.get("DatapointsToAlarm", periods), place, "DatapointsToAlarm"),
        missing=choice(
            item.get("TreatMissingData", "missing"),
            get_args(MissingData),
            place,
            "TreatMissingData",
        ),
        # PagerDuty resolves an incident by the OK that follows.
        actions={State.ALARM: actions, State.OK: actions} if actions else {},
        description=str(item.get("Description", "")),
        source=place.file,
    )
    return Draft(alarm, place, "Name")


def _threshold(value: Any, metric: str, service: Service, place: Place) -> tuple[Comparison, float]:
    match = _THRESHOLD.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        rule = "should be a number such as 85%, 1000/min, 50K, <80% or, in quotes, '>1s'"
        raise Mistake(place.problem("Threshold", f"{rule}, got {value!r}"))
    sign, number, scale, unit = match.groups()
    known = find(service, metric)
    if unit is not None and known is not None and known.unit not in _UNITS[unit.lower()]:
        rule = f"{unit} is not the unit of {metric}, which is {known.unit}"
        raise Mistake(place.problem("Threshold", f"{rule}, got {value!r}"))
    threshold = float(number) * {"": 1, "K": 1e3, "M": 1e6}[scale.upper()]
    return _COMPARISONS[sign or ("<" if is_lower(metric) else ">")], threshold


def _period(value: Any, place: Place) -> int:
    match = _PERIOD.fullmatch(str(value).strip())
    if match is None or isinstance(value, bool):
        raise Mistake(place.problem("Period", f"should be such as 5 minutes, got {value!r}"))
    number, unit = match.groups()
    return int(number) * {"": 1, "s": 1, "m": 60, "h": 3600}[unit[:1].lower()]


def _actions(value: Any, place: Place) -> tuple[str, ...]:
    found = []
    for text in value if isinstance(value, list) else [] if value is None else [value]:
        first, arrow, to = re.sub(r"→|=>", "->", str(text)).partition("->")
        if not arrow or first.strip().upper() != "SNS" or not to.strip():
            raise Mistake(
                place.problem("Action", f"should be such as SNS -> PagerDuty, got {text!r}")
            )
        found.append(to.strip())
    return tuple(found)
