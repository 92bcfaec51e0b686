"""Two runs side by side: only disjoint intervals differ."""

import errno
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cachesim.cli import report_commands
from cachesim.cli.app import main
from cachesim.history.recorder import Recorder
from cachesim.scenarios.report.compare import compare
from cachesim.scenarios.report.record import Record
from tests.scenarios.report.runs import Times, az_outage


def with_figure(record: Record, low: float, high: float | None, **more: Any) -> Record:
    """A record whose unavailability is another."""
    verdict = record.verdicts[1].model_copy(
        update={"low": low, "high": high, "unbounded": high is None, **more}
    )
    return record.model_copy(update={"verdicts": [verdict]})


@pytest.mark.parametrize(
    ("a", "b", "change"),
    [
        ((20.0, 22.0), (23.0, 25.0), "worse"),
        ((20.0, 22.0), (5.0, 19.9), "better"),
        ((20.0, 22.0), (22.0, 25.0), "no difference"),
        ((20.0, None), (23.0, 25.0), "no difference"),
        ((20.0, 22.0), (23.0, None), "worse"),
    ],
)
def test_change(record: Record, a: Any, b: Any, change: str) -> None:
    """A figure has changed if no value is possible on both sides."""
    found = compare([with_figure(record, *a)], [with_figure(record, *b)])
    assert [row.change for row in found.rows] == [change]
    is_change = change != "no difference"
    assert any("few runs" in it for it in found.caution) is is_change


def test_many_runs(record: Record) -> None:
    """Of several runs the whole range counts, and with five a side it is beyond noise."""
    a = [with_figure(record, 20 + n, 21 + n) for n in range(5)]
    b = [with_figure(record, 30 + n, 31 + n, result="pass") for n in range(5)]
    found = compare(a, b)
    [row] = found.rows
    assert (row.a.low, row.a.high, row.change) == (20, 25, "worse")
    assert (row.a.results, row.b.results) == ("5 fail", "5 pass")
    assert any("beyond noise" in it for it in found.caution)
    assert compare(a, [*b, a[0]]).rows[0].change == "no difference"


def test_figures_of_several_units(record: Record) -> None:
    """Loads at once in one run and loads a second in another are no range of anything."""
    a = [with_figure(record, 5, 5, unit="loads at once"), with_figure(record, 90, 90)]
    [row] = compare(a, [with_figure(record, 200, 200, unit="loads at once")]).rows
    assert (row.a.low, row.a.figure, row.change) == (None, "", "not comparable")


@pytest.mark.parametrize(
    ("changed", "told"), [({"speed": 30.0}, "speed: 1 and 30"), ({"deadline": 60}, "1 s and 60 s")]
)
def test_what_else_differs(record: Record, changed: dict[str, Any], told: str) -> None:
    """Another speed, scenario or deadline is told: the figures are not of the same thing."""
    other = record.model_copy(update={"environment": record.environment.model_copy(update=changed)})
    assert any(told in it for it in compare([record], [other]).caution)
    assert compare([record], [record]).caution == []


def test_a_run_that_was_cut_short(record: Record) -> None:
    """Its figures may be small because it ended before what would have made them larger."""
    cut = with_figure(record, 0, 0).model_copy(update={"interrupted": "it was interrupted"})
    whole = with_figure(record, 20, 22)
    caution = compare([whole, cut], [whole, whole]).caution
    assert any(it.startswith("A: 1 of 2 runs cut short") for it in caution)
    assert not any(it.startswith("B:") for it in caution)


@pytest.mark.parametrize("number", [0, 1])
def test_a_run_that_its_gates_did_not_let_pass(record: Record, number: int) -> None:
    """A busy machine makes long outages: such a figure is not that of what is compared."""
    gates = list(record.gates)
    gates[number] = gates[number].model_copy(update={"result": "unknown"})
    unfit = with_figure(record, 50, 51).model_copy(update={"gates": gates})
    whole = with_figure(record, 20, 22)
    caution = compare([whole, whole], [whole, unfit]).caution
    [told] = [it for it in caution if it.startswith(("A:", "B:"))]
    assert told.startswith("B: 1 of 2 runs unknown whatever their figures are (")
    assert gates[number].title.lower() in told


def recorded(folder: Path, **changed: Any) -> Path:
    """A folder with the history of a run."""
    rows, facts = az_outage(when=Times(**changed))
    folder.mkdir()
    with Recorder(folder / "history.sqlite") as recorder:
        recorder.add(*rows)
        for key, value in facts.items():
            recorder.set(key, value)
    return folder


def test_commands(tmp_path: Path) -> None:
    """A record is judged and reported again, with the verdict as the exit code, and compared."""
    long, short = recorded(tmp_path / "long"), recorded(tmp_path / "short", able=36.0, tail=1.0)
    runner = CliRunner()
    done = runner.invoke(main, ["report", str(long)], env={"COLUMNS": "100"})
    assert done.exit_code == 1
    assert done.output.startswith(" FAIL  az-outage  speed 1, seed 7\n")
    assert f"Report   {long / 'report.html'}" in done.output
    done = runner.invoke(main, ["report", "--json", str(short / "history.sqlite")])
    assert done.exit_code == 3  # stale reads are not decided
    assert Record.model_validate_json(done.output).run.result == "unknown"
    done = runner.invoke(main, ["compare", str(long), str(short)], env={"COLUMNS": "120"})
    [line] = [it for it in done.output.splitlines() if "sessions.write" in it]
    assert line.endswith("better") or line.rstrip().endswith("better")


def test_unusable(tmp_path: Path) -> None:
    """What is no record is told in a line, with the exit code 2."""
    runner = CliRunner()
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "history.sqlite"
    text.write_text("no database, but long enough to be looked at as if it were one " * 9)
    for command in (
        ["report", str(empty)],
        ["report", str(text)],
        ["compare", str(empty), str(empty)],
    ):
        done = runner.invoke(main, command)
        assert done.exit_code == 2, done.output
        assert done.output.startswith("Error: ")
        assert "Traceback" not in done.output


def test_a_reader_that_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`report | head` ends without a word: the record is not to blame."""

    def leave(*_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(report_commands, "show_report", leave)
    done = CliRunner().invoke(main, ["report", str(recorded(tmp_path / "it"))])
    assert (done.exit_code, done.output) == (1, "")
