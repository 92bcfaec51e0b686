"""The verdicts as JUnit XML, as CI systems show them: a test case each."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from cachesim.scenarios.report.record import Finding, Record

if TYPE_CHECKING:
    from junitparser import TestCase

_NOT_IN_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path: Path, record: Record) -> None:
    """Write the verdicts of a run to a file. What is unknown is an error there: it is no pass."""
    from junitparser import JUnitXml, TestSuite

    suite = TestSuite(f"cachesim {record.scenario.name}")
    if record.begun:
        suite.timestamp = record.begun.partition("+")[0]
    suite.add_property("seed", str(record.scenario.seed))
    suite.add_property("speed", f"{record.environment.speed:g}")
    suite.add_property("again", _plain(record.again))
    for it in (*record.gates, *record.verdicts, record.run):
        suite.add_testcase(_case(record, it))
    suite.update_statistics()  # type: ignore[no-untyped-call]
    suite.time = record.end - record.begin
    xml = JUnitXml("cachesim")
    xml.add_testsuite(suite)
    xml.write(str(path), pretty=True)


def _plain(text: str) -> str:
    """Return a text with what XML does not have escaped, such as the colours of an error."""
    return _NOT_IN_XML.sub(lambda found: ascii(found[0])[1:-1], text)


def _case(record: Record, it: Finding) -> "TestCase":
    from junitparser import Error, Failure, TestCase

    case = TestCase(_plain(it.name), f"cachesim.{record.scenario.name}")
    text = _plain(it.meaning or it.reason)
    if it.result == "fail":
        case.result = [Failure(text, "fail")]
    elif it.result == "unknown":
        case.result = [Error(text, "unknown")]
    else:
        case.system_out = text
    return case
