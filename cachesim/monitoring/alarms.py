"""Alarms: what they watch, and the states that they go through. Pure: fed with minutes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, NamedTuple

from cachesim.monitoring.datapoints import Datapoint, Minute
from cachesim.monitoring.expressions import expression
from cachesim.monitoring.minutes import MINUTE
from cachesim.monitoring.states import MissingData, State, evaluate, evaluation_range
from cachesim.topology import Service

Statistic = Literal["Average", "Sum", "Minimum", "Maximum", "SampleCount"]
Comparison = Literal[
    "GreaterThanThreshold",
    "GreaterThanOrEqualToThreshold",
    "LessThanThreshold",
    "LessThanOrEqualToThreshold",
]
Level = Literal["warning", "critical"]
CHANGES = 100
"""The changes of an alarm that are kept."""


@dataclass(frozen=True)
class Query:
    """One metric of an alarm.

    Attributes:
        metric: its name.
        node: of which node; None: of each node that the alarm is about.
    """

    metric: str
    statistic: Statistic = "Average"
    node: str | None = None


@dataclass(frozen=True)
class Alarm:
    """The definition of an alarm.

    An alarm on several nodes is on the worst of them in each period.

    Attributes:
        name: its name.
        service: the engine.
        nodes: the names of the nodes that it is about.
        queries: its metrics by id.
        math: what is made of them; the text of an `Expression`.
        comparison: the metric is the first operand.
        threshold: in the metric's unit.
        period: in seconds of production, a multiple of 60.
        periods: how many are looked at (N).
        needed: how many have to breach (M).
        missing: what is made of missing data.
        actions: where each state's messages go, such as `PagerDuty`.
        description: for people.
        level: of an alarm that is a threshold of the table.
        source: where the definition is from, for messages.
    """

    name: str
    service: Service
    nodes: tuple[str, ...]
    queries: Mapping[str, Query]
    math: str
    comparison: Comparison
    threshold: float
    period: int = 300
    periods: int = 1
    needed: int = 1
    missing: MissingData = "missing"
    actions: Mapping[State, tuple[str, ...]] = field(default_factory=dict)
    description: str = ""
    level: Level | None = None
    source: str = "the architecture"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of its metrics."""
        return tuple(dict.fromkeys(query.metric for query in self.queries.values()))

    @property
    def label(self) -> str:
        """What it is compared with its threshold, for people."""
        return self.metrics[0] if len(self.metrics) == 1 else self.math

    @property
    def is_upper(self) -> bool:
        """Whether high values are bad."""
        return self.comparison.startswith("Greater")

    def breaches(self, value: float) -> bool:
        """Return whether a value is beyond the threshold."""
        match self.comparison:
            case "GreaterThanThreshold":
                return value > self.threshold
            case "GreaterThanOrEqualToThreshold":
                return value >= self.threshold
            case "LessThanThreshold":
                return value < self.threshold
        return value <= self.threshold

    @property
    def minutes(self) -> int:
        """How many minutes it looks at."""
        return evaluation_range(self.periods) * self.width

    @property
    def width(self) -> int:
        """The minutes of a period."""
        return max(1, round(self.period / MINUTE))


class Value(NamedTuple):
    """What an alarm saw in a period: the worst of its nodes. `node` is empty: of several."""

    value: float
    node: str


class Change(NamedTuple):
    """An alarm that changed its state.

    Attributes:
        at: in monotonic seconds, as the events' times.
        date: the same moment as wall-clock time, in UTC.
        reason: as CloudWatch writes it.
        value: what it saw in the last period; None: no data.
        node: of which node; empty: of several, or of none.
    """

    alarm: str
    old: State
    new: State
    at: float
    date: datetime
    reason: str
    value: float | None
    node: str


class Watch:
    """The state of one alarm. It begins with INSUFFICIENT_DATA.

    Attributes:
        alarm: its definition.
        state: its state.
        since: when it changed last, in monotonic seconds; None: never.
        reason: why it has this state.
        value: what it saw in the last period; None: no data.
        changes: the last changes, the oldest first.
    """

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm
        self.state = State.INSUFFICIENT_DATA
        self.since: float | None = None
        self.reason = "Unchecked: Initial alarm creation"
        self.value: Value | None = None
        self.changes: list[Change] = []

    def look(self, minutes: Sequence[Minute], date: datetime) -> Change | None:
        """Evaluate the alarm at the end of a minute; return the change, if it is one.

        Periods before the monitoring began are no missing data that breaches: nothing was wrong.

        Args:
            minutes: the last ones, the oldest first, without gaps.
            date: the wall-clock time.
        """
        alarm, now = self.alarm, minutes[-1].end
        if alarm.missing == "breaching" and len(minutes) < alarm.minutes:
            alarm = replace(alarm, missing="missing")
        periods = _periods(alarm, minutes)
        seen = [value_of(alarm, some) for some in periods]
        breaching = [None if it is None else alarm.breaches(it.value) for it in seen]
        self.value = seen[-1]
        new = evaluate(breaching, alarm.needed, alarm.periods, alarm.missing)
        if new is None or new is self.state:
            return None
        reason = _reason(alarm, self.state, new, seen, date)
        worst = self.value or Value(0.0, "")
        change = Change(
            alarm.name, self.state, new, now, date, reason,
            None if self.value is None else worst.value, worst.node,
        )  # fmt: skip
        self.state, self.since, self.reason = new, now, reason
        self.changes = [*self.changes[-CHANGES + 1 :], change]
        return change


def _periods(alarm: Alarm, minutes: Sequence[Minute]) -> list[Sequence[Minute]]:
    """Return the minutes of each period of the evaluation range, the oldest first."""
    count = evaluation_range(alarm.periods)
    ends = [len(minutes) - k * alarm.width for k in reversed(range(count))]
    return [minutes[max(0, end - alarm.width) : max(0, end)] for end in ends]


def value_of(alarm: Alarm, minutes: Sequence[Minute]) -> Value | None:
    """Return what an alarm sees in a period; None: no data."""
    math = expression(alarm.math)
    if all(query.node is not None for query in alarm.queries.values()):
        nodes = {query.node for query in alarm.queries.values()}
        found = math.value(_values(alarm, "", minutes))
        return None if found is None else Value(found, nodes.pop() or "" if len(nodes) == 1 else "")
    seen = [
        Value(value, node)
        for node in alarm.nodes
        if (value := math.value(_values(alarm, node, minutes))) is not None
    ]
    worst = max if alarm.is_upper else min
    return worst(seen, key=lambda it: it.value) if seen else None


def _values(alarm: Alarm, node: str, minutes: Sequence[Minute]) -> dict[str, float | None]:
    return {
        name: _statistic(
            query.statistic,
            [
                point
                for it in minutes
                if (point := it.nodes.get(query.node or node, {}).get(query.metric))
            ],
        )
        for name, query in alarm.queries.items()
    }


def _statistic(statistic: Statistic, points: Sequence[Datapoint]) -> float | None:
    """Return a statistic of a period. ElastiCache publishes one value each minute."""
    if not points:
        return None
    match statistic:
        case "Average":
            return sum(it.value for it in points) / len(points)
        case "Sum":
            return sum(it.value for it in points)
        case "Minimum":
            return min(it.minimum for it in points)
        case "Maximum":
            return max(it.maximum for it in points)
    return float(len(points))


SIGNS: Mapping[Comparison, str] = {
    "GreaterThanThreshold": ">",
    "GreaterThanOrEqualToThreshold": ">=",
    "LessThanThreshold": "<",
    "LessThanOrEqualToThreshold": "<=",
}
"""The comparisons as people write them."""
_WORDS: Mapping[Comparison, str] = {
    "GreaterThanThreshold": "greater than",
    "GreaterThanOrEqualToThreshold": "greater than or equal to",
    "LessThanThreshold": "less than",
    "LessThanOrEqualToThreshold": "less than or equal to",
}
_TREATED = {"breaching": "Breaching", "notBreaching": "NonBreaching"}


def _reason(
    alarm: Alarm, old: State, new: State, seen: Sequence[Value | None], date: datetime
) -> str:
    real = [it for it in seen if it is not None][-alarm.periods :]
    absent = alarm.periods - len(real)
    if new is State.INSUFFICIENT_DATA:
        if real:
            return f"Insufficient Data: {absent} {_s('datapoint', absent)} unknown."
        return f"Insufficient Data: {_received(0, alarm.periods)}."
    filled = ""
    if absent and alarm.missing in _TREATED:
        word = _TREATED[alarm.missing]
        filled = f" and {absent} missing {_s('datapoint', absent)} treated as [{word}]"
    beyond = [it for it in real if alarm.breaches(it.value)]
    shown = beyond if new is State.ALARM else [it for it in real if it not in beyond]
    if not shown:  # what is missing has decided
        return f"Threshold Crossed: {_received(len(real), alarm.periods)}{filled}."
    values = ", ".join(f"{it.value:.10g}" for it in reversed(shown))
    no = "" if new is State.ALARM else "not "
    needed = alarm.needed if new is State.ALARM else alarm.periods - alarm.needed + 1
    return (
        f"Threshold Crossed: {len(shown)} out of the last {len(real)} "
        f"datapoints [{values} ({date:%d/%m/%y %H:%M:%S})] "
        f"{'was' if len(shown) == 1 else 'were'} {no}{_WORDS[alarm.comparison]} the threshold "
        f"({float(alarm.threshold)}){filled} (minimum {needed} "
        f"{_s('datapoint', needed, verb=False)} for {old} -> {new} transition)."
    )


def _received(count: int, periods: int) -> str:
    return (
        f"{count or 'no'} {_s('datapoint', count)} received for {periods} {_s('period', periods)}"
    )


def _s(word: str, count: int, *, verb: bool = True) -> str:
    plural = count != 1
    text = f"{word}s" if plural else word
    if verb and word == "datapoint":
        text += " were" if plural else " was"
    return text
