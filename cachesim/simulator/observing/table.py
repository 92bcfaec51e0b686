"""The timeline of an observation: events of the topology beside what became of operations."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cachesim.events import Event
from cachesim.simulator.observing.figures import Figures, errors_of

ROWS = 40
"""The most rows that are shown."""
_ERRORS = 2  # the most that one cell names


class Row(NamedTuple):
    """What happened at a time, in monotonic seconds."""

    at: float
    what: str


def timeline(figures: Sequence[Figures], events: Sequence[Event]) -> str:
    """Return a table with a row for each event, and a column for each kind of operations.

    A row's operations are those that were due from its time until the next row's.

    Args:
        figures: at least one.
        events: by time. Those before the begin and after the end are left out.
    """
    begin, end = figures[0].begin, min(it.until for it in figures)
    rows = sorted(_rows(figures, events, begin, end), key=lambda row: row.at)
    ends = [*(row.at for row in rows[1:]), float("inf")]
    cells = [
        [f"{row.at - begin:.2f}", *(_cell(it, row.at, until) for it in figures), row.what]
        for row, until in zip(rows, ends, strict=True)
    ]
    lines = list(_aligned([["seconds", *(it.title for it in figures), "topology"], *cells]))
    if len(lines) > ROWS + 1:
        half = ROWS // 2
        left_out = f"... {len(lines) - 1 - 2 * half} rows are left out"
        lines = [*lines[: half + 1], left_out, *lines[-half:]]
    return "\n".join(lines)


def _rows(
    figures: Sequence[Figures], events: Sequence[Event], begin: float, end: float
) -> Iterator[Row]:
    yield Row(begin, "the observation begins")
    yield Row(end, "the observation ends")
    for event in events:
        # ElastiCache's events may be of a node and again of its group.
        if begin <= event.at <= end and event.data.get("source_type") != "replication-group":
            yield Row(event.at, f"{event.kind}: {event.source} {event.message}")
    for it in figures:
        for outage in it.outages:
            yield Row(outage.begin, f"{it.title}: not served")
            if outage.end <= end:
                yield Row(outage.end, f"{it.title}: served again")


def _cell(figures: Figures, begin: float, end: float) -> str:
    """Return what became of the operations that were due in a span."""
    operations = figures.operations
    first = bisect_left(operations, begin, key=lambda it: it.due)
    last = bisect_left(operations, end, key=lambda it: it.due)
    due = operations[first:last]
    bad = [it for it in due if not figures.is_good(it)]
    words = [f"{len(due) - len(bad)} ok"] if len(bad) < len(due) else []
    errors = errors_of(bad).most_common()
    words += [f"{count} {name}" for name, count in errors[:_ERRORS]]
    if errors[_ERRORS:]:
        words.append(f"{sum(count for _, count in errors[_ERRORS:])} others")
    return ", ".join(words) or "-"


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [first.rjust(widths[0])]
        cells += [cell.ljust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join(cells).rstrip()
