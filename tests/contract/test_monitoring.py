"""The metrics of real servers, and the thresholds that faults and load drive them over."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import redis as redis_py
from redis.cluster import RedisCluster

from cachesim import Simulator
from tests.contract.conftest import SPEED
from tests.contract.helpers import info, through_link, until

MINUTE = 60 / SPEED
"""Seconds of a minute of production."""


@contextlib.contextmanager
def repeated(*actions: Callable[[], object]) -> Iterator[None]:
    """Do something over and over in threads of their own, whatever comes of it."""
    is_over = threading.Event()

    def work(action: Callable[[], object]) -> None:
        while not is_over.wait(0.001):
            with contextlib.suppress(Exception):
                action()

    threads = [threading.Thread(target=work, args=(it,), daemon=True) for it in actions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def fires(sim: Simulator, *rows: str) -> None:
    """Wait until both levels of some rows fire."""
    for row in rows:
        for level in ("warning", "critical"):
            sim.alarms[f"{row}-{level}"].wait_for("ALARM")


def test_thresholds_of_redis(sim: Simulator, redis: RedisCluster) -> None:
    """Memory, hit rate, connections and lag go over both levels, and the alarms end with it."""
    rows = ("redis-memory", "redis-hit-rate", "redis-connections", "redis-replication-lag")
    sim.alarms["redis-memory-critical"].wait_for("OK")
    sim.faults.memory_fill("redis-c", to=0.95)
    sim.faults.replication_lag(9.0, ["redis-b"])
    sim.faults.connection_limit("redis-a", most=60)
    with contextlib.ExitStack() as life:
        for _ in range(60):
            client = through_link(sim, "redis-a")
            life.callback(client.close)
            with contextlib.suppress(redis_py.RedisError):
                client.ping()
        # The limit is reached: others may not connect, and the client of the cluster has.
        life.enter_context(repeated(lambda: redis.set("k", 1), lambda: redis.get("missing")))
        fires(sim, *rows)
        high = sim.alarms["redis-memory-high"].wait_for("ALARM")
        assert (high["node"], [it.to for it in sim.inbox.of("redis-memory-high")][-1]) == (
            "redis-c",
            "PagerDuty",
        )
    sim.heal()
    for row in rows:
        if row != "redis-hit-rate":  # without reads it has no data
            sim.alarms[f"{row}-warning"].wait_for("OK")


def test_thresholds_of_memcached(sim: Simulator) -> None:
    """Under eviction pressure, evictions, memory and hit rate go over both levels.

    The architecture's own alarm fires too, over its five minutes.
    """
    sim.alarms["memcached-evictions"].wait_for("OK")
    sim.faults.memory_fill("memcached-a", to=1.0)
    with contextlib.closing(sim.memcached_client()) as client:
        keys = iter(range(10**9))
        pressure = [lambda: client.set(f"p{next(keys)}", b"x" * 1500)] * 2
        with repeated(*pressure, lambda: client.get("missing")):
            fires(sim, "memcached-evictions", "memcached-memory", "memcached-hit-rate")
            sim.alarms["memcached-evictions"].wait_for("ALARM")
    (fired,) = [it for it in sim.inbox.of("memcached-evictions") if it.subject.startswith("ALARM")]
    assert fired.to == "Slack"


def test_values_are_the_servers_own(sim: Simulator, redis: RedisCluster) -> None:
    """What was read independently before and after lies around each value."""
    series = sim.metrics["redis-a"]
    until(lambda: series["CurrItems"].latest, 10)
    before = info(sim, "redis-a")
    for number in range(50):
        redis.set(f"k{number}", "v" * 100)
        redis.get(f"k{number}")
    redis.get("missing")
    after = info(sim, "redis-a")
    now = sim.metrics.running().begin
    until(lambda: sim.metrics.running().begin > now + MINUTE, 20)
    minutes = sim.metrics.minutes()

    def counted(name: str) -> float:
        points = ((it.nodes["redis-a"][name].value, it.end - it.begin) for it in minutes[1:])
        return sum(value * seconds / 60 for value, seconds in points)

    hits = after["keyspace_hits"] - before["keyspace_hits"]
    misses = after["keyspace_misses"] - before["keyspace_misses"]
    assert (round(counted("CacheHits")), round(counted("CacheMisses"))) == (hits, misses) == (50, 1)
    latest = minutes[-1].nodes["redis-a"]
    assert latest["CurrItems"].value == after["db0"]["keys"]
    assert latest["BytesUsedForCache"].minimum <= after["used_memory"] * 1.2
    assert latest["BytesUsedForCache"].maximum >= before["used_memory"] * 0.8
    assert latest["DatabaseMemoryUsagePercentage"].value == (
        100 * latest["BytesUsedForCache"].value / after["maxmemory"]
    )


def test_dead_node_has_no_data(sim: Simulator) -> None:
    """A paused node's last values are not told again; the others' go on."""
    until(lambda: sim.metrics["memcached-b"]["CurrItems"].latest, 10)
    with sim.faults.pause("memcached-b"):
        begun = sim.metrics.running().number
        until(lambda: len(sim.metrics.minutes(begun)) >= 2, 20)
        minutes = sim.metrics.minutes(begun)
        assert all("memcached-b" not in it.nodes for it in minutes)
        assert all("redis-a" in it.nodes for it in minutes)
    until(lambda: sim.metrics["memcached-b"]["CurrItems"].latest, 20)


def test_failed_logins(sim: Simulator) -> None:
    """A wrong password is an authentication failure."""
    series = sim.metrics["redis-b"]["AuthenticationFailures"]
    until(lambda: series.latest, 10)
    with (
        contextlib.closing(through_link(sim, "redis-b", password="wrong")) as client,
        contextlib.suppress(redis_py.RedisError),
    ):
        client.ping()
    until(lambda: series.max(), 10)
