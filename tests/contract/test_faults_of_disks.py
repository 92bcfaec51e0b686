"""Full disks, by their effect on a real client."""

from contextlib import closing, suppress

import pytest
import redis.exceptions

from cachesim import Simulator
from cachesim.errors import FaultError
from tests.contract.helpers import is_in_sync, through_link, until

MISCONF = "MISCONF Errors writing to the AOF file: "


def stored(sim: Simulator, node: str) -> object:
    """What a node has of a key, once it serves again."""
    with closing(through_link(sim, node)) as client, suppress(redis.exceptions.RedisError):
        return client.get("k")
    return None


@pytest.mark.parametrize("zone", ["a", "b"])
def test_a_primary_with_a_full_disk(sim: Simulator, zone: str) -> None:
    """It refuses writes and PING, and reads; the last of two to heal ends it, with no key left.

    It can load its file when it starts again; also redis-b, which has written it anew when it
    became a replica.
    """
    node = f"redis-{zone}"
    # Behind what there is room for, Redis 7.0 tries to write when it has written the file anew: as
    # a replica it has, and so has a first primary that a reset brought back.
    why = "No space left on device" + ("" if sim.backend == "embedded" else "|File too large")
    if zone == "b":
        sim.control_plane.failover("b", wait=True)
    with closing(through_link(sim, node, single_connection_client=True)) as client:
        client.set("k", "before")
        with sim.faults.aof_error(node):
            with sim.faults.aof_error(node):
                pass
            with pytest.raises(redis.exceptions.ResponseError, match=f"{MISCONF}({why})"):
                client.set("k", "v")
            with pytest.raises(redis.exceptions.ResponseError, match=f"{MISCONF}({why})"):
                client.ping()
            assert client.get("k") == "before"
            assert client.info("persistence")["aof_last_write_status"] == "err"
            assert sim.redis.primary.name == node
        assert client.set("k", "after")
        assert client.ping()
        assert client.info("persistence")["aof_last_write_status"] == "ok"
        assert client.dbsize() == 1
    with sim.control_plane.suspended():
        sim.redis[zone].restart()
        assert until(lambda: stored(sim, node)) == "after"


def test_a_replica_with_a_full_disk(sim: Simulator) -> None:
    """It ends itself when its primary writes, and is replaced by one whose disk is not full."""
    mark = sim.events.mark()
    with (
        closing(through_link(sim, "redis-a", single_connection_client=True)) as client,
        sim.faults.aof_error("redis-b"),
    ):

        def write() -> bool:
            client.set("k", "x" * 10_000)
            return bool(sim.events.of("recovered", mark))

        assert until(write, 30)
        assert "Replica was unable to write command to disk" in sim.redis["b"].logs(500)
    until(lambda: is_in_sync(sim, "redis-b"), 30)


def test_a_full_disk_ends_with_the_process(sim: Simulator) -> None:
    """A new one writes again, whatever is healed later; a node that is down can't have it."""
    fault = sim.faults.aof_error("redis-a")
    sim.redis["a"].restart()

    def writes() -> bool:
        with (
            closing(through_link(sim, "redis-a")) as client,
            suppress(redis.exceptions.RedisError),
        ):
            return bool(client.set("k", 1))
        return False

    assert until(writes, 30)
    fault.heal()
    assert until(writes, 30)
    with sim.redis["c"].kill(), pytest.raises(FaultError, match="does not run"):
        sim.faults.aof_error("redis-c")
