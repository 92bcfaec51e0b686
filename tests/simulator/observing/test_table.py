"""The timeline of an observation."""

from datetime import UTC, datetime
from typing import Any

from cachesim.events import Event
from cachesim.simulator.observing.table import ROWS, timeline
from tests.simulator.observing.test_figures import figures


def event(at: float, kind: str, source: str, message: str, **data: Any) -> Event:
    """An event of the topology."""
    return Event(at, datetime.now(UTC), kind, source, message, data)


def test_side_by_side() -> None:
    """Events beside what became of the operations that were due until the next one."""
    events = [
        event(-1, "started", "here", "before it"),
        event(0.31, "fault", "redis-a", "kill"),
        event(0.55, "failover", "redis-b", "completed", source_type="cache-cluster"),
        event(0.55, "failover", "group", "completed", source_type="replication-group"),
        event(9, "heal", "redis-a", "after it"),
    ]
    found = timeline([figures("....xxl..."), figures("............")], events)
    assert found.splitlines() == [
        "seconds  redis reads     redis reads  topology",
        "   0.00  4 ok            4 ok         the observation begins",
        "   0.31  -               -            fault: redis-a kill",
        "   0.40  2 TimeoutError  2 ok         redis reads: not served",
        "   0.55  1 late          1 ok         failover: redis-b completed",
        "   0.70  3 ok            3 ok         redis reads: served again",
        "   1.00  -               2 ok         the observation ends",
    ]


def test_a_fault_and_its_heal() -> None:
    """Both are there, although nothing happened in between, and so is the same of another node."""
    events = [
        event(0.11, "fault", "redis-a", "pause"),
        event(0.21, "heal", "redis-a", "pause"),
        event(0.31, "fault", "redis-b", "pause"),
        event(0.41, "fault", "redis-c", "pause"),
    ]
    lines = timeline([figures("." * 10)], events).splitlines()
    assert [line.split("ok")[-1].strip() for line in lines[2:-1]] == [
        "fault: redis-a pause",
        "heal: redis-a pause",
        "fault: redis-b pause",
        "fault: redis-c pause",
    ]


def test_a_long_one() -> None:
    """Its middle is left out, and the table says so."""
    events = [event(number / 100, "fault", "redis-a", f"number {number}") for number in range(99)]
    lines = timeline([figures("." * 10)], events).splitlines()
    assert len(lines) == ROWS + 2
    assert lines[ROWS // 2 + 1] == "... 61 rows are left out"
    assert lines[-1].endswith("the observation ends")


def test_many_errors() -> None:
    """A cell names the most frequent two."""
    it = figures("xxxlls" + "....")
    assert "3 TimeoutError, 2 late, 1 others" in timeline([it], [])
