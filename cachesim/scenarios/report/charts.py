"""The charts of a run: its traffic in slices of time, and the servers' samples beside it."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from cachesim.history.percentiles import percentile
from cachesim.history.reader import History
from cachesim.history.rows import ORIGIN, SampleName
from cachesim.scenarios.checkers.lags import offset_lags
from cachesim.scenarios.checkers.stale_reads import NAME as STALE_READS
from cachesim.scenarios.checkers.stale_reads import stale_reads
from cachesim.scenarios.checkers.survey import OperationClass, survey
from cachesim.scenarios.report.services import main_classes, services
from cachesim.scenarios.report.slices import Slice, Sliced, Slicing, Values, worst_pod

_ALWAYS = 0.99
"""The hit rate from which it is not shown: sessions are always found."""
_STANDS_OUT = 1.2
"""How many times the average pod's share of bad operations a pod has that is shown."""
_STORM = 20.0
"""New connections a second on one node from which they are shown."""
_MEMORY_SHOWN = 50.0
"""Percent of a node's memory from which memory is shown."""


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: for people.
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
        unit: of its values, behind them: `%`, `ms`, `s`, `/s`, or empty.
        note: what it shows, for people.
        is_log: whether its scale is logarithmic.
    """

    title: str
    unit: str
    note: str
    lines: list[Line]
    is_log: bool = False


def charts(
    history: History,
    slicing: Slicing,
    classes: Mapping[OperationClass, Sliced],
    judged: Iterable[str] = (),
) -> list[Chart]:
    """Return the charts of a run, without those that would be empty.

    Args:
        classes: the operations, in slices.
        judged: the names of the verdicts. Stale reads take long to find: they are shown of the
            services whose verdict has found them.
    """
    traffic = _Traffic(history, slicing, classes)
    found = [
        Chart(
            "Throughput",
            "/s",
            "Operations a second, by the time when they were due. Bad: no answer in time.",
            list(traffic.throughput()),
        ),
        Chart(
            "Errors",
            "%",
            "The share of bad operations. Dashed: a pod that stands out.",
            list(traffic.errors()),
        ),
        Chart(
            "Latency",
            "ms",
            "From due to answer, of what was answered.",
            list(traffic.latency()),
            is_log=True,
        ),
        Chart(
            "Hit rate",
            "%",
            "The share of answered reads that found something.",
            list(traffic.hits()),
        ),
        Chart("Origin", "/s", "What a miss loads, a second.", list(traffic.origin())),
        Chart(
            "Replication lag",
            "s",
            "How far a replica's offset is behind the primary's.",
            list(_lags(history, slicing)),
        ),
        Chart(
            "Staleness",
            "s",
            "The age of the oldest value that was read although a newer one was acknowledged.",
            list(_staleness(history, slicing, judged)),
        ),
        Chart(
            "Connections",
            "",
            "Open on each node, without cachesim's own.",
            list(_connections(history, slicing)),
        ),
        Chart("New connections", "/s", "Accepted by each node.", list(_accepted(history, slicing))),
        Chart("Memory", "%", "Used, of what a node may use.", list(_memory(history, slicing))),
    ]
    return [chart for chart in found if chart.lines]


class _Traffic:
    """The lines of the charts that the workload's operations make."""

    def __init__(
        self, history: History, slicing: Slicing, classes: Mapping[OperationClass, Sliced]
    ) -> None:
        self._history = history
        self._slicing = slicing
        self._numbers = range(slicing.count)
        self._classes = classes
        self._services = services(history)
        self._colors = {name: f"s{n % 4 + 1}" for n, name in enumerate(self._services)}

    def _of(self, service: str, number: int) -> list[Slice]:
        found = (it.slices.get(number) for name, it in self._classes.items() if name[0] == service)
        return [it for it in found if it is not None]

    def _rate(self, names: Iterable[str], count: Callable[[Slice], int]) -> Values:
        """Return what is counted in services, a second."""
        every = list(names)
        return [
            sum(count(it) for name in every for it in self._of(name, n)) / self._slicing.length(n)
            for n in self._numbers
        ]

    def throughput(self) -> Iterator[Line]:
        bad = self._rate(self._services, lambda it: it.due - it.good)
        yield Line("all, bad", bad, "bad", "area")
        for name in self._services:
            good = self._rate([name], lambda it: it.good)
            yield Line(f"{name}, good", good, self._colors[name])

    def errors(self) -> Iterator[Line]:
        for name in main_classes(self._history):
            slices = [self._classes[name].slices.get(n) for n in self._numbers]
            color = self._colors[name.service]
            style = "line" if name.kind == "write" else "thin"
            shares = [_percent(it.due - it.good, it.due) if it else None for it in slices]
            yield Line(str(name), shares, color, style)
            if self._stands_out(name):
                worst = [_percent(it.worst_bad, it.worst_due) if it else None for it in slices]
                yield Line(f"{name}, {worst_pod(self._history, name)}", worst, color, "dash")

    def _stands_out(self, name: OperationClass) -> bool:
        """Return whether a class has a pod that is worse than the average."""
        it = self._history.compute(survey)[name]
        shares = [pod.bad / pod.due for pod in it.pods.values() if pod.due]
        return bool(it.all.bad) and max(shares) > _STANDS_OUT * sum(shares) / len(shares)

    def latency(self) -> Iterator[Line]:
        for name in self._services:
            values = [
                sorted(took for it in self._of(name, n) for took in it.latencies)
                for n in self._numbers
            ]
            for label, share, style in (("p99", 0.99, "line"), ("p50", 0.5, "thin")):
                told: Values = [percentile(it, share) * 1000 if it else None for it in values]
                if any(values):
                    yield Line(f"{name}, {label}", told, self._colors[name], style)

    def hits(self) -> Iterator[Line]:
        for name, it in sorted(self._classes.items()):
            every = list(it.slices.values())
            hits, answered = sum(one.hits for one in every), sum(one.answered for one in every)
            is_shown = name.service in self._services and name.kind == "read" and hits
            if is_shown and hits < _ALWAYS * answered:
                slices = [it.slices.get(n) for n in self._numbers]
                shares = [_percent(one.hits, one.answered) if one else None for one in slices]
                yield Line(name.service, shares, self._colors[name.service])

    def origin(self) -> Iterator[Line]:
        if any(name.service == ORIGIN for name in self._classes):
            yield Line("loads", self._rate([ORIGIN], lambda it: it.due), "s3")
            refused = self._rate([ORIGIN], lambda it: it.due - it.answered)
            if any(refused):
                yield Line("refused", refused, "bad", "area")


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _lags(history: History, slicing: Slicing) -> Iterator[Line]:
    for node, lag in sorted(history.compute(offset_lags).items()):
        yield Line(node, slicing.highest(zip(*lag, strict=True)), _color(node))


def _staleness(history: History, slicing: Slicing, judged: Iterable[str]) -> Iterator[Line]:
    for number, name in enumerate(sorted(judged)):
        checker, _, service = name.partition(": ")
        if checker != STALE_READS:
            continue
        found = history.compute(stale_reads, service).stale
        if found:
            values = slicing.highest((it.start, it.age) for it in found)
            yield Line(service, [it or 0.0 for it in values], f"s{number % 4 + 1}", "area")


def _connections(history: History, slicing: Slicing) -> Iterator[Line]:
    for node, points in _by_node(history, "connections").items():
        yield Line(node, slicing.highest(points), _color(node), _style(node))


def _accepted(history: History, slicing: Slicing) -> Iterator[Line]:
    lines = []
    for node, points in _by_node(history, "connections_received").items():
        values: Values = [0.0] * slicing.count
        before = None
        for at, total in points:
            # A counter that fell began anew with its process.
            rise = 0 if before is None else total - before if total >= before else total
            before = total
            if at > slicing.begin:  # pools are opened before
                number = slicing.number(at)
                values[number] = (values[number] or 0) + rise / slicing.length(number)
        lines.append(Line(node, values, _color(node), _style(node)))
    if any((value or 0) > _STORM for line in lines for value in line.values):
        yield from lines


def _memory(history: History, slicing: Slicing) -> Iterator[Line]:
    limits = _by_node(history, "max_memory")
    lines = []
    for node, points in _by_node(history, "used_memory").items():
        times = [at for at, _ in limits.get(node, ())]
        shares = []
        for at, used in points:
            number = bisect_right(times, at)
            most = limits[node][number - 1][1] if number else 0
            if most:
                shares.append((at, 100 * used / most))
        lines.append(Line(node, slicing.highest(shares), _color(node), _style(node)))
    if any((value or 0) > _MEMORY_SHOWN for line in lines for value in line.values):
        yield from lines


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
