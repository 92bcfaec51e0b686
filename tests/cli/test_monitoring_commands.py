"""`cachesim alarms check`, which needs no topology, and options of `cachesim alarms`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cachesim.cli.app import main
from cachesim.runs import registry, rpc

REACHABLE = """\
Alarms:
  - {Name: redis-memory-high, Metric: DatabaseMemoryUsagePercentage, Threshold: 85%,
     Action: SNS -> PagerDuty}
"""
OUT_OF_REACH = """\
  - {Name: redis-cpu-high, Metric: CPUUtilization, Threshold: 80%, Action: SNS -> PagerDuty}
"""
MISTAKE = "  - {Name: redis-x, Metric: Evictions, Threshold: some}\n"


def check(folder: Path, text: str, *options: str) -> Result:
    """Check a file with this text."""
    file = folder / "alarms.yaml"
    file.write_text(text, encoding="utf-8")
    return CliRunner().invoke(main, ["alarms", "check", str(file), *options])


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (REACHABLE, 0, "1 of 1 alarms can fire."),
        (REACHABLE + OUT_OF_REACH, 1, "redis-cpu-high: can't fire: CPUUtilization is of the whole"),
        (REACHABLE + MISTAKE, 2, ":4: Alarms[1].Threshold: should be a number"),
        ("a: 1", 2, "should have `Alarms`"),
    ],
)
def test_check(tmp_path: Path, text: str, code: int, said: str) -> None:
    """The exit code tells a file that works, one with a dead alarm and one with mistakes."""
    done = check(tmp_path, text)
    assert done.exit_code == code, done.output
    assert said in done.output


def test_check_as_json(tmp_path: Path) -> None:
    """JSON has the findings with their remedies, and mistakes."""
    done = check(tmp_path, REACHABLE + OUT_OF_REACH, "--json")
    told = json.loads(done.stdout)
    assert told["alarms"] == ["redis-memory-high", "redis-cpu-high"]
    assert told["mistakes"] == []
    (finding,) = told["findings"]
    assert (finding["alarm"], finding["is_fatal"]) == ("redis-cpu-high", True)
    assert "EngineCPUUtilization" in finding["remedy"]


@pytest.mark.parametrize(
    ("comparison", "shown"),
    [
        ("GreaterThanThreshold", "> 85"),
        ("GreaterThanOrEqualToThreshold", ">= 85"),
        ("LessThanThreshold", "< 85"),
        ("LessThanOrEqualToThreshold", "<= 85"),
    ],
)
def test_thresholds(monkeypatch: pytest.MonkeyPatch, comparison: str, shown: str) -> None:
    """The table has the sign of each comparison."""
    alarm = {
        "name": "x", "state": "OK", "value": 85.0, "node": "redis-a", "threshold": 85.0,
        "comparison": comparison, "out_of_reach": "", "level": None,
    }  # fmt: skip
    monkeypatch.setattr(registry, "find_run", lambda _name: None)
    monkeypatch.setattr(rpc, "call", lambda _run, _call: [alarm])
    assert f" {shown} " in CliRunner().invoke(main, "alarms").output


def test_what_is_no_alarm_file_as_json(tmp_path: Path) -> None:
    """It is an error as JSON, too."""
    done = check(tmp_path, "a: 1", "--json")
    assert done.exit_code == 2
    told = json.loads(done.stdout)["error"]
    assert told["kind"] == "SettingsError"
    assert "should have `Alarms`" in told["message"]


def test_options_before_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those of the command after them."""
    asked: list[str | None] = []
    monkeypatch.setattr(registry, "find_run", asked.append)
    monkeypatch.setattr(rpc, "call", lambda _run, _call: [])
    runner = CliRunner()
    assert runner.invoke(main, "alarms --name demo --json inbox").output == "[]\n"
    assert runner.invoke(main, "alarms --name demo inbox --name other").output != "[]\n"
    assert asked == ["demo", "other"]
