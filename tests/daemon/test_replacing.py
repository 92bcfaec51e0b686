"""Nodes are replaced one after the other, over servers in memory."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cachesim.clock import Deadline
from cachesim.daemon.replacing import Replacing
from cachesim.errors import FaultError
from tests.faults.rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A topology in memory."""
    rig = Rig()
    yield rig
    rig.links.close()


def replacing(rig: Rig, meanwhile: Callable[[], object]) -> Replacing:
    """What replaces its nodes.

    Args:
        meanwhile: called when a replica is to succeed the primary.
    """
    plane = rig.control_plane

    def hand_over(shard: str) -> None:
        plane.hand_over(shard)
        # As in life, in another thread while the caller waits.
        threading.Timer(0.1, meanwhile).start()

    handing: Any = SimpleNamespace(
        shards=plane.shards, hand_over=hand_over, replaced=plane.replaced
    )
    cluster: Any = SimpleNamespace(health=SimpleNamespace(wait_healthy=lambda *_: None))
    admin: Any = rig.operations.admin
    return Replacing(
        rig.topology,
        rig.nodes,
        {"0001": cluster},
        admin,
        rig.events,
        lambda: handing,
        lambda _node: None,
    )


def started(rig: Rig) -> list[str]:
    """Return the nodes that were given new processes, in order."""
    return [call[1] for call in rig.did() if call[0] == "start_node"]


def test_primary_last(rig: Rig) -> None:
    """The replicas come first, then the primary, which a replica has succeeded, then Memcached."""
    replacing(rig, rig.play.tick).roll()
    caches = [node.name for node in rig.topology.memcached]
    assert started(rig) == ["redis-b", "redis-c", "redis-a", *caches]
    assert rig.control_plane.shard().primary == "redis-b"


def test_succession_that_is_given_up(rig: Rig) -> None:
    """A primary that no replica could succeed is not replaced, and that is told at once."""
    rig.play.shard.unsynced |= {"redis-b", "redis-c"}
    in_time = Deadline(5)
    with pytest.raises(FaultError, match="no replica has succeeded it"):
        replacing(rig, lambda: rig.play.run(11)).replace("redis-a")
    assert not in_time.expired
    assert started(rig) == []


def test_reset_during_a_succession(rig: Rig) -> None:
    """It is told, and not that no replica could succeed: the first primary is primary again."""
    with pytest.raises(FaultError, match="redis-a was not replaced: the topology was reset"):
        replacing(rig, rig.restorer.reset).replace("redis-a")
    assert started(rig) == []


def test_reset_ends_a_roll(rig: Rig) -> None:
    """What waits for a succession while the topology is reset replaces nothing in the new one."""
    rig.control_plane.restart("redis-b", "7")
    with pytest.raises(FaultError, match="redis-b was not replaced: the topology was reset"):
        replacing(rig, rig.restorer.reset).roll()
    assert started(rig) == ["redis-a", "redis-c"]
