"""How much a failing test's report says."""

import calendar
from datetime import UTC, datetime
from typing import cast

import pytest

from cachesim.settings import Settings
from cachesim.simulator.simulator import Simulator
from pytest_cachesim._report import fitted, logs
from tests.plugin.fake_simulator import FakeSimulator

STORY = ("cachesim observed", "\n".join(f"story {n}" for n in range(12)))
LOGS = [(f"cachesim redis-{n}: log", "\n".join(["line"] * 50)) for n in "abc"]


def test_what_happened_comes_before_the_logs() -> None:
    """It is whole if it fits, and the logs have what it leaves; titles count."""
    found = fitted([*LOGS, STORY], 40)
    assert found[-1] == STORY, "the shortest are the first"
    assert [title for title, _ in found[:-1]] == [title for title, _ in LOGS]
    assert sum(1 + len(text.splitlines()) for _, text in found) == 40


def test_each_log_keeps_its_last_line() -> None:
    """A long story leaves that much, and is cut at its begin."""
    story = ("cachesim events", "\n".join(f"event {n}" for n in range(100)))
    *logs, first = (text.splitlines() for _, text in fitted([*LOGS, story], 40))
    assert first[0].startswith("... 71 lines before")
    assert first[-1] == "event 99"
    assert [len(lines) for lines in logs] == [2, 2, 2]


def test_nothing_is_cut_if_all_is_wanted() -> None:
    """Sections stay as they are."""
    assert sorted(fitted([*LOGS, STORY], None)) == sorted([*LOGS, STORY])


def test_dates_of_logs_in_another_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may set the locale, as its application does: months have other names then."""
    monkeypatch.setattr("_strptime._getlang", lambda: ("xx", "UTF-8"))
    monkeypatch.setattr(calendar, "month_abbr", [f"month{n}" for n in range(13)])
    sim = FakeSimulator.new_class()(Settings())
    sim.nodes["redis-a"].lines.append("7:M 01 Dec 2020 10:00:00.000 * before")
    sim.nodes["redis-a"].lines.append("7:M 01 Dec 2020 10:00:02.000 * after")
    began = datetime(2020, 12, 1, 10, 0, 1, tzinfo=UTC)
    found = list(logs(cast(Simulator, sim), began, undated=False))
    assert found == [("redis-a", "7:M 01 Dec 2020 10:00:02.000 * after")]
