"""Following a topology: nothing is asked while nobody looks, and nobody misses anything."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from cachesim.dashboard.looking import Look
from cachesim.dashboard.watch import Message, Watch
from cachesim.errors import NotRunning
from cachesim.events import EventLog
from cachesim.monitoring.datapoints import Datapoint, Minute
from cachesim.runs.calls import Reading, Readings, Status
from cachesim.simulator.simulator import Simulator
from cachesim.topology import Endpoint
from tests.dashboard.statuses import TOPOLOGY, status

LIMIT = 20.0  # seconds


class FakeSim:
    """A topology in which nothing happens but what a test makes happen."""

    def __init__(self) -> None:
        self.topology = TOPOLOGY
        self.events = EventLog()
        self.servers = self.metrics = self.alarms = self.inbox = self.control_plane = self
        self.endpoints: dict[str, Endpoint] = {}
        self.refreshed = 0
        self.now = status()
        self.calls = 0
        self.readable: dict[str, Reading] = {}
        self.minute, self.ended = Minute(1, 0.0, 1.0, {}), list[Minute]()

    def status(self) -> Status:
        """See `Servers.status`."""
        self.calls += 1
        return self.now

    def refresh(self) -> None:
        """See `Simulator.refresh`."""
        self.refreshed += 1

    def readings(self) -> Readings:
        """See `Servers.readings`."""
        self.calls += 1
        return {"nodes": self.readable, "heard": {}}

    def running(self) -> Minute:
        """See `Metrics.running`."""
        return self.minute

    def latest(self) -> Any:
        """See `Metrics.latest`."""
        return self.ended[-1].nodes if self.ended else {}

    def statuses(self) -> list[Any]:
        """See `Alarms.statuses`."""
        return []

    def since(self, _number: int) -> list[Any]:
        """See `Inbox.since`."""
        return []


def watching(sim: FakeSim) -> Watch:
    """What follows it."""
    return Watch(cast(Simulator, sim))


async def read(queue: "asyncio.Queue[Message]", wanted: Callable[[str, Any], bool]) -> Any:
    """Return the first message that is wanted."""
    async with asyncio.timeout(LIMIT):
        while True:
            kind, data = await queue.get()
            if wanted(kind, data):
                return data


def of(kind: str) -> Callable[[str, Any], bool]:
    """Whether a message is of a kind, and has something."""
    return lambda found, data: found == kind and bool(data)


def test_tells_what_is_and_what_changes() -> None:
    """First the state now and the past, then what is new, at once."""
    sim = FakeSim()
    sim.events.record("fault", "az-a|az-b", "partition", fault="1")

    async def look() -> None:
        async with watching(sim).looking() as queue:
            assert (await read(queue, of("picture")))["faults"] == []
            (first,) = await read(queue, of("events"))
            assert (first["number"], first["kind"], first["fault"]) == (1, "fault", "1")
            sim.now = status({"fault": "partition", "a": "a", "b": "b"})
            sim.events.record("failover", "redis-b", "completed")
            (second,) = await read(queue, of("events"))
            assert (second["number"], second["kind"]) == (2, "failover")
            assert len((await read(queue, of("picture")))["faults"]) == 1

    asyncio.run(look())


def test_who_looks_later_gets_the_past_too() -> None:
    """The second one has all events, each once."""
    sim = FakeSim()
    watch = watching(sim)

    async def look() -> None:
        async with watch.looking() as one:
            sim.events.record("fault", "x", "y")
            await read(one, of("events"))
            async with watch.looking() as two:
                assert await read(two, of("picture"))
                assert [it["number"] for it in await read(two, of("events"))] == [1]
                sim.events.record("heal", "x", "y")
                for queue in (one, two):
                    assert [it["number"] for it in await read(queue, of("events"))] == [2]

    asyncio.run(look())


def test_costs_nothing_while_nobody_looks() -> None:
    """Nothing is asked before the first one and after the last one."""
    sim = FakeSim()
    watch = watching(sim)

    async def look() -> int:
        assert sim.calls == 0
        async with watch.looking() as queue:
            await read(queue, of("figures"))
        await asyncio.sleep(0)
        left = {it for it in asyncio.all_tasks() if it is not asyncio.current_task()}
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*left, return_exceptions=True)
        return len([it for it in left if not it.cancelled()])

    assert asyncio.run(look()) == 0


def test_who_does_not_read_begins_again() -> None:
    """Messages do not pile up: the last one says that some are missing."""
    sim = FakeSim()
    watch = watching(sim)

    async def look() -> None:
        async with watch.looking() as queue:
            while not queue.full():
                watch._tell("figures", {})
            watch._tell("figures", {})
            assert queue.get_nowait() == ("late", None)
            assert queue.empty()

    asyncio.run(look())


def test_the_end_of_the_topology() -> None:
    """It is told, with why."""
    sim = FakeSim()

    async def look() -> str:
        async with watching(sim).looking() as queue:
            sim.events.end("It was taken down.")

            def fail() -> Status:
                raise NotRunning("It was taken down.")

            sim.status = fail  # type: ignore[method-assign]
            return str(await read(queue, of("ended")))

    assert asyncio.run(look()) == "It was taken down."


def test_a_mistake_of_ours_is_no_silence() -> None:
    """A page that stands still says so."""
    sim = FakeSim()

    async def look() -> str:
        async with watching(sim).looking() as queue:

            def fail() -> Status:
                raise KeyError("redis-a")

            sim.status = fail  # type: ignore[method-assign]
            return str(await read(queue, of("ended")))

    assert "KeyError('redis-a')" in asyncio.run(look())


def test_times_are_of_the_wall_clock() -> None:
    """A browser has no monotonic clock of ours."""
    sim = FakeSim()
    sim.events.record("fault", "x", "y")

    async def look() -> float:
        async with watching(sim).looking() as queue:
            (event,) = await read(queue, of("events"))
            return float(event["at"])

    assert abs(asyncio.run(look()) - datetime.now(UTC).timestamp()) < LIMIT


def test_a_minute_that_has_just_begun() -> None:
    """The minute before tells until there are enough readings; nothing tells after a reset."""
    sim = FakeSim()
    values = {"used_memory": 1, "max_memory": 2, "connections": 1, "keys": 0, "evicted_keys": 0}
    sim.readable["redis-a"] = {"at": 0.0, "took": 0.0, "own_connections": 1, "values": {**values}}
    look = Look(cast(Simulator, sim))

    def hit_rate(running: float | None, *ended: float) -> float | None:
        """What is told, once two seconds of a minute have passed."""
        *sim.ended, sim.minute = (
            Minute(n, 0.0, 1.0, {} if it is None else {"redis-a": {"CacheHitRate": _point(it)}})
            for n, it in enumerate([*ended, running], 1)
        )
        look.measure()
        return look.measure()["nodes"]["redis-a"]["hit_rate"]

    assert hit_rate(None) is None
    assert hit_rate(70.0) == 70
    assert hit_rate(None, 60.0, 70.0) == 70
    assert hit_rate(80.0, 60.0, 70.0) == 80
    assert hit_rate(None) is None


def _point(value: float) -> Datapoint:
    return Datapoint(value, value, value, 3)


def test_nodes_that_others_add() -> None:
    """They are in the picture with their links, and leave it again."""
    sim = FakeSim()
    look = Look(cast(Simulator, sim))
    assert len(look.see()["nodes"]) == 6
    now = sim.now["nodes"]
    sim.now["nodes"] = [*now, {**now[-1], "name": "memcached-a2", "zone": "a"}]
    seen = look.see()
    assert [it["service"] for it in seen["nodes"] if it["name"] == "memcached-a2"] == ["memcached"]
    assert "client-to-memcached-a2" in [it["name"] for it in seen["links"]]
    assert sim.refreshed == 1  # so that faults can be put on it
    sim.now["nodes"] = now
    assert len(look.see()["nodes"]) == 6
