"""The commands on recorded runs: judging and reporting one again, and comparing two."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cachesim.cli import options

if TYPE_CHECKING:
    from cachesim.scenarios.report.compare import Comparison
    from cachesim.scenarios.report.record import Record

EXIT_CODES = {"pass": 0, "fail": 1, "unknown": 3}
"""The exit code of each verdict on a run."""


class Unusable(click.ClickException):
    """What keeps a file or a run from a verdict. That is no unknown one, which CI may pass."""

    exit_code = 2


@click.command(epilog="Example: cachesim report cachesim-runs/az-outage-7-20260102-030405")
@click.argument("record", type=click.Path(exists=True, path_type=Path))
@options.as_json
@click.pass_context
def report(ctx: click.Context, record: Path, as_json: bool) -> None:
    """Judge a recorded run again, and write its reports again.

    RECORD is the folder of a run, or its history.sqlite. The reports are written beside it. The
    exit code is 0 if the run passes, 1 if it fails, 2 if the record can't be read, and 3 if the
    verdict is unknown.
    """
    import sqlite3

    from cachesim.history.reader import History
    from cachesim.scenarios import report as reports
    from cachesim.scenarios.judging import judgement_of

    path = record / "history.sqlite" if record.is_dir() else record
    try:
        with History(path) as history:
            if "scenario" not in history.meta:
                raise ValueError("it has no timeline")
            judgement = judgement_of(history)
            made = reports.write(path.parent, history, judgement, history.meta["scenario"])
        written = (path.parent / "record.json").read_text(encoding="utf-8")
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise Unusable(f"{path} is no history of a run: {error}") from error
    except OSError as error:
        raise Unusable(str(error)) from error
    if as_json:
        click.echo(written, nl=False)
    else:
        show_report(path.parent, made)
    ctx.exit(EXIT_CODES[judgement.run.result])


def show_report(folder: Path, record: "Record") -> None:
    """Print what a person has to know of a run, and where its report is.

    Args:
        folder: with the reports.
    """
    from rich.console import Console

    from cachesim.scenarios.report import terminal

    Console(highlight=False, markup=False).print(terminal(record), crop=False)
    click.echo(f"Report   {folder / 'report.html'}")


@click.command(epilog="Example: cachesim compare before after")
@click.argument("a", type=click.Path(exists=True, path_type=Path))
@click.argument("b", type=click.Path(exists=True, path_type=Path))
@options.as_json
def compare(a: Path, b: Path, as_json: bool) -> None:
    """Compare two recorded runs, or two sets of them.

    A and B are folders of a run, or folders with several of them. A figure is better or worse only
    if the intervals are disjoint. The exit code does not tell which.
    """
    from cachesim.scenarios.report.compare import compare as compared
    from cachesim.scenarios.report.compare import load

    try:
        found = compared(load(a), load(b))
    except (OSError, ValueError) as error:
        raise Unusable(str(error)) from error
    if as_json:
        click.echo(json.dumps(found.as_dict()))
    else:
        _show(found)


def _show(found: "Comparison") -> None:
    from cachesim.cli.output import show_table

    rows = [
        (row.name, f"{row.a.figure} {row.a.results}".strip(),
         f"{row.b.figure} {row.b.results}".strip(), row.change)
        for row in found.rows
    ]  # fmt: skip
    show_table(("what", "A", "B", "B is"), rows)
    for line in found.caution:
        click.echo(line)
