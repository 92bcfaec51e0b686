"""The event log as clients have it, over a log in this process."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from cachesim.errors import CachesimError, NotRunning
from cachesim.simulator.connection import Connection
from cachesim.simulator.event_mirror import EventMirror
from tests.faults.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A topology in memory."""
    rig = Rig()
    yield rig
    rig.links.close()


@pytest.fixture
def mirror(rig: Rig) -> EventMirror:
    """Its event log, from the beginning."""
    mirror = EventMirror("t")
    mirror.follow(cast(Connection, rig.connection))
    return mirror


def record(rig: Rig, *sources: str) -> None:
    """Let something happen."""
    for source in sources:
        rig.events.record("fault", source, "message", number=1)


def sources(mirror: EventMirror, mark: int = 0) -> list[str]:
    """Of what the log tells, after a mark."""
    return [event.source for event in mirror.since(mark)]


def test_is_up_to_date(rig: Rig, mirror: EventMirror) -> None:
    """Whenever it is read, all is in it that has happened, once, and as it was recorded."""
    assert (len(mirror), list(mirror), str(mirror)) == (0, [], "")
    record(rig, "a", "b")
    assert list(mirror) == list(rig.events)
    mark = mirror.mark()
    record(rig, "c")
    assert sources(mirror, mark) == ["c"]
    assert [event.source for event in mirror.of("fault", 1)] == ["b", "c"]
    assert mirror.of("heal") == []
    assert str(mirror) == str(rig.events)


def test_begins_later(rig: Rig) -> None:
    """It can begin with a later event."""
    record(rig, "a", "b", "c")
    mirror = EventMirror("t")
    mirror.follow(cast(Connection, rig.connection), 2)
    record(rig, "d")
    assert sources(mirror) == ["c", "d"]


def test_of_one_topology_after_another(rig: Rig, mirror: EventMirror) -> None:
    """It goes on with the events of the next topology; their numbers begin anew."""
    record(rig, "a", "b")
    assert sources(mirror) == ["a", "b"]
    rig.connection.is_over = True
    record(rig, "too late")
    assert sources(mirror) == ["a", "b"]
    following = Rig()
    record(following, "c")
    mirror.follow(cast(Connection, following.connection))
    assert sources(mirror) == ["a", "b", "c"]
    following.links.close()


def test_answer_of_the_topology_before(
    rig: Rig, mirror: EventMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was being read when another topology came is not taken for its events."""
    following = Rig()
    record(rig, "a")
    call = rig.connection.call

    def call_slowly(operation: str, **arguments: Any) -> object:
        answer = call(operation, **arguments)
        mirror.follow(cast(Connection, following.connection))
        return answer

    monkeypatch.setattr(rig.connection, "call", call_slowly)
    mirror.catch_up()
    record(following, "b")
    assert sources(mirror) == ["b"]
    following.links.close()


def test_before_the_start() -> None:
    """Before the start it is empty, and nothing comes."""
    mirror = EventMirror("t")
    assert list(mirror) == []
    assert mirror.wait(lambda: True, 0)
    with pytest.raises(NotRunning, match="the topology 't' is not running"):
        mirror.wait(lambda: False, 60)


def test_answers_that_overlap(
    rig: Rig, mirror: EventMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another thread has read meanwhile is not added again; what is newer is."""
    record(rig, "a", "b")
    call = rig.connection.call
    meanwhile = [(), ("c",)]

    def call_slowly(operation: str, **arguments: Any) -> object:
        answer = call(operation, **arguments)
        if meanwhile:
            record(rig, *meanwhile.pop())
            mirror.catch_up()
        return answer

    monkeypatch.setattr(rig.connection, "call", call_slowly)
    mirror.catch_up()
    assert sources(mirror) == ["a", "b", "c"]


def test_read_by_many(rig: Rig, mirror: EventMirror) -> None:
    """Each event is in it once, in order, whoever reads it meanwhile."""
    with ThreadPoolExecutor(8) as pool:
        for number in range(100):
            record(rig, str(number))
            pool.submit(mirror.catch_up)
    assert sources(mirror) == [str(number) for number in range(100)]


# --- waiting ------------------------------------------------------------------------------------


def test_wait(rig: Rig, mirror: EventMirror) -> None:
    """A condition is checked at once, and with each event."""
    assert mirror.wait(lambda: True, 0)
    seen: list[int] = []

    def condition() -> bool:
        seen.append(len(mirror))
        record(rig, "one more")
        return len(seen) == 4

    assert mirror.wait(condition, 60)
    assert seen == [0, 1, 2, 3]


def test_event_during_the_check(rig: Rig, mirror: EventMirror) -> None:
    """An event while the condition is checked has it checked again, also if it was read then."""
    happened: list[bool] = []

    def condition() -> bool:
        if happened:
            return True
        happened.append(True)
        record(rig, "a")
        assert sources(mirror) == ["a"]
        return False

    assert mirror.wait(condition, 60)


def test_wait_in_vain(rig: Rig, mirror: EventMirror) -> None:
    """A wait ends at its time."""
    assert not mirror.wait(lambda: False, 0)
    assert not mirror.wait(lambda: False, 0.01)
    record(rig, "a")
    assert not mirror.wait(lambda: False, 0.01)
    for timeout in (-1, float("nan"), 1e300):
        with pytest.raises(ValueError, match="timeout must be from 0 to"):
            mirror.wait(lambda: True, timeout)


def test_next(rig: Rig, mirror: EventMirror) -> None:
    """The next events after a mark are waited for."""
    record(rig, "a")
    assert [event.source for event in mirror.next(0, 60)] == ["a"]
    assert mirror.next(1, 0.01) == []
    with ThreadPoolExecutor() as pool:
        following = pool.submit(mirror.next, 1, 60)
        record(rig, "b")
        assert [event.source for event in following.result(10)] == ["b"]


def test_end_of_a_wait(rig: Rig, mirror: EventMirror) -> None:
    """A wait ends with the topology, and the log can still be read."""
    record(rig, "a")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(mirror.wait, lambda: False, 60)
        rig.events.end("it was taken down")
        assert isinstance(waiting.exception(10), NotRunning)
    assert sources(mirror) == ["a"]


def test_read_that_fails(rig: Rig, mirror: EventMirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """A topology that tells nothing any more does not make what was read unreadable."""
    record(rig, "a")
    mirror.catch_up()

    def fail(*_arguments: object, **_more: object) -> None:
        raise CachesimError("it takes no commands")

    monkeypatch.setattr(rig.connection, "call", fail)
    assert sources(mirror) == ["a"]
