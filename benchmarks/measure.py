"""Measures times in turns, and writes tables of them."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Side = Callable[[], Mapping[str, float]]
"""Measures one side once; returns its figures in seconds, by name."""


def seconds(verb: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    verb()
    return time.perf_counter() - began


def in_turns(runs: int, sides: Mapping[str, Side]) -> dict[str, dict[str, list[float]]]:
    """Run the sides A B A B, so that disturbances of the machine affect all of them alike.

    The first turn is not counted: it pays for imports and cold caches.

    Args:
        runs: how many turns are counted, at least 1.

    Returns:
        The times by side and figure.
    """
    times: dict[str, dict[str, list[float]]] = {name: {} for name in sides}
    for turn in range(runs + 1):
        for name, run in sides.items():
            for figure, value in run().items():
                if turn:
                    times[name].setdefault(figure, []).append(value)
    return times


@dataclass(frozen=True)
class Row:
    """One figure and its peer's, in seconds."""

    figure: str
    ours: Sequence[float]
    peer: str
    theirs: Sequence[float]

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of the table."""
        ratio = median(self.ours) / median(self.theirs)
        return self.figure, spread(self.ours), self.peer, spread(self.theirs), f"{ratio:.2f}"


def comparison(rows: Iterable[Row]) -> str:
    """Return a table of rows."""
    head = ("figure", "cachesim", "peer", "its time", "ratio")
    return table(head, (row.cells for row in rows))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def spread(values: Sequence[float]) -> str:
    """Return median, minimum and maximum: `1.43 s (1.31-1.6)`."""
    factor, unit = _unit(median(values))
    shown = median(values), min(values), max(values)
    middle, low, high = (_digits(value * factor) for value in shown)
    return f"{middle} {unit} ({low}-{high})"


def duration(value: float) -> str:
    """Return a time with its unit."""
    factor, unit = _unit(value)
    return f"{_digits(value * factor)} {unit}"


def _digits(value: float) -> str:
    """Return a number with three significant digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _unit(value: float) -> tuple[float, str]:
    if abs(value) >= 1:
        return 1, "s"
    return (1e3, "ms") if abs(value) >= 1e-3 else (1e6, "us")
