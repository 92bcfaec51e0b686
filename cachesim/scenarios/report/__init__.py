"""Reports of a run: from its history and verdicts to files and a terminal.

`write` makes `record.json`, `summary.md`, `junit.xml` and `report.html`; `terminal` what a person
sees at the end of a run.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cachesim.history.reader import History
from cachesim.scenarios.checkers import Judgement
from cachesim.scenarios.report.charts import charts
from cachesim.scenarios.report.describe import describe, origin_of
from cachesim.scenarios.report.junit import write_junit
from cachesim.scenarios.report.lanes import lanes
from cachesim.scenarios.report.page import page
from cachesim.scenarios.report.record import Record
from cachesim.scenarios.report.slices import Slicing, sliced
from cachesim.scenarios.report.summary import summary

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["terminal", "write"]

GITHUB_SUMMARY = "GITHUB_STEP_SUMMARY"
"""The variable that names the file whose Markdown GitHub shows on a job's page."""


def write(
    folder: Path,
    history: History,
    judgement: Judgement,
    timeline: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
) -> Record:
    """Write the reports of a run, and return the record that they are made from.

    The summary is appended to `$GITHUB_STEP_SUMMARY` too.

    Args:
        folder: where. It is there.
        timeline: as `Timeline.as_dict` has it.
        environ: the environment's variables.

    Raises:
        OSError: a file can't be written.
    """
    slicing = Slicing(history)
    classes = sliced(history, slicing)
    record = describe(history, judgement, timeline, {n: it.latency for n, it in classes.items()})
    text = summary(record)
    _write(folder / "record.json", record.model_dump_json(indent=2) + "\n")
    _write(folder / "summary.md", text)
    write_junit(folder / "junit.xml", record)
    shown = charts(history, slicing, classes, [it.name for it in judgement.verdicts])
    text_of_page = page(record, slicing.middles, shown, lanes(history), origin_of(history))
    _write(folder / "report.html", text_of_page)
    if environ.get(GITHUB_SUMMARY):
        with Path(environ[GITHUB_SUMMARY]).open("a", encoding="utf-8") as file:
            file.write(text)
    return record


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def terminal(record: Record) -> "RenderableType":
    """Return what a person has to know of a run, for a terminal."""
    from cachesim.scenarios.report.on_terminal import shown

    return shown(record)
