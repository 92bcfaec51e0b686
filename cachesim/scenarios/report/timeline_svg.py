"""The timeline as SVG: faults, the control plane's events, and what each node was, by zone.

Positions are in percent, so that it is as wide as its page. Everything that has a place in time
has it as `data-b` and `data-e` too, in seconds: the page moves it when it is zoomed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cachesim.scenarios.report import figures
from cachesim.scenarios.report.lanes import Lane
from cachesim.scenarios.report.markup import Markup, element
from cachesim.scenarios.report.record import EventRecord, Record

ROW, BAR, GAP = 22, 14, 12
"""Pixels: the height of a row, of a bar in it, and between groups."""
_WIDE = 125.0
"""Characters that fit into the width of the timeline."""
_LAST_TICK = 98.0
"""Percent of the width behind which a time has no room."""
_SHOWN = {
    "detecting": "primary lost",
    "promoting": "failover begins",
    "failover": "failover done",
    "recovering": "replacing",
    "recovered": "replaced",
    "failover-call": "failover asked for",
    "role": "new primary",
}
"""The control plane's events that are shown."""
_STATES = {
    "primary": "primary",
    "replica": "replica",
    "fenced": "fenced: a former primary that refuses writes",
    "up": "answers",
    "away": "answers nothing",
}


@dataclass
class _Drawing:
    """Grows from top to bottom."""

    begin: float
    end: float
    labels: list[Markup] = field(default_factory=list)
    parts: list[Markup] = field(default_factory=list)
    height: float = 22

    def percent(self, at: float) -> float:
        share = (at - self.begin) / max(self.end - self.begin, 1e-9)
        return round(min(max(share, 0), 1) * 100, 3)

    def label(self, text: str, css: str = "label") -> None:
        y = self.height + ROW / 2 + 4
        self.labels.append(element("text", text, x="100%", y=y, dx=-10, class_=css))

    def group(self, title: str) -> None:
        self.height += GAP
        self.label(title, "group")
        self.height += ROW - 4

    def bar(self, begin: float, end: float, css: str, title: str, text: str = "") -> None:
        left, right = self.percent(begin), self.percent(end)
        y = self.height + (ROW - BAR) / 2
        place: dict[str, object] = {"data_b": round(begin, 3), "data_e": round(end, 3)}
        shape = element(
            "rect", element("title", title), x=f"{left}%", y=y, rx=2,
            width=f"{max(right - left, 0.15):.3f}%", height=BAR, class_=css, **place,
        )  # fmt: skip
        self.parts.append(shape)
        room = (right - left) / 100 * _WIDE
        if text and len(text) + 2 <= room:
            inside = element(
                "text", text, x=f"{left}%", y=y + BAR - 3.5, dx=5, class_="inbar", **place
            )
            self.parts.append(inside)
        elif text and right + len(text) * 100 / _WIDE < 100:
            place = {"data_b": round(end, 3)}
            self.parts.append(element("text", text, x=f"{right}%", y=y + BAR - 3, dx=8, **place))


def timeline_svg(record: Record, lanes: Iterable[Lane], origin: float) -> Markup:
    """Return the timeline of a run.

    Args:
        lanes: what each node was when.
        origin: the monotonic time that the record's times count from.
    """
    drawing = _Drawing(record.begin, record.end)
    _faults(drawing, record)
    _events(drawing, record.events)
    zone = ""
    for lane in lanes:
        if lane.zone != zone:
            zone = lane.zone
            drawing.group(f"az-{zone}")
        drawing.label(lane.node)
        for it in lane.stretches:
            told = f"{lane.node}: {_STATES[it.state]}, {_span(it.begin - origin, it.end - origin)}"
            drawing.bar(it.begin - origin, it.end - origin, f"state {it.state} z{zone}", told)
        drawing.height += ROW
    height = drawing.height + 6
    plot = [*_grid(drawing, record, height), *drawing.parts]
    return element(
        "div",
        element("svg", drawing.labels, class_="labels", height=height, aria_hidden="true"),
        element(
            "svg", plot, class_="lanes", height=height, role="img",
            aria_label="Faults, control-plane events and nodes over time",
        ),
        class_="timeline",
    )  # fmt: skip


def _span(begin: float, end: float) -> str:
    return f"{begin:.1f} to {end:.1f} s"


def _grid(drawing: _Drawing, record: Record, height: float) -> Iterator[Markup]:
    """Yield a line at every round time, with production's time if the run was faster."""
    speed = record.environment.speed
    for production in _round_times(record.begin * speed, record.end * speed):
        at = production / speed
        x = f"{drawing.percent(at)}%"
        place = {"data_b": round(at, 4)}
        yield element("line", x1=x, x2=x, y1=18, y2=height, class_="grid", **place)
        text = figures.seconds(production) if at > 0 else "0" if at == 0 else ""
        if text and drawing.percent(at) < _LAST_TICK:
            yield element("text", text, x=x, y=12, class_="tick", **place)
    x = f"{drawing.percent(0)}%"
    yield element("line", x1=x, x2=x, y1=0, y2=height, class_="start", data_b=0)


def _round_times(begin: float, end: float) -> list[float]:
    step = next(
        it for it in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 36000)
        if (end - begin) / it <= 12 or it == 36000
    )  # fmt: skip
    first = -int(-begin // step) * step
    return [first + step * number for number in range(int((end - first) / step) + 1)]


def _faults(drawing: _Drawing, record: Record) -> None:
    drawing.label("faults", "group")
    drawing.height += ROW - 4
    for step in record.steps:
        drawing.label(step.id)
        if step.begin is not None:
            end = record.end if step.end is None else step.end
            name = str(step.fault.get("fault", step.id))
            told = f"{name} on {step.target}, {_span(step.begin, end)}. {step.witness}"
            drawing.bar(step.begin, end, "fault", told, f"{name} on {step.target}")
            if step.end_confirmed is not None and step.end_confirmed > end:
                drawing.bar(end, step.end_confirmed, "fault ending", "until its effect was gone")
        drawing.height += ROW


def _events(drawing: _Drawing, events: Iterable[EventRecord]) -> None:
    shown = [it for it in events if it.kind in _SHOWN and drawing.begin <= it.at <= drawing.end]
    if not shown:
        return
    drawing.group("control plane")
    rows: list[float] = []
    top = drawing.height
    seen: set[tuple[str, float]] = set()
    for it in shown:
        key = (it.kind, round(it.at, 2))
        if key in seen:
            continue  # a failover is logged for its node and for its group
        seen.add(key)
        left = drawing.percent(it.at)
        text = f"{_SHOWN[it.kind]}: {it.source}"
        row = next((n for n, taken in enumerate(rows) if taken <= left), len(rows))
        rows[row : row + 1] = [left + (len(text) + 4) * 100 / _WIDE]
        y = top + row * 16 + 8
        x = f"{left}%"
        place = {"data_b": round(it.at, 3)}
        title = element("title", f"{it.at:.2f} s: {it.kind} {it.source} {it.message}")
        dot = element("circle", title, cx=x, cy=y, r=4, class_=f"event {it.kind}", **place)
        is_late = left > 82
        said = element(
            "text", text, x=x, y=y + 4, dx=-9 if is_late else 9,
            class_="eventtext late" if is_late else "eventtext", **place,
        )  # fmt: skip
        drawing.parts += [dot, said]
    drawing.height = top + len(rows) * 16
