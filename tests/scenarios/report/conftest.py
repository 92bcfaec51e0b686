"""The reports of one run, made once."""

from pathlib import Path

import pytest

from cachesim.scenarios.report.record import Record
from tests.scenarios.report.runs import az_outage, write_reports


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the reports of a run in which a zone had no power. It is not changed."""
    folder = tmp_path_factory.mktemp("reports")
    write_reports(folder, *az_outage())
    return folder


@pytest.fixture(scope="session")
def record(reports: Path) -> Record:
    """The record of that run."""
    return Record.model_validate_json((reports / "record.json").read_text(encoding="utf-8"))
