"""What a person sees in a terminal when a run has ended."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cachesim.scenarios.report import figures
from cachesim.scenarios.report.meanings import fails_otherwise
from cachesim.scenarios.report.record import Record, Split
from cachesim.scenarios.report.summary import allowed, cost_line, headline, measured

STYLES = {"pass": "green", "fail": "red", "unknown": "yellow"}
_SHADES = {"detection": "blue", "promotion": "cyan", "fault": "magenta", "client": "red"}
_WIDTH = 48


def shown(record: Record) -> RenderableType:
    """Return the verdict, the figures behind it, and what to do, to be printed without crop."""
    result = record.run.result
    title = Text.assemble(
        (f" {result.upper()} ", f"bold reverse {STYLES[result]}"),
        (f" {record.scenario.name}", "bold"),
        (f"  speed {record.environment.speed:g}, seed {record.scenario.seed}", "dim"),
    )
    told = Table.grid(padding=(0, 2, 0, 0))
    told.add_column(no_wrap=True, style="bold", min_width=len("Because"))
    told.add_column()
    for what, text in _told(record):
        told.add_row(what, text)
    # In one line, however long it is, to be copied.
    again = Text.assemble(("Again    ", "bold"), record.again, no_wrap=True, overflow="ignore")
    return Group(title, Text(headline(record)), "", _table(record), "", told, again)


def _table(record: Record) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column()
    gates = [it for it in record.gates if it.result != "pass"]
    for it in (*gates, *record.verdicts):
        figure, limit = measured(it), allowed(it)
        text = Text(f"{figure}, allowed {limit}" if figure and limit else figure)
        if it.result == "unknown" or not figure or fails_otherwise(it):
            text.append(f"{'. ' * bool(figure)}{it.reason}", "dim")
        table.add_row(Text(it.result, STYLES[it.result]), it.title, text)
    return table


def _told(record: Record) -> Iterator[tuple[str, RenderableType]]:
    if record.splits:
        yield from _split(record.splits[0])
    if record.costs:
        yield "Costs", cost_line(record, 0)
    for cause in record.causes[:2]:
        why = f" ({cause.service}). {cause.remedy}"
        yield "Because", Text.assemble((cause.constant, "red"), why)


def _split(split: Split) -> Iterator[tuple[str, RenderableType]]:
    sizes = [max(it.length.low, it.length.high or 0) for it in split.parts]
    whole = sum(sizes) or 1
    bar, told = Text(), Text()
    for part, size in zip(split.parts, sizes, strict=True):
        bar.append("█" * max(round(size / whole * _WIDTH), 1), _SHADES[part.name])
        length = figures.interval(part.length.low, part.length.high, "s")
        told.append("■ ", _SHADES[part.name])
        told.append(f"{part.title.lower()} {length}  ")
    total = figures.interval(split.total.low, split.total.high, "s")
    yield "Outage", Group(f"{split.name}: {total}, {split.what}", bar, told)
    yield "Shorten", split.shorten
