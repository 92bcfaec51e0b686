"""Observations, of clients without servers and of functions; and one of a real topology."""

import asyncio
import itertools
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest

from cachesim import Simulator
from cachesim.errors import CachesimError, NotRunning
from cachesim.events import EventLog
from cachesim.faults.catalogue import Kill
from cachesim.simulator import observe as observing
from cachesim.simulator.faults import Fault
from cachesim.simulator.observe import Means, Observer

EVERY = 0.005
PATIENT = 60.0
"""A deadline that a busy machine meets: only errors are bad."""


class FakeRedis:
    """A client of a dictionary, which fails when it is told to.

    Attributes:
        values: what it has.
        is_broken: whether its operations fail.
        made: how many were made.
        read: the keys that were read, in their order.
    """

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.is_broken = False
        self.made = 0
        self.read: list[str] = []

    def execute_command(self) -> None:
        """By this it is known."""

    def get(self, key: str) -> str | None:
        """As redis-py's."""
        self.read.append(key)
        self._check()
        return self.values.get(key)

    def set(self, key: str, value: str, ex: int) -> None:
        """As redis-py's."""
        assert ex > 60
        self._check()
        self.values[key] = value

    def _check(self) -> None:
        self.made += 1
        if self.is_broken:
            raise ConnectionError


class FakeAsyncRedis(FakeRedis):
    """The same for asyncio."""

    async def execute_command(self) -> None:  # type: ignore[override]
        """By this it is known."""

    async def get(self, key: str) -> str | None:  # type: ignore[override]
        """As that of redis.asyncio."""
        await asyncio.sleep(0)
        return super().get(key)

    async def set(self, key: str, value: str, ex: int) -> None:  # type: ignore[override]
        """As that of redis.asyncio."""
        await asyncio.sleep(0)
        super().set(key, value, ex)


@pytest.fixture
def log() -> EventLog:
    """The event log of no topology."""
    return EventLog()


@pytest.fixture
def redis() -> FakeRedis:
    """A client that works."""
    return FakeRedis()


Observe = Callable[..., Observer]


@pytest.fixture
def observe(redis: FakeRedis, log: EventLog) -> Observe:
    """Observe something, with another client for what was lost."""

    def observed(target: object, speed: float = 1.0, **options: Any) -> Observer:
        values: dict[str, str] = getattr(target, "values", redis.values)
        means = Means(log, lambda: speed, lambda keys: [values.get(key) for key in keys])
        return Observer(target, means, **({"every": EVERY, "deadline": PATIENT} | options))

    return observed


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(EVERY)


def more(count: int, seen: Any) -> None:
    """Wait until so many more operations are known of a kind."""
    before = len(seen.operations)
    wait_for(lambda: len(seen.operations) >= before + count)


def test_without_a_fault(observe: Observe, redis: FakeRedis) -> None:
    """Reads and writes are made on schedule, all good, and what was written is read."""
    with observe(redis) as seen:
        more(20, seen.reads)
        more(20, seen.writes)
        assert seen.outage == 0  # so far
    assert seen.outage == seen.outage.total == seen.writes.outage == 0
    assert not seen.errors
    assert seen.latency.max < PATIENT
    assert seen.lost_writes == []
    assert seen.reads.operations[-1].read == int(seen.reads.operations[-1].key.split(":")[-1])
    for kind in (seen.reads, seen.writes):
        due = [it.due for it in kind.operations]
        assert due == pytest.approx([due[0] + EVERY * number for number in range(len(due))])
    assert len(seen.operations) == len(seen.reads.operations) + len(seen.writes.operations)


def test_an_outage(observe: Observe, redis: FakeRedis) -> None:
    """It is as long as the operations that were due in it, and the end waits for its end."""
    with observe(redis) as seen:
        more(10, seen)
        redis.is_broken = True
        begin = time.monotonic()
        more(40, seen.reads)
        least = time.monotonic() - begin - 0.1
        healing = threading.Timer(0.2, lambda: setattr(redis, "is_broken", False))
        healing.start()
    healing.join()
    assert least < seen.outage < time.monotonic() - begin + EVERY
    assert seen.outage.total.high >= seen.outage.high
    assert seen.reads.errors["ConnectionError"] >= 40
    assert seen.errors == seen.reads.errors + seen.writes.errors
    assert [it.is_open for it in seen.writes.outages] == [False]
    assert "ConnectionError" in str(seen)
    assert repr(seen) == f"<Observation of redis: outage {seen.outage}>"


def test_an_outage_without_end(observe: Observe, redis: FakeRedis) -> None:
    """The end does not wait for ever, and such an outage is shorter than nothing."""
    redis.is_broken = True
    with observe(redis, settle=0.1) as seen:
        more(10, seen)
    assert not seen.outage < 1e9
    assert seen.outage > 5 * EVERY
    assert str(seen.outage).startswith("more than")


def test_lost_writes(observe: Observe, redis: FakeRedis) -> None:
    """Those that were acknowledged and are gone, or are others."""
    with observe(redis) as seen:
        more(20, seen.writes)
        first, second, *_ = list(redis.values)
        del redis.values[first]
        redis.values[second] = "0"
        assert len(seen.lost_writes) == 2  # so far
        redis.is_broken = True
        more(10, seen.writes)
        redis.is_broken = False
    redis.values.clear()  # what goes later does not count
    assert [it.key for it in seen.lost_writes] == [first, second]
    assert all(it.kind == "write" and it.ledger for it in seen.lost_writes)
    shown = re.fullmatch(
        r"<2 of (\d+) acknowledged writes, which were due from second (\S+) to (\S+)>",
        repr(seen.lost_writes),
    )
    assert shown
    assert int(shown[1]) == sum(it.outcome == "ok" for it in seen.writes.operations)
    assert 0 <= float(shown[2]) <= float(shown[3]) < 60


def test_lost_writes_that_can_not_be_read(redis: FakeRedis, log: EventLog) -> None:
    """Nobody takes silence for: none."""

    def read(_keys: Sequence[str]) -> list[str | None]:
        raise CachesimError("redis-a does not answer")

    with Observer(redis, Means(log, lambda: 1, read), every=EVERY) as seen:
        more(5, seen.writes)
    with pytest.raises(CachesimError, match=r"could not be asked .* redis-a does not answer"):
        _ = seen.lost_writes


def test_a_function(observe: Observe) -> None:
    """It is called by one thread, and what it raises is an error; it loses nothing of ours."""
    threads = set()

    def visit() -> None:
        threads.add(threading.get_ident())
        if len(threads) > 1:
            raise AssertionError

    with observe(visit) as seen:
        more(20, seen)
    assert seen.outage == 0
    assert len(threads) == 1
    assert not seen.writes.operations
    assert not seen.writes.outage < 1e9  # of what was not observed, nothing is known
    with pytest.raises(CachesimError, match="lost writes are those to Redis"):
        _ = seen.lost_writes
    assert str(seen).startswith("seconds  visit  topology")


def test_a_function_that_raises_what_is_no_exception(observe: Observe) -> None:
    """One call of it has failed, and the next ones are made all the same."""
    calls: list[int] = []

    def visit() -> None:
        calls.append(1)
        if len(calls) == 3:
            pytest.fail("not served")

    with observe(visit) as seen:
        more(10, seen)
    assert seen.errors == {"Failed": 1}
    assert seen.outage < PATIENT


def test_a_call_that_is_cancelled(observe: Observe) -> None:
    """What it awaited was cancelled: that is its error, and the next ones are made all the same."""
    calls: list[int] = []

    async def visit() -> None:
        calls.append(1)
        if len(calls) == 3:
            asking = asyncio.create_task(asyncio.sleep(60))
            asking.cancel()
            await asking

    async def main() -> Any:
        async with asyncio.timeout(60), observe(visit) as seen:
            while len(seen.operations) < 10:
                await asyncio.sleep(EVERY)
        return seen

    seen = asyncio.run(main())
    assert seen.errors == {"CancelledError": 1}
    assert seen.outage < PATIENT


def test_a_function_that_hangs(observe: Observe) -> None:
    """What was due meanwhile counts, although nothing could be called."""
    released = threading.Event()
    with observe(released.wait, deadline=0.05) as seen:
        wait_for(lambda: len(seen.operations) > 40)
        assert seen.errors["shed"] >= 39
        released.set()
    assert seen.outage > 39 * EVERY


def test_the_end_before_a_deadline(observe: Observe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a client that hangs at the end nobody knows for how long, if its deadline is longer."""
    monkeypatch.setattr(observing, "_LAST_CALLS", 0.1)
    hangs, hung, released = (threading.Event() for _ in range(3))

    def visit() -> None:
        if hangs.is_set():
            hung.set()
            released.wait()

    with observe(visit, settle=0) as seen:
        more(5, seen)
        hangs.set()
        assert hung.wait(30)
    assert not seen.outage < PATIENT
    assert not seen.outage > 0
    released.set()


def test_the_last_call(observe: Observe) -> None:
    """The end waits until it is known what becomes of the call that is under way."""
    hangs, released = threading.Event(), threading.Event()

    def visit() -> None:
        if hangs.is_set() and not released.is_set():
            released.wait()
            raise OSError

    with observe(visit) as seen:
        more(5, seen)
        hangs.set()
        time.sleep(4 * EVERY)
        releasing = threading.Timer(0.2, released.set)
        releasing.start()
    releasing.join()
    assert seen.errors == {"OSError": 1}


def test_a_function_that_forgets_to_be_asynchronous(observe: Observe) -> None:
    """A coroutine that nobody awaits is an error, not an answer."""

    async def visit() -> None:
        pass

    with observe(lambda: visit(), settle=0) as seen:
        more(5, seen)
    assert set(seen.errors) == {"TypeError"}


def test_a_generator(observe: Observe) -> None:
    """Nothing of it has run, so it is an error, not an answer."""

    def visit() -> Iterator[None]:
        yield

    async def visit_later() -> AsyncIterator[None]:
        yield

    for function in (visit, visit_later):
        with observe(function, settle=0) as seen:
            more(5, seen)
        assert set(seen.errors) == {"TypeError"}


def test_connections_are_opened_before(observe: Observe, redis: FakeRedis) -> None:
    """Each worker's first operation is no part of it: it opens connections."""
    with observe(redis) as seen:
        more(5, seen)
    assert redis.read[:10] == ["cachesim:nothing"] * 10
    assert "cachesim:nothing" not in redis.read[10:]
    assert len(seen.reads.operations) <= len(redis.read) - 10


def test_threads_end(observe: Observe, redis: FakeRedis) -> None:
    """Nothing goes on after the context."""
    before = set(threading.enumerate())
    with observe(redis) as seen:
        more(5, seen)
        its = set(threading.enumerate()) - before
        assert len(its) == 10
    assert not any(it.is_alive() for it in its)
    made = redis.made
    time.sleep(4 * EVERY)
    assert redis.made == made


def test_time_that_stands_still(
    observe: Observe, redis: FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a library freezes time for tests, nothing would be due, and the end would not come."""
    threads = threading.active_count()
    with monkeypatch.context() as frozen:
        frozen.setattr(time, "monotonic", lambda: 5.0)
        with pytest.raises(CachesimError, match="freezegun"):
            observe(redis).__enter__()
    assert threading.active_count() == threads
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real())  # no built-in one
    with observe(redis) as seen:  # which leaves cachesim alone
        more(1, seen)
    assert not seen.outage


def test_an_error_in_the_context(observe: Observe, redis: FakeRedis) -> None:
    """It is the one that is raised; nothing waits for the end of an outage."""
    redis.is_broken = True
    begin = time.monotonic()
    with pytest.raises(ZeroDivisionError), observe(redis, settle=600) as seen:  # noqa: PT012
        more(5, seen)
        _ = 1 / 0
    assert time.monotonic() - begin < 60
    with pytest.raises(CachesimError, match="ended with an error"):
        _ = seen.lost_writes
    assert "ConnectionError" in str(seen)


def test_the_end_of_the_topology(redis: FakeRedis, log: EventLog) -> None:
    """The error of the context is raised all the same, and the timeline can be shown."""

    def fail(*_arguments: object) -> Any:
        raise NotRunning("its process has ended")

    with pytest.raises(ZeroDivisionError), Observer(redis, Means(log, fail, fail)) as seen:  # noqa: PT012
        more(5, seen)
        _ = 1 / 0
    assert "the observation ends" in str(seen)


def test_asyncio(observe: Observe) -> None:
    """An asyncio client is observed in its event loop, without any thread."""
    redis = FakeAsyncRedis()

    async def main() -> Any:
        threads = threading.active_count()
        async with observe(redis) as seen:
            while len(seen.writes.operations) < 20:
                await asyncio.sleep(EVERY)
            assert threading.active_count() == threads
            redis.is_broken = True
            while len(seen.reads.errors) == 0:
                await asyncio.sleep(EVERY)
            asyncio.get_running_loop().call_later(0.1, lambda: setattr(redis, "is_broken", False))
        assert len(asyncio.all_tasks()) == 1
        return seen

    seen = asyncio.run(main())
    assert seen.reads.outage > 0
    assert seen.outage < PATIENT
    assert seen.lost_writes == []
    with pytest.raises(TypeError, match="observe it with `async with`"), observe(redis):
        pass


def test_a_function_beside_an_event_loop(observe: Observe) -> None:
    """In a coroutine, what blocks is observed by a thread, and the loop goes on."""

    async def main() -> Any:
        async with observe(threading.active_count) as seen:
            while len(seen.operations) < 10:
                await asyncio.sleep(EVERY)
        return seen

    assert asyncio.run(main()).outage == 0


def test_given_up_while_connections_are_opened(observe: Observe, redis: FakeRedis) -> None:
    """No thread goes on with what a cancelled coroutine has begun to observe."""
    before = set(threading.enumerate())
    answers = threading.Event()
    redis.get = lambda _key: answers.wait()  # type: ignore[assignment,method-assign,return-value]

    async def main() -> None:
        async with asyncio.timeout(EVERY), observe(redis):
            pytest.fail("no connection was opened")

    threading.Timer(10 * EVERY, answers.set).start()
    with pytest.raises(TimeoutError):
        asyncio.run(main())
    wait_for(lambda: before.issuperset(threading.enumerate()))


def fault_of(log: EventLog, ident: str) -> Fault:
    """A fault that was applied."""

    class Catalogue:
        def read(self, _fault: object) -> Kill:
            return Kill(("redis-a",))

    data: Any = {"id": ident, "fault": {}, "kind": "kill", "target": "redis-a", "seconds": None}
    return Fault(data, log, Catalogue())  # type: ignore[arg-type]


def test_recovery(observe: Observe, redis: FakeRedis, log: EventLog) -> None:
    """It is counted from a fault's end, or its begin if it was not healed."""
    fault, other = fault_of(log, "1"), fault_of(log, "2")
    with observe(redis) as seen:
        more(10, seen)
        log.record("fault", "redis-a", "kill", fault="1")
        redis.is_broken = True
        more(40, seen)
        before = seen.recovered_after(fault)
        assert before > 10 * EVERY
        assert not before < 1e9
        log.record("heal", "redis-a", "kill", fault="1")
        redis.is_broken = False
        with pytest.raises(ValueError, match="neither applied nor healed during"):
            seen.recovered_after(other)
    assert seen.recovered_after(fault) < seen.outage
    assert "fault: redis-a kill" in str(seen)
    assert seen.recovered_after(fault).explain().startswith("the recovery of redis after <kill on")


def test_recovery_before_another_fault(observe: Observe, redis: FakeRedis, log: EventLog) -> None:
    """What another one does before it is in the log, as a kill of containers, is its doing."""
    with observe(redis) as seen:
        more(10, seen)
        log.record("fault", "redis-a", "kill", fault="1")
        log.record("heal", "redis-a", "kill", fault="1")
        more(10, seen)
        begun = time.monotonic()
        redis.is_broken = True
        more(150, seen)  # for longer than a busy machine makes operations late
        log.record("fault", "redis-a", "kill", fault="2", begun=begun)
        redis.is_broken = False
    assert seen.recovered_after(fault_of(log, "1")) < seen.outage


def test_healed_at_the_very_end(observe: Observe, redis: FakeRedis, log: EventLog) -> None:
    """The end waits for operations that were due after it, as earlier ones tell nothing of it."""
    fault = fault_of(log, "1")
    with observe(redis, every=0.2) as seen:
        more(1, seen.writes)
        log.record("heal", "redis-a", "kill", fault="1")
    assert seen.recovered_after(fault) < 1e9


def test_notes(observe: Observe, redis: FakeRedis) -> None:
    """The timeline says what the figures of a quick topology are not."""
    with observe(redis, speed=30.0) as seen:
        more(5, seen)
    assert "The control plane is 30 times as fast as in production" in str(seen)


def test_calls_that_take_longer_than_the_schedule_has(observe: Observe) -> None:
    """They queue although nothing is away: the timeline says so, and what to do."""
    with observe(lambda: time.sleep(3 * EVERY), deadline=EVERY, settle=0) as seen:
        wait_for(lambda: seen.errors["late"] + seen.errors["shed"] > 20)
    assert "Most calls of <lambda> took" in str(seen)
    assert f"every {EVERY:g} s, with workers=1: they queue" in str(seen)
    assert re.search(r"Observe with every=0\.\d+, or with workers=\d+\.", str(seen))


def test_a_few_calls_that_hang(observe: Observe) -> None:
    """Others are late by that, but the schedule is not to blame."""
    calls = itertools.count(1)

    def visit() -> None:
        if next(calls) == 20:
            time.sleep(20 * EVERY)

    with observe(visit, deadline=EVERY) as seen:
        more(60, seen)
    assert seen.errors["late"] + seen.errors["shed"]
    assert "they queue" not in str(seen)


@pytest.mark.parametrize("option", ["every", "deadline", "workers"])
def test_wrong_numbers(observe: Observe, redis: FakeRedis, option: str) -> None:
    """They are refused at once."""
    with pytest.raises(ValueError, match=f"{option}=0"):
        observe(redis, **{option: 0})


def test_what_can_not_be_observed(observe: Observe) -> None:
    """It is refused at once, with what can be."""
    with pytest.raises(TypeError, match="a client of Redis or Memcached, or a function"):
        observe("redis")


class HashClient(dict[str, str]):
    """A client by the name of pymemcache's, whose servers are all dead."""

    __module__ = "pymemcache.client.hash"

    def set(self, key: str, value: str, expire: int, noreply: bool) -> bool:
        """As pymemcache's: True tells nothing if nobody waits for an answer."""
        assert expire > 60
        return noreply or bool(key == value)


def test_what_memcached_did_not_take(observe: Observe) -> None:
    """A write that returns False is an error, a read that finds nothing is none."""
    with observe(HashClient(), settle=0) as seen:
        more(5, seen.writes)
        more(5, seen.reads)
    assert set(seen.writes.errors) == {"NotStored"}
    assert not seen.reads.errors
    with pytest.raises(CachesimError, match="lost writes are those to Redis"):
        _ = seen.lost_writes


@pytest.mark.parametrize("is_pooled", [False, True])
def test_clients_of_memcached(observe: Observe, is_pooled: bool) -> None:
    """Several threads use the client, so it has a pool."""
    from pymemcache.client.hash import HashClient
    from pymemcache.client.retrying import RetryingClient

    client = HashClient([("127.0.0.1", 1)], use_pooling=is_pooled)
    for it in (client, RetryingClient(client)):
        if is_pooled:
            observe(it)
            continue
        with pytest.raises(ValueError, match="use_pooling=True"):
            observe(it)


# --- a topology -------------------------------------------------------------------------------


def test_a_failover(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real clients: the outage is there, the topology's events beside it, and writes are lost."""
    monkeypatch.setenv("CACHESIM_BACKEND", "embedded")
    with Simulator(speed=30, seed=7) as sim:
        redis, memcached = sim.redis_cluster(), sim.memcached_client()
        with (
            sim.observe(redis, deadline=0.2) as seen,
            sim.observe(memcached, deadline=0.2) as cache,
            sim.faults.replication_lag(1),
        ):
            more(100, seen.writes)
            more(20, cache.writes)
            fault = sim.redis.primary.kill()
            sim.nodes["memcached-b"].kill()
            sim.redis.wait_for_failover()
            wait_for(lambda: cache.errors.total() > 0)
        redis.close()
        memcached.close()
    assert 0.1 < seen.outage < 60
    assert 0 < len(seen.lost_writes) < len(seen.writes.operations)
    assert "failover: redis-" in str(seen)
    assert seen.recovered_after(fault) < 60
