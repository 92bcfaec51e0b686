"""The report as one HTML file: self-contained, without network, in light and dark."""

import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from string import Template

from cachesim.scenarios.report import sections
from cachesim.scenarios.report.charts import Chart
from cachesim.scenarios.report.lanes import Lane
from cachesim.scenarios.report.markup import Markup, element, joined
from cachesim.scenarios.report.record import Record
from cachesim.scenarios.report.timeline_svg import timeline_svg


def page(
    record: Record, at: Sequence[float], charts: Sequence[Chart], lanes: Iterable[Lane],
    origin: float,
) -> str:  # fmt: skip
    """Return the report, HTML.

    Args:
        at: the times of the charts' values, in monotonic seconds.
        lanes: what each node was when.
        origin: the monotonic time that the record's times count from.
    """
    body = [
        sections.header(record),
        sections.verdicts(record),
        sections.splits(record),
        element(
            "div",
            element("div", sections.costs(record), sections.steps(record)),
            sections.causes(record),
            class_="columns",
        ),
        _over_time(record, charts, lanes, origin),
        sections.classes(record),
        sections.untested(record),
        sections.log(record),
    ]
    return Template(_asset("assets/page.html")).substitute(
        title=joined(f"{record.scenario.name}: {record.run.result}"),
        result=record.run.result,
        body=joined(body),
        series=_series(record, at, charts, origin),
        palette=_asset("assets/palette.css"),
        css=_asset("assets/report.css"),
        drawing=_asset("assets/drawing.js"),
        js=_asset("assets/report.js"),
        uplot_css=_asset("vendor/uPlot.min.css"),
        uplot_js=_asset("vendor/uPlot.iife.min.js"),
    )


def _asset(name: str) -> str:
    return files("cachesim.scenarios.report").joinpath(name).read_text(encoding="utf-8")


def _series(record: Record, times: Sequence[float], charts: Sequence[Chart], origin: float) -> str:
    """Return what the page's script draws, as JSON that can stand in HTML."""
    data = {
        "at": [round(at - origin, 3) for at in times],
        "begin": record.begin,
        "end": record.end,
        "speed": record.environment.speed,
        "faults": [
            [it.begin, record.end if it.end is None else it.end]
            for it in record.steps
            if it.begin is not None
        ],
        "promotions": sorted({round(it.at, 3) for it in record.events if it.kind == "failover"}),
        "charts": [
            {
                "unit": chart.unit,
                "log": chart.is_log,
                "lines": [
                    {
                        "label": line.label,
                        "color": line.color,
                        "style": line.style,
                        "values": [it if it is None else float(f"{it:.4g}") for it in line.values],
                    }
                    for line in chart.lines
                ],
            }
            for chart in charts
        ],
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _over_time(
    record: Record, charts: Sequence[Chart], lanes: Iterable[Lane], origin: float
) -> Markup:
    times = "Times are real"
    if (speed := record.environment.speed) != 1:
        times = f"Times of the charts are real, those above in production, {speed:g} times as long"
    return element(
        "section",
        element("span", "Drag to zoom, double-click to go back", class_="hint"),
        element("h2", "Over time"),
        element("p", f"{times}, from the end of the baseline.", class_="muted"),
        timeline_svg(record, lanes, origin),
        element("div", _keys(), class_="keys"),
        _charts(charts),
        class_="over-time",
    )


def _keys() -> Iterator[Markup]:
    for css, text in (
        ("k-fault", "fault"),
        ("k-primary", "primary"),
        ("k-replica", "replica, or answers"),
        ("k-fenced", "fenced"),
        ("k-away", "answers nothing"),
    ):
        yield element("span", element("i", class_=css), text)


def _charts(charts: Sequence[Chart]) -> Iterator[Markup]:
    for number, chart in enumerate(charts):
        yield element(
            "div",
            element("div", element("h3", chart.title), element("p", chart.note), class_="about"),
            element("div", class_="plot"),
            class_="chart",
            id=f"chart-{number}",
        )
