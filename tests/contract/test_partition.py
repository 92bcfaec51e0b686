"""Zones that don't see each other, and what is left as it was when they do again."""

import time

import pytest
from redis.cluster import RedisCluster

from cachesim import Simulator
from cachesim.clock import Deadline
from tests.contract.helpers import Stalls, info, is_in_sync, through_link, until
from tests.hosted import Hosted


def offset(sim: Simulator, node: str) -> int:
    """The replication offset of a node."""
    return int(info(sim, node)["master_repl_offset"])


@pytest.mark.core
def test_partition_between_two_zones(sim: Simulator, redis: RedisCluster) -> None:
    """The replica behind the cut lags, the other does not; on heal the same sockets go on."""
    redis.set("k", 0)
    until(lambda: all(is_in_sync(sim, node.name) for node in sim.redis.replicas))
    client = through_link(sim, "redis-a", single_connection_client=True)
    identity, before = client.client_id(), info(sim, "redis-a")
    behind = offset(sim, "redis-b")
    with sim.faults.partition("a", "b"):
        for number in range(200):
            redis.set("k", number)
        until(lambda: is_in_sync(sim, "redis-c"))
        assert offset(sim, "redis-b") == behind
        assert through_link(sim, "redis-b").info()["master_link_status"] == "up"
    until(lambda: is_in_sync(sim, "redis-b"))
    after = info(sim, "redis-a")
    assert client.client_id() == identity
    assert after["sync_full"] == before["sync_full"]
    assert after["sync_partial_ok"] == before["sync_partial_ok"]
    assert sim.redis.primary.name == "redis-a"


def test_messages_cross_a_healed_partition(inside: Hosted) -> None:
    """What was published meanwhile arrives late, also after the nodes have opened new links."""
    sim, timeout = inside.sim, 4.0
    (cluster,) = inside.operations.clusters.values()
    listener = through_link(sim, "redis-b").pubsub(ignore_subscribe_messages=True)
    listener.subscribe("news")
    listener.get_message(timeout=1)
    client = through_link(sim, "redis-a")
    with sim.control_plane.suspended():
        cluster.set_node_timeout(int(timeout * 1000))
        time.sleep(timeout)  # younger links are not given up
        with sim.faults.partition("a", "b"):
            client.publish("news", "first")
            time.sleep(1.2 * timeout)  # the link of `first` was given up after at most a timeout
            client.publish("news", "second")
            assert listener.get_message() is None
        got = [until(lambda: listener.get_message(timeout=0.1)) for _ in range(2)]
        cluster.set_node_timeout(int(sim.settings.node_timeout_seconds * 1000))
    assert [message["data"] for message in got] == ["first", "second"]
    listener.close()


def test_one_way_partition(sim: Simulator, redis: RedisCluster) -> None:
    """What goes from a to b vanishes, what goes from b to a does not."""
    until(lambda: all(is_in_sync(sim, node.name) for node in sim.redis.replicas))
    behind = offset(sim, "redis-b")

    def heard_of_b() -> int:
        replicas = [v for k, v in info(sim, "redis-a").items() if k.startswith("slave")]
        port = sim.nodes["redis-b"].endpoint.port
        return next(int(r["lag"]) for r in replicas if isinstance(r, dict) and r["port"] == port)

    with sim.faults.partition("a", "b", one_way=True):
        end = time.monotonic() + 3
        while time.monotonic() < end:
            redis.set("k", 1)
        assert offset(sim, "redis-b") == behind
        # Its acknowledgements, one a second, still arrive.
        assert heard_of_b() <= 1
    until(lambda: is_in_sync(sim, "redis-b"))
    with sim.faults.partition("b", "a", one_way=True):
        redis.set("k", 2)
        until(lambda: through_link(sim, "redis-b").readonly() and offset(sim, "redis-b") > behind)
        until(lambda: heard_of_b() >= 3)
    until(lambda: heard_of_b() <= 1)


def test_partitions_compose(sim: Simulator, redis: RedisCluster) -> None:
    """Two faults on the same links: healing one leaves the other, healing twice is harmless."""
    until(lambda: all(is_in_sync(sim, node.name) for node in sim.redis.replicas))
    first, second = sim.faults.partition("a", "b"), sim.faults.partition("b", "a")
    behind = offset(sim, "redis-b")
    redis.set("k", 1)
    until(lambda: is_in_sync(sim, "redis-c"))
    first.heal()
    first.heal()
    redis.set("k", 2)
    until(lambda: is_in_sync(sim, "redis-c"))
    assert offset(sim, "redis-b") == behind
    second.heal()
    until(lambda: is_in_sync(sim, "redis-b"))


@pytest.mark.core
@pytest.mark.parametrize("lag", [0.0, 1.0])
def test_lost_writes(sim: Simulator, lag: float) -> None:
    """A killed primary takes rate x lag acknowledged writes with it; without a lag about none."""
    rate, writing = 400.0, 2.5  # writes a second, seconds; longer where the machine is busy
    enough, deadline = 0.5 * rate * writing, Deadline(60)
    client = through_link(sim, "redis-a", single_connection_client=True)
    accepted: list[float] = []

    def write() -> None:
        began = time.monotonic()
        while (now := time.monotonic()) < began + writing or len(accepted) < enough:
            assert not deadline.expired
            if len(accepted) < (now - began) * rate:
                client.set(f"w:{len(accepted)}", 1)
                accepted.append(time.monotonic())

    if lag:
        sim.faults.replication_lag(lag)
    with Stalls() as stalls:
        write()
        killed = time.monotonic()
        sim.redis.primary.kill()
    new = sim.redis.wait_for_failover()
    survivors = through_link(sim, new.name)
    kept = [bool(survivors.exists(f"w:{number}")) for number in range(len(accepted))]
    lost = kept.count(False)
    late = max(0.1 * lag, 0.02) + stalls.total  # a busy machine passes on late, and kills late
    assert lost <= sum(at > killed - lag - late for at in accepted)
    if not lag:
        return
    assert lost >= sum(at > killed - lag + late for at in accepted)
    assert killed - accepted[kept.index(False)] == pytest.approx(lag, abs=late)
    (told,) = sim.events.of("lost")[-1:]
    assert told.data["lost_bytes"] > 20 * lost
