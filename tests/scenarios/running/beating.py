"""Beats to a topology, and waiting for what they tell."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from cachesim import Simulator
from cachesim.runs import env as names
from cachesim.scenarios.running.beats import Beats
from cachesim.servers.certificates import client_context
from tests.contract import helpers


@contextmanager
def beating(sim: Simulator, record: Callable[..., None]) -> Iterator[Beats]:
    """Beats to all nodes of a topology, which each has answered one."""
    sim.reset()
    env = sim.env()
    it = Beats(
        {node.name: node.endpoint for node in sim.nodes.values()},
        frozenset(node.name for node in sim.topology.redis),
        token=partial(Path(env[names.REDIS_PASSWORD_FILE]).read_text, encoding="utf-8"),
        tls=client_context(Path(env[names.CA_FILE]).read_bytes()),
        primary="redis-a",
        record=record,
    )
    it.start()
    with closing(it):
        until(lambda: all(answered(it, node) for node in sim.nodes))
        yield it


def until(holds: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until something holds, on a machine that is busy with others."""
    helpers.until(holds, seconds)


def answered(beats: Beats, node: str, since: float = 0.0) -> bool:
    """Return whether a node has answered since a time."""
    return any(it.ok for it in beats.recent(node, since))
