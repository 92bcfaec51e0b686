"""The monitor on a clock of its own: samples, minutes, missing data, lag, messages, reset."""

import itertools
import json
import threading

import pytest

from cachesim.monitoring import architecture
from cachesim.monitoring.alarms import Alarm
from cachesim.monitoring.monitor import HISTORY
from cachesim.runs.calls import Reading
from tests.monitoring.play import TOPOLOGY, Play

LIMIT = 20.0  # seconds
MEMORY = {"used_memory": 95.0, "maxmemory": 100.0}


def alarm(name: str) -> Alarm:
    """One of the architecture's."""
    return next(it for it in architecture.alarms(TOPOLOGY) if it.name == name)


@pytest.mark.parametrize(("speed", "reads"), [(1, 60), (10, 60), (30, 20), (120, 5)])
def test_samples(speed: float, reads: int) -> None:
    """Servers are read once a second of production, but not more than ten times a second."""
    play = Play(speed=speed)
    play.values["redis-a"] = MEMORY
    play.run(180 / speed)
    points = [it.nodes["redis-a"]["DatabaseMemoryUsagePercentage"] for it in play.monitor.minutes()]
    assert {it.value for it in points} == {95}
    assert points[1].samples == pytest.approx(reads, rel=0.35)


def test_too_fast() -> None:
    """At a speed at which a minute has too few readings, there is no data."""
    play = Play(speed=600)
    play.values["redis-a"] = MEMORY
    play.run(1)
    assert len(play.monitor.minutes()) >= 8
    assert all(not it.nodes for it in play.monitor.minutes())


def test_dead_node() -> None:
    """A node that does not answer has no data in that minute, and its own again later."""
    play = Play()
    play.values["redis-a"] = MEMORY
    play.run(60)
    del play.values["redis-a"]
    play.run(60)
    play.values["redis-a"] = MEMORY
    play.run(60)
    assert ["redis-a" in it.nodes for it in play.monitor.minutes()] == [True, False, True]


def test_minutes_follow_each_other() -> None:
    """A minute begins where the one before ends; their number is limited."""
    play = Play(speed=1000)
    play.run(0.06 * (HISTORY + 60))
    found = play.monitor.minutes()
    assert len(found) == HISTORY
    for one, other in itertools.pairwise(found):
        assert (other.number, other.begin) == (one.number + 1, one.end)
    assert play.monitor.minutes(found[-2].number) == [found[-1]]


def test_other_speed() -> None:
    """A minute that began at one speed ends at another."""
    play = Play(speed=1)
    play.run(30)
    play.speed = 30
    play.run(1.1)
    assert len(play.monitor.minutes()) == 1


def test_running_minute() -> None:
    """What there is of a minute can be seen before it ends."""
    play = Play()
    play.values["redis-a"] = MEMORY
    play.run(20)
    assert play.monitor.minutes() == []
    assert play.monitor.running().nodes["redis-a"]["DatabaseMemoryUsagePercentage"].value == 95


def test_lag() -> None:
    """A replica's lag is that of its offset; a primary has none."""
    play = Play()
    play.values = {name: {"uptime": 1.0} for name in ("redis-a", "redis-b")}
    for second in range(70):
        now = play.clock.now
        play.offsets = {"redis-a": (now, 100 * second), "redis-b": (now, 100 * max(0, second - 3))}
        play.run(1)
    (found,) = play.monitor.minutes()
    assert found.nodes["redis-b"]["ReplicationLag"].maximum == pytest.approx(2, abs=0.3)
    assert "ReplicationLag" not in found.nodes.get("redis-a", {})


def test_alarm_pages() -> None:
    """An alarm that fires is in the event log and in the inbox once, and its end resolves it."""
    play = Play([alarm("redis-memory-high")])
    play.values["redis-b"] = {**MEMORY, "used_memory": 20}
    play.run(61)
    assert [it.subject.partition(":")[0] for it in play.monitor.messages()] == ["OK"]
    assert play.events.of("alarm") == []
    play.values["redis-b"] = MEMORY
    play.run(60 * 10)
    play.values["redis-b"] = {**MEMORY, "used_memory": 20}
    play.run(60 * 2)
    assert [it.data["new"] for it in play.events.of("alarm")] == ["ALARM", "OK"]
    fired = play.events.of("alarm")[0]
    assert (fired.source, fired.data["node"]) == ("redis-memory-high", "redis-b")
    # The mean of five minutes is above 85 % when all of them have 95 %: with 20 % it is 80 %.
    assert fired.at == pytest.approx(1000 + 60 * 6, abs=2)
    messages = play.monitor.messages()
    assert [it.subject.partition(":")[0] for it in messages] == ["OK", "ALARM", "OK"]
    assert [it.number for it in messages] == [1, 2, 3]
    assert play.forwarded == messages
    body = json.loads(messages[1].envelope["Message"])
    assert (body["OldStateValue"], body["NewStateValue"]) == ("OK", "ALARM")
    assert messages[1].received == messages[1].envelope


def test_reset() -> None:
    """After a reset nothing is known: no minutes, no states, no messages."""
    play = Play([alarm("redis-memory-high")])
    play.values["redis-a"] = MEMORY
    play.run(120)
    assert play.monitor.watches()["redis-memory-high"].state == "ALARM"
    play.monitor.reset()
    assert play.monitor.minutes() == []
    assert play.monitor.messages() == []
    assert play.monitor.watches()["redis-memory-high"].state == "INSUFFICIENT_DATA"
    assert play.monitor.since == play.clock.now


def test_numbers_go_on_after_a_reset() -> None:
    """Who follows the messages by number, as the dashboard does, misses none of the next ones."""
    play = Play([alarm("redis-memory-high")])
    play.values["redis-a"] = MEMORY
    play.run(61)
    (before,) = play.monitor.messages()
    play.monitor.reset()
    play.run(61)
    (after,) = play.monitor.messages(before.number)
    assert after.number == before.number + 1


def test_events_of_elasticache() -> None:
    """Its events go to the inbox where that is wanted, under its own names."""
    expected = ["FailoverComplete", "AddCacheNodeComplete", "RemoveCacheNodeComplete"]
    for to, names in (((), []), (("Slack",), [f"ElastiCache:{it}" for it in expected])):
        play = Play(events_to=to)
        play.events.record("fault", "redis-a", "kill")
        play.events.record("failover", "redis-b", "Failover from primary node a to b completed")
        play.events.record("scaled", "t", "Finished modifying", added={"memcached-a2": "x:1"})
        play.events.record("scaled", "t", "Removed cache nodes", removed=["memcached-a2"])
        play.run(1)
        assert [it.about for it in play.monitor.messages()] == names


def test_costs_nothing_before() -> None:
    """A monitor that nobody has started has no thread, and reads nothing."""
    play = Play()
    assert not play.monitor.is_running
    assert play.reads == 0
    play.monitor.close()


def test_an_error_is_told_and_it_goes_on() -> None:
    """What fails once, as without room for a thread, neither ends the metrics nor is silent."""
    play, again = Play(), threading.Event()
    failures = [RuntimeError("can't start new thread")] * 2

    def read() -> dict[str, Reading]:
        play.clock.advance(1)
        if failures:
            raise failures.pop()
        again.set()
        return {}

    play.monitor._read = read
    play.monitor.start()
    try:
        assert again.wait(LIMIT)
    finally:
        play.monitor.close()
    (event,) = play.events.of("error")
    assert "can't start new thread" in event.message


def test_thread_ends() -> None:
    """The thread begins with `start` and ends with `close`, and can't begin again."""
    play = Play()
    play.monitor.start()
    play.monitor.start()
    assert "cachesim-monitor" in {it.name for it in threading.enumerate()}
    play.monitor.close()
    play.monitor.close()
    play.monitor.start()
    assert "cachesim-monitor" not in {it.name for it in threading.enumerate()}


def test_cross_zone_bytes() -> None:
    """They are those of a minute, by link between zones; what is not counted has no data."""
    play = Play()
    play.passed = {"b-to-redis-a": 5000, "client-to-redis-a": 9000}
    play.run(30)
    play.passed["b-to-redis-a"] += 700
    play.run(31)
    play.passed["b-to-redis-a"] += 40
    play.run(60)
    play.passed = {}
    play.run(60)
    found = [{k: it.value for k, it in one.links.items()} for one in play.monitor.minutes()]
    assert found == [
        {"b-to-redis-a": pytest.approx(700, rel=0.02)},
        {"b-to-redis-a": pytest.approx(40, rel=0.02)},
        {},
    ]
