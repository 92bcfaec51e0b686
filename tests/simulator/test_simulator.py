"""The public class, as far as it needs no servers; tests/contract has the rest."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest

from cachesim import Simulator
from cachesim.errors import CachesimError, SettingsError
from cachesim.settings import Settings
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Simulator(Settings(), speed=30), "speed: `settings` has all settings at once"),
        (lambda: Simulator(cast("Settings", "demo")), "settings = 'demo': .* name=\"demo\""),
        (lambda: Simulator.attach(lease=False, speed=30), "speed: .* leave out lease=False"),
    ],
)
def test_no_setting_is_left_out(make: Callable[[], Simulator], message: str) -> None:
    """What would have no effect is an error."""
    with pytest.raises(SettingsError, match=message):
        make()
    assert Simulator(Settings(name="n"), speed=None).name == "n"


STARTED = """
import json, sys, threading
from cachesim import Simulator
with Simulator(backend="embedded"):
    print(json.dumps([list(sys.modules), threading.active_count()]))
"""
"""Prints what is imported in a user's process, and how many threads it has."""


def test_users_process_stays_light() -> None:
    """A started topology imports nothing heavy into the user's process, and starts no thread."""
    command = [sys.executable, "-c", STARTED]
    result = subprocess.run(command, check=True, capture_output=True, timeout=90)
    modules, threads = json.loads(result.stdout)
    heavy = {"asyncio", "fakeredis", "multiprocessing", "platformdirs", "psutil", "pydantic"}
    heavy |= {"cryptography", "hashlib", "pymemcache", "redis", "ssl", "cachesim.embedded"}
    assert not heavy & set(modules)
    assert threads == 1
