"""Two runs side by side, or two sets of runs: what changed beyond what one run tells.

A figure changed only if its intervals are disjoint. Of single runs that is said with a caution:
one run is one draw. With `ENOUGH` runs a side it is beyond noise.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cachesim.scenarios.report import figures
from cachesim.scenarios.report.record import Finding, Record

ENOUGH = 5
"""Runs a side from which disjoint ranges are beyond noise."""
INFINITE = float("inf")

Change = Literal["better", "worse", "no difference", "not comparable"]


@dataclass(frozen=True)
class Side:
    """The verdicts of one checker in the runs of one side.

    Attributes:
        results: how often it passed, failed and was unknown: `pass`, or `3 pass, 2 fail`.
        low, high: from the least to the most that any run's figure may be; None without a figure.
        unit: of the figure.
    """

    results: str
    low: float | None
    high: float | None
    unit: str

    @property
    def figure(self) -> str:
        """The figure as text; empty if there is none."""
        return "" if self.low is None else figures.interval(self.low, self.high, self.unit)


@dataclass(frozen=True)
class Row:
    """One checker on both sides."""

    name: str
    a: Side
    b: Side
    change: Change

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON. An infinite figure is null."""
        sides = {
            key: {
                "results": side.results,
                "low": side.low,
                "high": None if side.high == INFINITE else side.high,
                "unit": side.unit,
            }
            for key, side in (("a", self.a), ("b", self.b))
        }
        return {"name": self.name, "change": self.change, **sides}


@dataclass(frozen=True)
class Comparison:
    """Two sides, checker by checker.

    Attributes:
        runs: how many runs there are on each side.
        rows: the checkers that both sides have.
        caution: how sure a change is, and what else differs.
    """

    runs: tuple[int, int]
    rows: list[Row]
    caution: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "runs": list(self.runs),
            "rows": [row.as_dict() for row in self.rows],
            "caution": self.caution,
        }


def load(path: Path) -> list[Record]:
    """Return the record of a run's folder, or those of all runs in the folders below.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a record can't be read.
    """
    own = path if path.is_file() else path / "record.json"
    found = [own] if own.is_file() else sorted(path.glob("*/record.json"))
    if not found:
        raise FileNotFoundError(f"{path}: no record.json, and no folder with one")
    return [Record.model_validate_json(it.read_text(encoding="utf-8")) for it in found]


def compare(a: list[Record], b: list[Record]) -> Comparison:
    """Return what differs between the runs of two sides.

    Args:
        a, b: at least one run each.
    """
    names = list(dict.fromkeys(it.name for record in (*a, *b) for it in record.verdicts))
    rows = []
    for name in names:
        first, second = _side(a, name), _side(b, name)
        rows.append(Row(name, first, second, _change(first, second)))
    return Comparison((len(a), len(b)), rows, list(_cautions(a, b, rows)))


def _side(records: Iterable[Record], name: str) -> Side:
    found = [it for record in records for it in record.verdicts if it.name == name]
    counts = {result: sum(it.result == result for it in found) for result in _RESULTS}
    told = [f"{n} {result}" for result, n in counts.items() if n]
    results = found[0].result if len(found) == 1 else ", ".join(told)
    # A checker of several figures has that of the worst, which is another one in another run.
    if not found or any(it.low is None for it in found) or len({it.unit for it in found}) > 1:
        return Side(results or "not judged", None, None, "")
    return Side(results, min(it.low or 0.0 for it in found), max(map(_high, found)), found[0].unit)


_RESULTS = ("pass", "fail", "unknown")


def _high(it: Finding) -> float:
    if it.high is None:
        return INFINITE
    return it.high


def _change(a: Side, b: Side) -> Change:
    if a.low is None or b.low is None or a.high is None or b.high is None or a.unit != b.unit:
        return "not comparable"
    if b.high < a.low:
        return "better"
    if b.low > a.high:
        return "worse"
    return "no difference"


def _cautions(a: list[Record], b: list[Record], rows: list[Row]) -> Iterable[str]:
    for what, values in (
        ("scenario", [{it.scenario.name for it in side} for side in (a, b)]),
        ("speed", [{f"{it.environment.speed:g}" for it in side} for side in (a, b)]),
        ("deadline", [{f"{it.environment.deadline:g} s" for it in side} for side in (a, b)]),
        ("backend", [{str(it.environment.backend) for it in side} for side in (a, b)]),
    ):  # fmt: skip
        if values[0] != values[1]:
            both = " and ".join(", ".join(sorted(side)) for side in values)
            yield f"The sides differ in {what}: {both}."
    for side, records in (("A", a), ("B", b)):
        if cut := sum(it.interrupted is not None for it in records):
            yield (
                f"{side}: {cut} of {len(records)} runs cut short, with the figures of a part: the "
                "rest would have made them larger, if anything."
            )
        if unfit := [it for it in records if any(gate.result != "pass" for gate in it.gates)]:
            gates = (gate for it in unfit for gate in it.gates if gate.result != "pass")
            what = ", ".join(dict.fromkeys(gate.title.lower() for gate in gates))
            yield (
                f"{side}: {len(unfit)} of {len(records)} runs unknown whatever their figures are "
                f"({what}): something else than the faults may have made them."
            )
    if min(len(a), len(b)) < ENOUGH:
        if any(row.change in ("better", "worse") for row in rows):
            yield (
                "Disjoint intervals, but few runs: another draw of detection and promotion may do "
                f"the same. {ENOUGH} runs a side tell more."
            )
    else:
        yield f"The ranges of {len(a)} and {len(b)} runs: disjoint ones differ beyond noise."
