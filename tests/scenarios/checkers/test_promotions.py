"""Who was the primary when, from the events of the control plane."""

from typing import Any

import pytest

from cachesim import Simulator
from cachesim.history.reader import Span
from cachesim.history.rows import EventRow, Row
from cachesim.scenarios.checkers.promotions import Promotion, fence_of, primary_at, promotions
from tests.scenarios.histories import failover, history_of, kill, samples


def event(at: float, kind: str, source: str, **data: Any) -> EventRow:
    """Return an event, numbered by its time."""
    return EventRow(int(at * 10), at, kind, source, "", data)


def found(rows: list[Any], **facts: Any) -> list[Promotion]:
    """Return the promotions of a history."""
    with history_of(rows, **facts) as history:
        return promotions(history)


def test_a_failover() -> None:
    """A failover has the old and the new primary, and its length in production."""
    [it] = found(failover(40, 41, seconds=20, speed=30), speed=30)
    assert (it.old, it.new, it.lost_at, it.confirmed) == ("redis-a", "redis-b", 40, 41)
    assert it.called == 40.75
    assert it.production == pytest.approx(20)


def test_one_that_was_called_off() -> None:
    """A primary that is back was not replaced; what comes later is a failover of its own."""
    off = [event(10, "detecting", "redis-a", lost_at=9.9, detection=1, promotion=1)]
    off += [event(11, "promoting", "redis-a"), event(12, "available", "redis-a")]
    assert found(off) == []
    role = event(20, "role", "redis-c")
    [it] = found([*samples("role", "redis-a", [(1, 1)]), *off, role])
    assert (it.old, it.new, it.lost_at, it.called) == ("redis-a", "redis-c", None, 20)


def test_one_that_was_asked_for() -> None:
    """A failover by request may have happened since the request."""
    rows = [*samples("role", "redis-b", [(1, 0)]), *samples("role", "redis-a", [(2, 1)])]
    call = event(20, "failover-call", "group")
    done = event(22, "failover", "redis-b", source_type="cache-cluster")
    [it] = found([*rows, call, done])
    assert (it.old, it.new, it.lost_at) == ("redis-a", "redis-b", None)
    assert (it.called, it.confirmed) == (20, 22)
    assert it.production == 2
    assert it.requested


def test_a_succession() -> None:
    """A replica that succeeds a primary may have done so since the primary was to be replaced."""
    begun = event(20, "handing-over", "redis-a")
    [it] = found([begun, event(22, "failover", "redis-b", source_type="cache-cluster")])
    assert (it.lost_at, it.called, it.confirmed, it.requested) == (None, 20, 22, False)


def test_primary_at() -> None:
    """The primary of a moment is the one that was last seen to take writes."""
    back = failover(60, 70, old="redis-b", new="redis-c", number=2)
    with history_of([*failover(40, 50), *back]) as history:
        nodes = [primary_at(history, at) for at in (0, 49.9, 50, 69, 71)]
        assert nodes == ["redis-a", "redis-a", "redis-b", "redis-b", "redis-c"]
    with history_of(samples("role", "redis-c", [(1, 1)])) as history:
        assert primary_at(history, 5) == "redis-c"
    with history_of([]) as history:
        assert primary_at(history, 5) is None


@pytest.mark.parametrize(
    ("rows", "fence"),
    [
        ([], None),
        (samples("fenced", "redis-a", [(30, 1), (45, 0), (55, 0), (56, 1)]), Span(55, 56)),
        (samples("fenced", "redis-a", [(41, 1)]), Span(40, 41)),
        (samples("role", "redis-a", [(45, 1), (57, 0)]), Span(45, 57)),
        (samples("fenced", "redis-b", [(45, 0), (56, 1)]), None),
        ([kill(39.5, 90)], Span(39.5, 39.5)),
        ([kill(39.5, 45)], None),  # it was back before the promotion
        ([kill(51, 90)], None),  # it died later
        ([kill(39.5, None)], Span(39.5, 39.5)),
        ([kill(10, 90), event(20, "recovering", "redis-a")], None),  # it was replaced before
        ([kill(10, 90), event(5, "recovering", "redis-a")], Span(10, 10)),
        ([kill(10, 90), event(20, "recovering", "redis-b")], Span(10, 10)),
        ([kill(10, 90), event(60, "recovering", "redis-a")], Span(10, 10)),
    ],
)
def test_fence(rows: list[Row], fence: Span | None) -> None:
    """An old primary is fenced by the control plane, by its death, or as a replica."""
    with history_of([*failover(40, 50), *rows]) as history:
        [it] = promotions(history)
        assert fence_of(history, it) == fence


def test_events_of_a_topology() -> None:
    """What the control plane records of a failover is understood."""
    with Simulator(backend="embedded", speed=30, seed=3) as sim:
        sim.redis.primary.kill()
        sim.redis.wait_for_failover()
        events = list(sim.events)
    rows = [
        EventRow(number, it.at, it.kind, it.source, it.message, it.data)
        for number, it in enumerate(events)
    ]
    [it] = found(rows, speed=30)
    assert (it.old, it.new[:6]) == ("redis-a", "redis-")
    assert it.lost_at is not None
    assert it.lost_at < it.called < it.confirmed
    assert 15 <= it.production <= 30
