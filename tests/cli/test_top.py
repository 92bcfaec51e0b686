"""`cachesim top`: what is shown, on terminals of several sizes."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from cachesim.cli.top import view
from cachesim.dashboard.figures import Figures
from cachesim.dashboard.picture import picture
from cachesim.events import Event
from cachesim.runs.calls import AlarmStatus
from tests.dashboard.statuses import TOPOLOGY, status

FIGURES: Figures = {
    "memory": 71.4, "connections": 1234.0, "keys": 5.0, "cpu": 100.0, "hit_rate": 93.2,
    "evictions": 1000.0, "lag": 451_034.0,
}  # fmt: skip
EVENTS = [
    Event(float(n), datetime.fromtimestamp(n, UTC), "fault", "redis-a", f"number {n}")
    for n in range(100)
]
ALARM: AlarmStatus = {
    "name": "redis-memory-high", "state": "ALARM", "since": 1.0, "reason": "", "value": 91.25,
    "metric": "DatabaseMemoryUsagePercentage", "comparison": "GreaterThanThreshold",
    "threshold": 85.0, "period": 300, "periods": 1, "missing": "missing", "level": None,
    "node": "redis-a", "actions": ["PagerDuty"], "out_of_reach": "", "changes": [],
}  # fmt: skip


def shown(width: int = 80, height: int = 24, *faults: dict[str, Any], **values: Any) -> list[str]:
    """The lines on a terminal of that size, without colour."""
    seen = {node.name: FIGURES for node in TOPOLOGY.nodes}
    alarms = values.pop("alarms", [])
    it = view(picture(TOPOLOGY, status(*faults, **values)), seen, alarms, EVENTS, height)
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(it)
    return [line.rstrip() for line in capture.get().splitlines()]


def line_of(name: str, lines: list[str]) -> str:
    """The line that has a word."""
    return next(line for line in lines if name in line.split())


def test_nodes() -> None:
    """Each node has its zone, its role, its state and its figures."""
    lines = shown(states={"redis-b": "paused"})
    cells = line_of("redis-a", lines).split()
    assert cells[:4] == ["az-a", "redis-a", "primary", "running"]
    assert cells[4:] == ["71%", "100%", "93%", "1234", "1000", "451.0", "kB"]
    assert "paused" in line_of("redis-b", lines)
    assert "available" in lines[0]


def test_faults_and_reach() -> None:
    """A partition is in the list, and both zones are told not to reach each other."""
    lines = shown(80, 30, {"fault": "partition", "a": "a", "b": "c"})
    assert line_of("az-a|az-c", lines).split() == ["1", "partition", "az-a|az-c"]
    assert line_of("client", lines).split() == ["client", "open", "open", "open"]
    assert ["az-a", "open", "open", "CUT"] in [line.split() for line in lines]
    assert ["az-c", "CUT", "open", "open"] in [line.split() for line in lines]


def test_alarms() -> None:
    """Those that fire are told, with what they saw; no others."""
    quiet: AlarmStatus = {**ALARM, "name": "quiet", "state": "OK"}
    lines = shown(120, 30, alarms=[ALARM, quiet])
    told = line_of("redis-memory-high", lines)
    assert "91.25 on redis-a" in told
    assert "85" in told
    assert not any("quiet" in line for line in lines)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (120, 50), (200, 24)])
def test_fits(width: int, height: int) -> None:
    """No line is cut within a word of a node's row, and the newest event is on the last line."""
    lines = shown(width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert lines[-1].endswith("number 99")
    assert "…" not in line_of("redis-a", lines)


@pytest.mark.parametrize(("faults", "firing"), [(20, 0), (0, 20), (20, 20), (1, 5), (2, 2)])
@pytest.mark.parametrize("height", [24, 30])
def test_many(faults: int, firing: int, height: int) -> None:
    """What does not fit is counted: alarms and the newest event are never pushed out of sight."""
    some = [
        {"fault": "latency", "links": ["client-to-redis-a"], "ms": n + 1} for n in range(faults)
    ]
    lines = shown(80, height, *some, alarms=[ALARM] * firing)
    assert len(lines) <= height
    assert lines[-1].endswith("number 99")
    for word, count in (("latency of", faults), ("ALARM ", firing)):
        told = sum(line.strip().startswith(word) or f" {word}" in line for line in lines)
        assert told == count or any(f"and {count - told} more" in line for line in lines)
