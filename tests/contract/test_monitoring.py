"""The metrics of real servers, and the thresholds that faults and load drive them over."""

import contextlib
import dataclasses
import itertools
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import redis as redis_py
from redis.cluster import RedisCluster

from cachesim import Simulator
from tests.contract.helpers import info, raw_tls, through_link, until


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
    """Wait until both levels of some rows fire, on a machine that is busy with other tests."""
    for row in rows:
        for level in ("warning", "critical"):
            sim.alarms[f"{row}-{level}"].wait_for("ALARM", 60)


@pytest.fixture
def quick(sim: Simulator) -> Simulator:
    """The topology, in which a minute of production lasts 0.6 s."""
    sim.control_plane.timing = dataclasses.replace(sim.control_plane.timing, speed=100)
    return sim


def test_thresholds(quick: Simulator, redis: RedisCluster) -> None:
    """Faults and load drive five of the metrics over both levels; the alarms end with them.

    The architecture's own alarms fire too, each over its five minutes, and go where it says.
    """
    sim = quick
    own = ("redis-memory-high", "memcached-evictions")
    for name in own:
        sim.alarms[name].wait_for("OK")
    with contextlib.ExitStack() as life:
        sim.faults.replication_lag(7.0, ["redis-b"])
        life.enter_context(repeated(lambda: redis.set("k", 1), lambda: redis.get("missing")))
        sim.faults.memory_fill("redis-c", to=0.95)
        sim.faults.memory_fill("memcached-a", to=1.0)
        memcached = life.enter_context(contextlib.closing(sim.memcached_client()))
        keys = itertools.count()
        life.enter_context(
            repeated(
                lambda: memcached.set(f"p{next(keys)}", b"x" * 1500),
                lambda: memcached.set(f"q{next(keys)}", b"x" * 1500),
                lambda: memcached.get("missing"),
            )
        )
        sim.faults.connection_limit("redis-a", most=100)
        for _ in range(96):
            client = life.enter_context(contextlib.closing(through_link(sim, "redis-a")))
            with contextlib.suppress(redis_py.RedisError):
                client.ping()
        fires(sim, "redis-memory", "redis-hit-rate", "redis-connections", "redis-replication-lag")
        fires(sim, "memcached-evictions", "memcached-memory", "memcached-hit-rate")
        for name in own:
            sim.alarms[name].wait_for("ALARM")
    sim.heal()
    for row in ("redis-memory", "redis-connections", "redis-replication-lag"):
        sim.alarms[f"{row}-warning"].wait_for("OK")
    sent = {(it.about, it.to) for it in sim.inbox if it.subject.startswith("ALARM")}
    assert sent == {("redis-memory-high", "PagerDuty"), ("memcached-evictions", "Slack")}


def test_engine_cpu(quick: Simulator) -> None:
    """A thread that never rests is over both levels, and redis-cpu-high can't see it."""
    if quick.backend == "embedded":
        assert "EngineCPUUtilization" not in quick.metrics["redis-a"]
        return
    script = "for i = 1, 1000000 do end"
    with contextlib.ExitStack() as life:
        some = [through_link(quick, "redis-a", socket_timeout=5) for _ in range(2)]
        for client in some:
            life.callback(client.close)
        spins = [lambda client=client: client.eval(script, 0) for client in some]
        with repeated(*spins):
            fires(quick, "redis-cpu")
            status = quick.alarms["redis-cpu-high"].status
    assert status["state"] != "ALARM"
    assert "out of reach" in status["out_of_reach"]


def asked(client: ssl.SSLSocket, request: bytes) -> bytes:
    """Return what a Memcached node answers."""
    client.sendall(request)
    answer = b""
    while not answer.endswith(b"END\r\n"):
        answer += client.recv(65536) or pytest.fail("the connection was closed")
    return answer


def test_memcached_cpu(quick: Simulator) -> None:
    """Lookups keep its threads busy, and the metric is what they use of two processors.

    Its thresholds are 60 and 80 % of both, which is more than a machine under test has to spare.
    """
    if quick.backend == "embedded":
        assert "CPUUtilization" not in quick.metrics["memcached-a"]
        return
    series = quick.metrics["memcached-a"]["CPUUtilization"]
    with contextlib.ExitStack() as life:
        clients = [raw_tls(quick, quick.nodes["memcached-a"].endpoint) for _ in range(5)]
        for client in clients:
            life.callback(client.close)
            client.settimeout(20)

        def used() -> float:
            stats = re.findall(
                rb"rusage_(?:user|system) ([0-9.]+)", asked(clients[0], b"stats\r\n")
            )
            return sum(map(float, stats))

        until(lambda: series.latest, 10)
        first, before = quick.metrics.running().number, used()
        lookups = b"get" + b" a" * 8000 + b"\r\n"
        with repeated(*(partial(asked, client, lookups) for client in clients[1:])):
            until(lambda: (now := series.latest) and now.value > 30, 60)
        own, last = used() - before, quick.metrics.running().number
    until(lambda: quick.metrics.running().number > last, 20)
    minutes = [it for it in quick.metrics.minutes() if first <= it.number <= last]
    points = [(it.nodes.get("memcached-a", {}), it.end - it.begin) for it in minutes]
    told = sum(it["CPUUtilization"].value * s for it, s in points if "CPUUtilization" in it)
    assert 0.4 * own < told / 100 * 2 < 1.2 * own + 0.3  # minutes of few readings are missing


def test_values_are_the_servers_own(quick: Simulator, redis: RedisCluster) -> None:
    """What was read independently before and after lies around each value."""
    sim, series = quick, quick.metrics["redis-a"]
    until(lambda: series["CurrItems"].latest, 10)
    before = info(sim, "redis-a")
    for number in range(50):
        redis.set(f"k{number}", "v" * 100)
        redis.get(f"k{number}")
    redis.get("missing")
    after = info(sim, "redis-a")
    now = sim.metrics.running().number
    until(lambda: sim.metrics.running().number >= now + 2, 20)
    minutes = sim.metrics.minutes()

    def counted(name: str) -> float:
        points = ((it.nodes["redis-a"][name].value, it.end - it.begin) for it in minutes[1:])
        return sum(value * seconds / 60 for value, seconds in points)

    hits = after["keyspace_hits"] - before["keyspace_hits"]
    misses = after["keyspace_misses"] - before["keyspace_misses"]
    assert (round(counted("CacheHits")), round(counted("CacheMisses"))) == (hits, misses) == (50, 1)
    latest = minutes[-1].nodes["redis-a"]
    assert latest["CurrItems"].value == after["db0"]["keys"]
    assert latest["BytesUsedForCache"].value == pytest.approx(after["used_memory"], rel=0.1)
    assert latest["DatabaseMemoryUsagePercentage"].value == pytest.approx(
        100 * latest["BytesUsedForCache"].value / after["maxmemory"]
    )


def test_dead_node_has_no_data(quick: Simulator) -> None:
    """A paused node's last values are not told again; the others' go on."""
    sim = quick
    until(lambda: sim.metrics["memcached-b"]["CurrItems"].latest, 10)
    # Else the control plane replaces it within a second.
    with sim.control_plane.suspended(), sim.faults.pause("memcached-b"):
        begun = sim.metrics.running().number
        until(lambda: len(sim.metrics.minutes(begun)) >= 2, 20)
        minutes = sim.metrics.minutes(begun)
        assert all("memcached-b" not in it.nodes for it in minutes)
        assert all("redis-a" in it.nodes for it in minutes)
    until(lambda: sim.metrics["memcached-b"]["CurrItems"].latest, 20)


def test_cross_zone_bytes(quick: Simulator) -> None:
    """What a client in a zone sends to another is counted on that link, or has no data."""
    sim, size = quick, 200_000
    series = sim.metrics.cross_zone_bytes("b-to-memcached-a")
    if sim.backend != "embedded":
        begun = sim.metrics.running().number
        until(lambda: sim.metrics["redis-a"]["CurrItems"].latest, 20)
        until(lambda: sim.metrics.minutes(begun), 20)
        assert all(not it.links for it in sim.metrics.minutes())
        return
    until(lambda: series.latest, 20)
    with contextlib.closing(sim.memcached_client(zone="b")) as client:
        (cache,) = (
            it
            for it in client.clients.values()
            if it.server[1] == sim.links["b", "memcached-a"].listen.port
        )
        assert cache.set("k", b"v" * size)
    now = sim.metrics.running().number
    until(lambda: sim.metrics.running().number >= now + 2, 20)

    def counted(link: str) -> float:
        minutes = sim.metrics.minutes()[1:]
        return sum(it.links[link].value * (it.end - it.begin) / 60 for it in minutes)

    assert size < counted("b-to-memcached-a") < 1.1 * size
    assert counted("c-to-memcached-a") == 0
    assert counted("b-to-redis-a-bus") > 0
    assert sim.metrics.minutes()[-1].links.keys() == {
        link.name for link in sim.topology.links if link.crosses_zones
    }


def test_failed_logins(quick: Simulator) -> None:
    """A wrong password is an authentication failure."""
    series = quick.metrics["redis-b"]["AuthenticationFailures"]
    until(lambda: series.latest, 10)
    with (
        contextlib.closing(through_link(quick, "redis-b", password="no")) as client,  # noqa: S106
        contextlib.suppress(redis_py.RedisError),
    ):
        client.ping()
    until(lambda: series.max(), 10)
