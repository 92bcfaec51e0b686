"""Nothing that can happen to a topology is for ever: it heals, or a reset makes it new."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from redis import Redis
from redis.exceptions import RedisError

from cachesim import Simulator
from cachesim.clock import Deadline
from cachesim.control_plane.states import State
from cachesim.errors import FaultError, NotReady, WaitTimeout
from cachesim.servers import redis_cluster, redis_health
from cachesim.servers.admin import errors
from cachesim.servers.redis_cluster import Cluster
from cachesim.servers.redis_config import FENCED
from cachesim.topology import Node, Service
from tests.chaos import _tail, assert_as_new, wait_until_well
from tests.contract.helpers import through_link, until
from tests.hosted import Hosted


@pytest.fixture
def sim(inside: Hosted) -> Simulator:
    """The client of the running topology in this process."""
    return inside.sim


@pytest.fixture
def cluster(inside: Hosted) -> Cluster:
    """The cluster of the only shard."""
    (cluster,) = inside.operations.clusters.values()
    return cluster


@contextmanager
def ill(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, node: str, times: int) -> Iterator[None]:
    """The cluster does not get well for so many times."""
    converge, left = cluster.converge, [None] * times

    def fails(primary: str, node_timeout_ms: int, deadline: Deadline) -> None:
        if left:
            left.pop()
            raise NotReady(f"{node} is ill", node)
        converge(primary, node_timeout_ms, deadline)

    with monkeypatch.context() as patch:
        patch.setattr(cluster, "converge", fails)
        patch.setattr(cluster, "is_hurried", True)
        yield


def test_replica_of_a_replica(sim: Simulator) -> None:
    """A node that comes back, and sees only a former primary, follows the present one in the end.

    Meanwhile it can't be promoted: what it would take over is nothing.
    """
    sim.control_plane.failover("b")
    until(lambda: sim.control_plane.failovers == 1)
    until(lambda: sim.control_plane.state is State.AVAILABLE)
    dead = sim.faults.kill("redis-a")
    sim.control_plane.failover("c")
    until(lambda: sim.control_plane.failovers == 2)
    until(lambda: through_link(sim, "redis-b").role()[0] == "slave")
    with sim.faults.partition("a", "c"):
        dead.heal()
        until(lambda: sim.nodes["redis-a"].state == "running")
        time.sleep(0.5)  # for what it hears of redis-b
    wait_until_well(sim)
    sim.reset()
    assert_as_new(sim)


def test_replica_that_has_not_heard_of_the_primary(
    sim: Simulator, inside: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that knows nobody with the slots is not promoted: it would be so without slots."""
    mark = sim.events.mark()
    blind, reported = inside.operations.admin.redis("redis-b"), redis_health.cluster_nodes

    def known(client: Redis) -> object:
        me, others = reported(client)
        return me, [{**it, "slots": []} for it in others] if client is blind else others

    with monkeypatch.context() as patch:
        patch.setattr(redis_cluster, "cluster_nodes", known)
        sim.control_plane.failover("b")
        until(lambda: sim.control_plane.failovers == 1)
    assert sim.redis.primary.name == "redis-c"
    assert [it.message for it in sim.events.of("waiting", mark)] == [
        "could not be promoted: redis-b: knows no node that has the slots"
    ]
    wait_until_well(sim)


def test_node_that_stays_ill_gets_a_new_process(
    sim: Simulator, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset that makes no headway replaces the node at fault, and says so."""
    mark = sim.events.mark()
    sim.faults.kill("redis-b")
    before = through_link(sim, "redis-c").info("server")["run_id"]
    with ill(cluster, monkeypatch, "redis-c", 1):
        sim.reset()
    (event,) = sim.events.of("replaced", mark)
    assert (event.source, "redis-c is ill" in event.message) == ("redis-c", True)
    assert through_link(sim, "redis-c").info("server")["run_id"] != before
    assert_as_new(sim)


def test_node_timeout_after_a_reset_that_failed(
    sim: Simulator, inside: Hosted, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next reset gives nodes their timeout again, although all is well by then."""
    clients = [
        inside.operations.admin.redis(node.name) for node in inside.operations.topology.redis
    ]
    before = [client.config_get("cluster-node-timeout") for client in clients]
    with monkeypatch.context() as patch:
        patch.setattr(cluster.health, "first_problem", lambda _: NotReady("ill", "redis-b"))
        with pytest.raises(NotReady):
            cluster.converge("redis-a", 1, Deadline(0))
    sim.reset()
    assert [client.config_get("cluster-node-timeout") for client in clients] == before


def test_shard_that_stays_ill_begins_anew(
    sim: Simulator, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If that does not help, all Redis nodes begin anew, and know each other as at the start."""
    mark = sim.events.mark()
    through_link(sim, "redis-a").set("k", "v")
    sim.control_plane.failover("b")
    until(lambda: sim.control_plane.failovers == 1)
    sim.faults.kill("redis-b")
    with ill(cluster, monkeypatch, "redis-c", 2):
        sim.reset()
    first, second = sim.events.of("replaced", mark)
    assert (first.source, second.source) == ("redis-c", sim.name)
    assert "start again with empty disks" in second.message
    assert_as_new(sim)
    sim.control_plane.failover("c")
    until(lambda: sim.control_plane.failovers == 1)
    wait_until_well(sim)


def test_takeover_without_slots_is_no_failover(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that became a primary without slots was not promoted."""
    reported = redis_health.cluster_nodes

    def without_slots(client: Redis) -> object:
        me, others = reported(client)
        return {**me, "slots": []}, others

    with monkeypatch.context() as patch:
        patch.setattr(redis_health, "cluster_nodes", without_slots)
        with pytest.raises(NotReady, match="has no slots"):
            cluster.health.wait_writable("redis-a", Deadline(0))


@pytest.mark.parametrize("zone", ["a", "b"])
def test_fenced_node_takes_writes_after_a_reset(sim: Simulator, inside: Hosted, zone: str) -> None:
    """A reset can come between a fence and the promotion or recovery that follows it."""
    client = inside.operations.admin.redis(f"redis-{zone}")
    mark = sim.events.mark()
    with sim.control_plane.suspended():
        client.config_set("min-replicas-to-write", FENCED)
        sim.reset()
        assert client.config_get("min-replicas-to-write") == {"min-replicas-to-write": "0"}
    assert not sim.events.of("replaced", mark)


def test_new_process_of_an_old_primary_is_fenced_too(sim: Simulator, inside: Hosted) -> None:
    """It does not know of its successor either, and its former process's fence is gone."""
    client = inside.operations.admin.redis("redis-a")

    def fence() -> str | None:
        with suppress(*errors()):
            return client.config_get("min-replicas-to-write")["min-replicas-to-write"]
        return None

    with sim.faults.partition("a", "b"), sim.faults.partition("a", "c"):
        until(lambda: sim.control_plane.failovers == 1)
        until(lambda: fence() == str(FENCED))
        sim.faults.kill("redis-a").heal()
        until(lambda: fence() == str(FENCED))
    wait_until_well(sim)


def test_primary_that_takes_no_writes_takes_them_after_a_reset(
    sim: Simulator, inside: Hosted
) -> None:
    """A reset can come while a replica is about to succeed it, whether or not all is well."""
    client = inside.operations.admin.redis("redis-a")
    mark = sim.events.mark()
    for is_well in (True, False):
        client.client_pause(60_000, all=False)
        if not is_well:
            sim.redis["b"].kill()
        sim.reset()
    assert not sim.events.of("replaced", mark)


def test_node_that_is_started_is_not_replaced(
    sim: Simulator, inside: Hosted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control plane waits to replace a node, but the heal of its fault starts it before."""
    mark, backend = sim.events.mark(), inside.operations.backend
    started: list[str] = []
    start = backend.start_node

    def noted(node: str) -> None:
        started.append(node)
        start(node)

    power = sim.faults.az_power("b")
    until(lambda: "memcached-b" in [event.source for event in sim.events.of("waiting", mark)])
    with monkeypatch.context() as patch:
        patch.setattr(backend, "start_node", noted)
        power.heal()
        until(lambda: "memcached-b" in [event.source for event in sim.events.of("recovered", mark)])
    assert started.count("memcached-b") == 1


def test_reset_is_alone(sim: Simulator, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other threads break while a reset is under way, they break afterwards."""
    during: list[str] = []
    flush = cluster.flush
    broken = threading.Event()

    def break_it() -> None:
        sim.faults.kill("redis-b")
        broken.set()

    thread = threading.Thread(target=break_it)

    def slow_flush(primary: str) -> NotReady | None:
        thread.start()
        during.extend(["broken"] if broken.wait(0.3) else [])
        return flush(primary)

    with monkeypatch.context() as patch:
        patch.setattr(cluster, "flush", slow_flush)
        sim.reset()
    thread.join()
    assert not during
    assert sim.nodes["redis-b"].state == "stopped"


def test_what_a_resumed_primary_takes_is_told(sim: Simulator) -> None:
    """A primary that slept through its failover acknowledges what waits in its sockets.

    It drops that when its peers tell it. The event log tells how much it was, to the byte.
    """
    size = len(b"*3\r\n$3\r\nSET\r\n$5\r\nk0000\r\n$1000\r\n\r\n") + 1000
    for _ in range(10):  # now and then it hears from its peers first, and takes nothing
        sim.reset()
        mark = sim.events.mark()
        with closing(through_link(sim, "redis-a", socket_timeout=30)) as client:
            connection = client.connection_pool.get_connection()
            pause = sim.redis.primary.pause()
            requests = [("SET", f"k{number:04}", "x" * 1000) for number in range(1000)]
            connection.send_packed_command(connection.pack_commands(requests))
            sim.redis.wait_for_failover()
            pause.heal()
            taken = 0
            for _ in requests:
                try:
                    taken += connection.read_response() in (b"OK", "OK")
                except (RedisError, OSError) as error:
                    if isinstance(error, OSError) or "Connection" in type(error).__name__:
                        break
            client.connection_pool.disconnect()
        until(lambda: sim.control_plane.state is State.AVAILABLE)
        told = [event for event in sim.events.of("lost", mark) if event.source == "redis-a"]
        lost = sum(event.data["lost_bytes"] for event in told)
        # Beside the writes there may be a PING of the primary's in the stream, or a SELECT.
        assert taken * size <= lost < (taken + 1) * size, _tail(sim)
        if taken:
            break


def test_data_of_a_replica_that_hears_nothing(sim: Simulator, cluster: Cluster) -> None:
    """It seems well for a while, but still has what the primary has deleted."""
    with sim.faults.blackhole("b-to-redis-a"):
        error = cluster.flush("redis-a")
    assert "redis-a: reached 1 of 2 replicas" in str(error)


def test_lost_power_is_no_way_out_for_a_shard(inside: Hosted) -> None:
    """A shard can't begin anew where there is no power."""
    with inside.sim.faults.az_power("b"), pytest.raises(FaultError, match="az-b has no power"):
        inside.operations.nodes.renew_redis()


def test_while_a_node_is_added(inside: Hosted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients are told of the others meanwhile, as when one of those is replaced."""
    it, told = inside.operations, list[str]()
    add = it.backend.add_node

    def add_meanwhile(node: Node) -> None:
        it.replacing.replace("memcached-b")
        told.append(it.provision.env()["CACHESIM_MEMCACHED_NODES"])
        assert it.naming._healthy(Service.MEMCACHED).keys() >= {"memcached-a"}
        with pytest.raises(WaitTimeout, match="memcached-a2 is being added"):
            inside.sim.control_plane.wait("healthy", 0)
        add(node)

    with monkeypatch.context() as patch:
        patch.setattr(it.backend, "add_node", add_meanwhile)
        inside.sim.control_plane.scale(memcached=4)
    (meanwhile,) = told
    assert meanwhile.count(",") == 2
    assert it.provision.env()["CACHESIM_MEMCACHED_NODES"].count(",") == 3
