"""The reports of a run, as files: what is in them, and that they hold for odd runs too."""

import hashlib
import json
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from cachesim.history.rows import EventRow, Operation
from cachesim.scenarios import report
from cachesim.scenarios.judging import judgement_of
from cachesim.scenarios.report.record import Record, schema
from tests.scenarios.histories import history_of, load
from tests.scenarios.report.runs import SCENARIO, az_outage, write_reports

FILES = ["junit.xml", "record.json", "report.html", "summary.md"]


def test_record(record: Record, reports: Path) -> None:
    """The record has the verdicts, and what a reader needs to understand them."""
    assert sorted(it.name for it in reports.iterdir()) == FILES
    assert (record.scenario.name, record.run.result) == ("az-outage", "fail")
    failed = [it.name for it in record.verdicts if it.result == "fail"]
    assert failed == ["unavailability: sessions.write"]
    assert record.begun == "2023-11-14T22:13:20+00:00"
    assert (record.begin, record.end) == (-10, 80)
    assert [(it.id, it.begin, it.end) for it in record.steps] == [("outage", 10, 50)]
    assert record.again == "cachesim run az-outage --speed 1 --seed 7"
    writes = next(it for it in record.classes if it.name == "sessions.write")
    assert 0.001 < (writes.p50 or 0) < (writes.p99 or 0) < 0.02
    reads = next(it for it in record.classes if it.name == "sessions.read")
    worst = reads.worst_pod
    assert worst is not None
    assert worst.pod == "pod-1"  # its tail is twice that of the others
    assert worst.bad / worst.due > 1.05 * reads.average_pod


def test_record_has_the_published_schema(reports: Path) -> None:
    """The schema in the documentation is that of the record, and a record is valid by it."""
    jsonschema = pytest.importorskip("jsonschema")
    published = Path(__file__).parents[3] / "docs" / "reference" / "record.schema.json"
    made = json.loads(published.read_text(encoding="utf-8"))
    assert made == schema()
    jsonschema.Draft202012Validator.check_schema(made)
    found = json.loads((reports / "record.json").read_text())
    validator = jsonschema.Draft202012Validator(made)
    validator.validate(found)
    assert not validator.is_valid({**found, "runs": 1})


def test_summary(tmp_path: Path) -> None:
    """The summary has the verdict first, and goes to GitHub's page too, behind what is there."""
    page = tmp_path / "page.md"
    page.write_text("before\n")
    rows, facts = az_outage()
    with history_of(rows, **facts) as history:
        environ = {"GITHUB_STEP_SUMMARY": str(page)}
        report.write(tmp_path, history, judgement_of(history), SCENARIO, environ)
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("## ❌ az-outage: fail\n")
    assert re.search(r"\| ❌ \| Not served: sessions.write \| 2[45].* s \| 20 s \|", text)
    assert page.read_text() == f"before\n{text}"


def test_junit(reports: Path) -> None:
    """A failed verdict is a failure, an unknown one an error: neither looks like a pass."""
    [suite] = ElementTree.parse(reports / "junit.xml").getroot()  # noqa: S314 - our own
    found = {it.get("name"): {part.tag for part in it} for it in suite.iter("testcase")}
    assert found["unavailability: sessions.write"] == found["run"] == {"failure"}
    assert found["stale_reads: sessions"] == {"error"}
    assert found["recovery"] == found["baseline"] == {"system-out"}
    assert (suite.get("failures"), suite.get("errors")) == ("2", "1")


def test_colours_of_an_error(tmp_path: Path) -> None:
    """What XML does not have is escaped: an error of a user's own code may have any character."""
    facts = {"scenario": SCENARIO, "dead": {"p0": "\x1b[31mlost\x1b[0m \x00"}, "again": "run \x07"}
    write_reports(tmp_path, [*load(0, 30)], facts)
    assert sorted(it.name for it in tmp_path.iterdir()) == FILES
    text = (tmp_path / "junit.xml").read_text()
    assert r"\x1b[31mlost\x1b[0m \x00" in text
    ElementTree.fromstring(text)  # noqa: S314 - our own


def test_html_needs_nothing_from_elsewhere(reports: Path) -> None:
    """The page loads nothing: all is in it, and its policy forbids the rest."""
    text = (reports / "report.html").read_text()
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["'](?!#)""", text.split("<script>")[0])
    assert not re.findall(r"url\(|@import", text)


def test_html_escapes(tmp_path: Path) -> None:
    """What comes from elsewhere is text on the page, and in the data of its script."""
    rows, facts = az_outage()
    evil = "</script><script>alert(1)</script>"
    rows = [
        it._replace(service=evil, pod=evil)
        if isinstance(it, Operation) and it.service == "api_cache"
        else it
        for it in rows
    ]
    rows.append(EventRow(999, 30, "role", evil, evil, {}))
    scenario = {**SCENARIO, "scenario": {**SCENARIO["scenario"], "description": evil}}
    write_reports(tmp_path, rows, facts | {"scenario": scenario})
    text = (tmp_path / "report.html").read_text()
    assert text.count("<script") == text.count("</script>") == 4
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in text


def test_vendored_files() -> None:
    """The vendored library is the one that its description names, with its licence."""
    vendor = files("cachesim.scenarios.report").joinpath("vendor")
    described = json.loads(vendor.joinpath("uPlot.json").read_text())
    for name, digest in described["sha256"].items():
        assert hashlib.sha256(vendor.joinpath(name).read_bytes()).hexdigest() == digest
    assert "MIT License" in vendor.joinpath("uPlot.LICENSE.txt").read_text()


NOTHING: dict[str, Any] = {"scenario": None, "baseline": None, "end_at": None}
STARTED: dict[str, Any] = {"scenario": SCENARIO}


@pytest.mark.parametrize(
    ("run", "changed", "result"),
    [
        (lambda: ([], NOTHING), {}, "unknown"),
        (lambda: (load(0, 30), STARTED), {"end_at": None, "interrupted": None}, "unknown"),
        (lambda: (load(0, 100, outcome="shed", took=None), STARTED), {}, "unknown"),
        (az_outage, {"speed": 30, "client": {}}, "fail"),
    ],
    ids=["nothing", "killed", "never served", "no profile at a speed"],
)
def test_odd_runs(
    tmp_path: Path,
    run: Callable[[], tuple[list[Any], dict[str, Any]]],
    changed: dict[str, Any],
    result: str,
) -> None:
    """A run of which little or nothing is known is reported too."""
    rows, facts = run()
    write_reports(tmp_path, rows, {**facts, **changed})
    found = Record.model_validate_json((tmp_path / "record.json").read_text())
    assert found.run.result == result
    assert sorted(it.name for it in tmp_path.iterdir()) == FILES
