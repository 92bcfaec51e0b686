"""What the charts show: one pass over all operations, by time, and the servers' samples beside it.

A run is cut into some hundred slices. Figures of a slice are those of the operations that were due
in it, or the highest reading in it.
"""

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cachesim.history.reader import History
from cachesim.history.rows import SampleName
from cachesim.scenarios.checkers.stale_reads import NAME as STALE_READS
from cachesim.scenarios.checkers.stale_reads import offset_lags, stale_reads
from cachesim.scenarios.checkers.survey import OperationClass, begin_of, classes_of, survey

SLICES = 400
_LEAST_OPERATIONS = 5
"""Operations that a slice has on average, at least."""
_NICE = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
_MEMORY_SHOWN = 0.5
"""The share of its memory from which a node's memory is shown."""

_OPERATIONS = """
SELECT service, kind = 'read', pod, due, end, outcome = 'ok', read IS NOT NULL FROM operations
WHERE due >= ? AND due <= ? ORDER BY due
"""

Values = list[float | None]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: for people.
        values: one a slice; None: nothing is known of it.
        color: the name of a color of the page.
        style: `line`, `thin`, `dash` or `area`.
    """

    label: str
    values: Values
    color: str
    style: str = "line"


@dataclass(frozen=True)
class Chart:
    """One chart over the time of the run.

    Attributes:
        unit: of its values, behind them: `%`, `ms`, `s`, or empty.
        note: what it shows, for people.
        is_log: whether its scale is logarithmic.
    """

    title: str
    unit: str
    note: str
    lines: list[Line]
    is_log: bool = False


@dataclass(frozen=True)
class Latency:
    """The latency of a class's answered operations, from due to answer, in seconds."""

    p50: float
    p99: float
    slowest: float


@dataclass(frozen=True)
class Series:
    """All charts of a run, and what the same pass found.

    Attributes:
        at: the middle of each slice, in monotonic seconds.
    """

    at: list[float]
    charts: list[Chart]
    latencies: Mapping[OperationClass, Latency]


@dataclass
class _Slice:
    """The operations of one class that were due in one slice."""

    due: int = 0
    good: int = 0
    hits: int = 0
    answered: int = 0
    worst_due: int = 0
    worst_bad: int = 0
    latencies: list[float] = field(default_factory=list)


@dataclass
class _Class:
    """The slices of one class, and all its latencies."""

    slices: dict[int, _Slice] = field(default_factory=dict)
    latencies: "array[float]" = field(default_factory=lambda: array("d"))


class _Slicing:
    """Cuts a run into slices."""

    def __init__(self, history: History) -> None:
        self.begin, end = begin_of(history), history.end_at
        length = max(end - self.begin, 0.1)
        due = sum(it.all.due for it in history.compute(survey).values())
        least = max(length / SLICES, _LEAST_OPERATIONS * length / max(due, 1))
        self.width = next((it for it in _NICE if it >= least), math.ceil(least / 600) * 600)
        self.count = max(1, math.ceil(length / self.width - 1e-9))

    def number(self, at: float) -> int:
        return min(int((at - self.begin) / self.width), self.count - 1)

    @property
    def middles(self) -> list[float]:
        return [self.begin + (number + 0.5) * self.width for number in range(self.count)]

    def highest(self, points: Iterable[tuple[float, float]]) -> Values:
        """Return the highest value of each slice."""
        found: Values = [None] * self.count
        for at, value in points:
            if at >= self.begin:
                number = self.number(at)
                before = found[number]
                found[number] = value if before is None else max(before, value)
        return found


def series(history: History, judged: Iterable[str] = ()) -> Series:
    """Return what the charts show.

    Args:
        judged: the names of the verdicts. Stale reads take long to find: they are shown of the
            services whose verdict has found them.
    """
    slicing = _Slicing(history)
    classes = _pass(history, slicing)
    charts = [
        *_traffic(history, slicing, classes),
        *_lags(history, slicing),
        *_staleness(history, slicing, judged),
        *_servers(history, slicing),
    ]
    latencies = {name: found for name, it in classes.items() if (found := _latency(it.latencies))}
    return Series(slicing.middles, charts, latencies)


def worst_pod(history: History, name: OperationClass) -> str | None:
    """Return the pod of a class with the largest share of bad operations."""
    pods = history.compute(survey)[name].pods
    return max(pods, key=lambda pod: pods[pod].bad / max(pods[pod].due, 1), default=None)


def _pass(history: History, slicing: _Slicing) -> dict[OperationClass, _Class]:
    names = {(it.service, int(it.kind == "read")): it for it in history.compute(survey)}
    worst = {key: worst_pod(history, name) for key, name in names.items()}
    found: dict[tuple[str, int], _Class] = {key: _Class() for key in names}
    deadline, begin, width, last = (
        history.deadline, slicing.begin, slicing.width, slicing.count - 1,
    )  # fmt: skip
    for service, is_read, pod, due, end, ok, hit in history.rows(
        _OPERATIONS, begin, history.end_at
    ):
        key = (service, is_read)
        it = found[key]
        number = min(int((due - begin) / width), last)
        one = it.slices.get(number)
        if one is None:
            one = it.slices[number] = _Slice()
        one.due += 1
        is_worst = pod == worst[key]
        one.worst_due += is_worst
        if ok and end is not None:
            took = end - due
            one.latencies.append(took)
            it.latencies.append(took)
            one.answered += 1
            one.hits += hit
            if took <= deadline:
                one.good += 1
                continue
        one.worst_bad += is_worst
    return {names[key]: it for key, it in found.items()}


def _latency(values: "array[float]") -> Latency | None:
    every = sorted(values)
    return Latency(_at(every, 0.5), _at(every, 0.99), every[-1]) if every else None


def _at(values: Sequence[float], share: float) -> float:
    return values[int((len(values) - 1) * share)]


def _traffic(
    history: History, slicing: _Slicing, classes: Mapping[OperationClass, _Class]
) -> Iterator[Chart]:
    services = list(dict.fromkeys(name.service for name in sorted(classes)))
    services.sort(key=lambda name: (name != "sessions", name != "api_cache"))
    colors = {service: f"s{number % 4 + 1}" for number, service in enumerate(services)}
    numbers = range(slicing.count)

    def of(service: str, number: int) -> list[_Slice]:
        return [
            it.slices[number]
            for name, it in classes.items()
            if name.service == service and number in it.slices
        ]

    good = [
        Line(
            f"{service}, good",
            [sum(it.good for it in of(service, n)) / slicing.width for n in numbers],
            colors[service],
        )
        for service in services
    ]
    bad: Values = [
        sum(it.due - it.good for service in services for it in of(service, n)) / slicing.width
        for n in numbers
    ]
    yield Chart(
        "Throughput",
        "/s",
        "Operations a second, by the time when they were due. Bad: no answer in time.",
        [Line("all, bad", bad, "bad", "area"), *good],
    )
    yield Chart(
        "Errors", "%", "The share of bad operations. Dashed: the worst pod.",
        list(_errors(history, classes, numbers, colors)),
    )  # fmt: skip
    lines = []
    for service in services:
        values = [sorted(t for it in of(service, n) for t in it.latencies) for n in numbers]
        for label, share, style in (("p99", 0.99, "line"), ("p50", 0.5, "thin")):
            told: Values = [_at(it, share) * 1000 if it else None for it in values]
            lines.append(Line(f"{service}, {label}", told, colors[service], style))
    yield Chart("Latency", "ms", "From due to answer, of what was answered.", lines, is_log=True)
    yield from _hits(classes, numbers, colors)


def _errors(
    history: History,
    classes: Mapping[OperationClass, _Class],
    numbers: range,
    colors: Mapping[str, str],
) -> Iterator[Line]:
    shown = {it for name in classes for it in classes_of(history, name.service, None)}
    for name in sorted(shown, key=lambda it: (it.service != "sessions", it)):
        slices = [classes[name].slices.get(n) for n in numbers]
        color = colors[name.service]
        every: Values = [_percent(it.due - it.good, it.due) if it else None for it in slices]
        style = "line" if name.kind == "write" else "thin"
        yield Line(str(name), every, color, style)
        worst = worst_pod(history, name)
        if len(history.compute(survey)[name].pods) > 1 and any(it for it in slices if it):
            told: Values = [_percent(it.worst_bad, it.worst_due) if it else None for it in slices]
            if any(told):
                yield Line(f"{name}, {worst}", told, color, "dash")


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _hits(
    classes: Mapping[OperationClass, _Class], numbers: range, colors: Mapping[str, str]
) -> Iterator[Chart]:
    lines = []
    for name, it in sorted(classes.items()):
        slices = [it.slices.get(n) for n in numbers]
        if name.kind == "read" and any(one and one.hits for one in slices):
            values: Values = [_percent(one.hits, one.answered) if one else None for one in slices]
            lines.append(Line(name.service, values, colors[name.service]))
    if lines:
        yield Chart("Hit rate", "%", "The share of answered reads that found something.", lines)


def _lags(history: History, slicing: _Slicing) -> Iterator[Chart]:
    lags = history.compute(offset_lags)
    lines = [
        Line(node, slicing.highest(zip(*lag, strict=True)), _color(node))
        for node, lag in sorted(lags.items())
    ]
    if lines:
        note = "How far a replica's offset is behind the primary's."
        yield Chart("Replication lag", "s", note, lines)


def _staleness(history: History, slicing: _Slicing, judged: Iterable[str]) -> Iterator[Chart]:
    lines = []
    for number, name in enumerate(sorted(judged)):
        checker, _, service = name.partition(": ")
        if checker == STALE_READS:
            found = history.compute(stale_reads, service).stale
            values = slicing.highest((it.start, it.age) for it in found)
            if found:
                every: Values = [it or 0.0 for it in values]
                lines.append(Line(service, every, f"s{number % 4 + 1}", "area"))
    if lines:
        note = "The age of the oldest value that was read although a newer one was acknowledged."
        yield Chart("Staleness", "s", note, lines)


def _servers(history: History, slicing: _Slicing) -> Iterator[Chart]:
    connections = _by_node(history, "connections")
    if connections:
        yield Chart(
            "Connections", "", "Open on each node, without cachesim's own.",
            [
                Line(node, slicing.highest(points), _color(node), _style(node))
                for node, points in connections.items()
            ],
        )  # fmt: skip
    used, most = _by_node(history, "used_memory"), _by_node(history, "max_memory")
    lines = []
    for node, points in used.items():
        limits = most.get(node) or [(0.0, 0.0)]
        times = [at for at, _ in limits]
        shares = [
            (at, 100 * value / limit)
            for at, value in points
            if (limit := limits[min(bisect_left(times, at), len(limits) - 1)][1])
        ]
        lines.append(Line(node, slicing.highest(shares), _color(node), _style(node)))
    if any(value and value > 100 * _MEMORY_SHOWN for line in lines for value in line.values):
        yield Chart("Memory", "%", "Used, of what a node may use.", lines)


def _by_node(history: History, name: SampleName) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    for sample in history.samples(name):
        found.setdefault(sample.node, []).append((sample.at, sample.value))
    return dict(sorted(found.items(), key=lambda it: (not it[0].startswith("redis"), it[0])))


def _color(node: str) -> str:
    """Return the color of a node's zone."""
    zone = node.rpartition("-")[2]
    return f"z{zone}" if zone in ("a", "b", "c") else "s4"


def _style(node: str) -> str:
    return "line" if node.startswith("redis") else "dash"
