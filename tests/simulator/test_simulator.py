"""The public class, as far as it needs no servers; tests/contract has the rest."""

from typing import Any, cast

import pytest

from cachesim import Simulator
from cachesim.errors import CachesimError
from cachesim.simulator.handles import RedisShardHandle


@pytest.mark.parametrize("shards", [("one",), ("one", "other")])
def test_redis_is_the_only_shard(shards: Any) -> None:
    """`redis` is the only shard; of several it is none, and the error says what to use."""
    sim = Simulator(name="many")
    sim.shards = cast("tuple[RedisShardHandle, ...]", shards)
    if len(shards) == 1:
        assert sim.redis is sim.shards[0]
        return
    with pytest.raises(CachesimError, match=r"'many' has 2 Redis shards: choose one of `shards`"):
        _ = sim.redis


def test_repr_before_the_start() -> None:
    """A topology that was not started says so, with its name and seed."""
    assert repr(Simulator(name="n", seed=7)) == "<Simulator n, stopped, seed 7>"


def test_stop_before_the_start() -> None:
    """Nothing is stopped that was not started."""
    Simulator(name="n").stop()
