"""The timeline: what is when, in percent of its width."""

import re

import pytest

from cachesim.scenarios.report.record import EventRecord, Record
from cachesim.scenarios.report.timeline_svg import timeline_svg


def ticks(record: Record) -> dict[str, float]:
    """The times at the top, and where they are."""
    svg = timeline_svg(record, [], 0)
    found = re.findall(r'<text x="([\d.]+)%"[^>]*class="tick"[^>]*>([^<]*)<', svg)
    return {text: float(x) for x, text in found}


def test_ticks(record: Record) -> None:
    """Times are real at speed 1, and production's at a speed."""
    assert ticks(record)["40 s"] == pytest.approx(50 / 90 * 100, abs=0.01)
    environment = record.environment.model_copy(update={"speed": 30.0})
    fast = ticks(record.model_copy(update={"environment": environment}))
    assert fast["20 min"] == pytest.approx(50 / 90 * 100, abs=0.01)
    assert fast["0"] == pytest.approx(10 / 90 * 100, abs=0.01)


def test_fault(record: Record) -> None:
    """A fault is a bar from its begin to its heal, with its place for the page's script."""
    svg = timeline_svg(record, [], 0)
    [bar] = re.findall(r'<rect [^>]*class="fault"[^>]*>', svg)
    place = re.search(r'x="([\d.]+)%".* width="([\d.]+)%"', bar)
    assert place is not None
    expected = (20 / 90 * 100, 40 / 90 * 100)
    assert tuple(map(float, place.groups())) == pytest.approx(expected, abs=0.01)
    assert 'data-b="10' in bar
    assert 'data-e="50' in bar


def test_failover_is_told_once(record: Record) -> None:
    """A failover is logged for its node and for its group, and shown once, others beside it."""
    events = [
        EventRecord(at=at, kind="failover", source=source, message="")
        for at, source in ((20.0, "redis-b"), (20.001, "group"), (21.0, "redis-c"))
    ]
    svg = timeline_svg(record.model_copy(update={"events": events}), [], 0)
    told = re.findall(r"failover done: ([\w-]+)", svg)
    assert told == ["redis-b", "redis-c"]
    first, second = re.findall(r'<circle cx="[\d.]+%" cy="([\d.]+)"', svg)
    assert first != second  # their texts would cover each other in one row
