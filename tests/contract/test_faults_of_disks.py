"""Full disks, by their effect on a real client."""

from contextlib import closing, suppress

import pytest
import redis.exceptions

from cachesim import Simulator
from cachesim.errors import FaultError
from tests.contract.helpers import is_in_sync, through_link, until

MISCONF = "MISCONF Errors writing to the AOF file: No space left on device"


def stored(sim: Simulator) -> object:
    """What redis-a has of a key, once it serves again."""
    with closing(through_link(sim, "redis-a")) as client, suppress(redis.exceptions.RedisError):
        return client.get("k")
    return None


def test_a_primary_with_a_full_disk(sim: Simulator) -> None:
    """It refuses writes and PING, and reads; the last of two to heal ends it, with no key left."""
    with closing(through_link(sim, "redis-a", single_connection_client=True)) as client:
        client.set("k", "before")
        with sim.faults.aof_error("redis-a"):
            with sim.faults.aof_error("redis-a"):
                pass
            with pytest.raises(redis.exceptions.ResponseError, match=MISCONF):
                client.set("k", "v")
            with pytest.raises(redis.exceptions.ResponseError, match=MISCONF):
                client.ping()
            assert client.get("k") == "before"
            assert client.info("persistence")["aof_last_write_status"] == "err"
            assert sim.redis.primary.name == "redis-a"
        assert client.set("k", "after")
        assert client.ping()
        assert client.info("persistence")["aof_last_write_status"] == "ok"
        assert client.dbsize() == 1
    sim.redis["a"].restart()
    assert until(lambda: stored(sim)) == "after"


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
