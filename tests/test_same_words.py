"""Python and the shell speak the same language: the same words do the same, and fail alike.

One topology is used by its owner in Python and by commands, side by side.
"""

import json
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cachesim import Simulator
from cachesim.cli.app import main
from cachesim.errors import CachesimError
from cachesim.faults.catalogue import Blackhole, Latency, Refuse
from cachesim.toxiproxy.toxics import Slicer, Stream, Timeout
from tests.contract.helpers import until


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    """One topology for all."""
    with Simulator(backend="embedded", speed=100, seed=7) as sim:
        yield sim


@pytest.fixture
def sim(running: Simulator) -> Simulator:
    """The topology as new."""
    running.reset()
    return running


def shell(sim: Simulator, words: str) -> Result:
    """Run a command."""
    command, *rest = shlex.split(words)
    if command == "fault":
        command, rest = f"{command} {rest[0]}", rest[1:]
    return CliRunner().invoke(main, [*command.split(), "--name", sim.name, *rest])


def applied(sim: Simulator) -> list[dict[str, Any]]:
    """The faults that are active, as values."""
    return [fault.spec.as_dict() for fault in sim.faults.active]


Act = Callable[[Simulator], object]

FAULTS: dict[str, list[Act]] = {
    "fault latency 'client-to-*' --ms 200": [
        lambda sim: sim.faults.latency("client-to-*", 200),
        lambda sim: sim.faults.latency(["client-to-*"], 200),
        lambda sim: sim.faults.apply({"fault": "latency", "links": "client-to-*", "ms": 200}),
        lambda sim: sim.faults.latency(
            (it for it in sim.links.values() if "client" in it.name), 200
        ),
    ],
    "fault blackhole client-to-redis-a": [
        lambda sim: sim.faults.blackhole("client-to-redis-a"),
        lambda sim: sim.faults.blackhole(sim.links["client-to-redis-a"]),
        lambda sim: sim.faults.blackhole([sim.links["client", "redis-a"]]),
        lambda sim: sim.links["client-to-redis-a"].blackhole(),
        lambda sim: sim.faults.apply(Blackhole(("client-to-redis-a",))),
    ],
    "fault kill redis-b": [
        lambda sim: sim.faults.kill("redis-b"),
        lambda sim: sim.faults.kill(sim.redis["b"]),
        lambda sim: sim.faults.kill(sim.nodes["redis-b"]),
        lambda sim: sim.redis["az-b"].kill(),
    ],
    "fault pause 'memcached-*'": [
        lambda sim: sim.faults.pause("memcached-*"),
        lambda sim: sim.faults.pause(*sim.memcached.values()),
    ],
    "fault isolate c": [
        lambda sim: sim.faults.isolate("az-c"),
        lambda sim: sim.faults.isolate(sim.zones["c"]),
        lambda sim: sim.zones["az-c"].isolate(),
    ],
    "fault partition a az-b --one-way": [
        lambda sim: sim.faults.partition(sim.zones["a"], "b", one_way=True),
    ],
    "fault replication-lag 1500ms --replica redis-b": [
        lambda sim: sim.faults.replication_lag(1.5, "redis-b"),
        lambda sim: sim.faults.replication_lag(1.5, sim.redis["b"]),
        lambda sim: sim.faults.replication_lag(1.5, [sim.redis["b"]]),
    ],
    "fault toxic client-to-redis-a --toxic slicer,average_size=64,delay=10 --toxicity 0.5": [
        lambda sim: sim.faults.toxic("client-to-redis-a", Slicer(64, delay=10), toxicity=0.5),
    ],
    "fault toxic client-to-redis-a --toxic timeout,timeout=0 --stream upstream --label cut": [
        lambda sim: sim.faults.toxic(
            sim.links["client-to-redis-a"], Timeout(0), [Stream.UPSTREAM], label="cut"
        ),
    ],
}


@pytest.mark.parametrize(
    ("words", "act"),
    [(words, act) for words, acts in FAULTS.items() for act in acts],
    ids=[f"{words}-{n}" for words, acts in FAULTS.items() for n, _ in enumerate(acts)],
)
def test_faults(sim: Simulator, words: str, act: Act) -> None:
    """A command and a method apply the same fault."""
    assert shell(sim, words).exit_code == 0
    by_shell = applied(sim)
    sim.heal()
    act(sim)
    assert applied(sim) == by_shell != []


def test_time(sim: Simulator) -> None:
    """A fault for a time tells what is left of it, and ends without its client."""
    slow = "client-to-redis-a"
    assert "healed in 90 s" in shell(sim, "fault refuse b-to-memcached-a --for 1m30s").output
    sim.faults.apply(Refuse(("c-to-memcached-a",)), heal_after=90)
    assert shell(sim, f"fault latency {slow} --ms 5 --for 100ms").exit_code == 0
    sim.faults.apply(Latency((slow,), 5), heal_after=0.1)
    until(lambda: len(sim.faults.active) == 2)
    by_shell, by_python = sim.faults.active
    assert by_shell.remaining is not None
    assert by_python.remaining is not None
    assert 30 < by_shell.remaining <= by_python.remaining < 90
    told = json.loads(shell(sim, "fault list --json").output)
    assert [30 < it["seconds"] < 90 for it in told] == [True, True]


FAILOVERS: dict[str, Act] = {
    "failover --to b": lambda sim: sim.control_plane.failover("b", wait=True),
    "failover --to az-b": lambda sim: sim.control_plane.failover(sim.zones["b"], wait=True),
}


@pytest.mark.parametrize("words", FAILOVERS)
def test_failover(sim: Simulator, words: str) -> None:
    """Both return when the replica of the zone is the primary, and have waited for it."""
    assert shell(sim, words).output == "redis-b is the primary.\n"
    assert sim.redis.primary.name == "redis-b"
    sim.reset()
    assert FAILOVERS[words](sim) == "redis-b"
    assert sim.redis.primary.name == "redis-b"


def test_failover_in_progress(sim: Simulator) -> None:
    """Both wait for a failover that is in progress, instead of an error."""
    sim.control_plane.failover("c")
    assert shell(sim, "failover").output == "redis-c is the primary.\n"
    assert sim.control_plane.failovers == 1
    sim.reset()
    sim.control_plane.failover("c")
    assert sim.control_plane.failover(wait=True) == "redis-c"
    assert sim.control_plane.failovers == 1


@pytest.mark.parametrize("what", ["failover", "available", "healthy"])
@pytest.mark.parametrize("by", ["shell", "python"])
def test_wait(sim: Simulator, what: str, by: str) -> None:
    """Both wait after the loss of a primary."""
    sim.faults.kill("redis-a")
    if what != "failover":
        sim.redis.wait_for_failover()
    if by == "shell":
        assert shell(sim, f"wait {what} --timeout 30s").exit_code == 0
    else:
        assert sim.control_plane.wait(what, timeout=30) == sim.redis.primary.name
    assert sim.redis.primary.name != "redis-a"
    if what != "failover":
        assert sim.control_plane.state == "available"
        assert {str(node.state) for node in sim.nodes.values()} == {"running"}


def test_wait_for_a_node(sim: Simulator) -> None:
    """Both wait until a Memcached node was replaced."""
    node = sim.memcached["b"]
    node.kill()
    node.wait_until_healthy()
    assert node.state == "running"
    node.kill()
    done = shell(sim, "wait healthy --node memcached-b")
    assert done.output.startswith("memcached-b is healthy. ")
    assert node.state == "running"


MISTAKES: dict[str, Act] = {
    "fault latency client-to-redis-a --ms 1.5": lambda sim: sim.faults.latency(
        "client-to-redis-a",
        1.5,  # type: ignore[arg-type]
    ),
    "fault latency client-to-redis-a --ms nan": lambda sim: sim.faults.latency(
        "client-to-redis-a",
        float("nan"),  # type: ignore[arg-type]
    ),
    "fault latency client-to-redis-a --ms five": lambda sim: sim.faults.latency(
        "client-to-redis-a",
        "five",  # type: ignore[arg-type]
    ),
    "fault loss client-to-redis-a --share nan": lambda sim: sim.faults.loss(
        "client-to-redis-a", float("nan")
    ),
    "fault latency client-to-redis-d --ms 5": lambda sim: sim.faults.latency(
        "client-to-redis-d", 5
    ),
    "fault latency 'clients-*' --ms 5": lambda sim: sim.faults.latency("clients-*", 5),
    "fault kill redis-d": lambda sim: sim.faults.kill("redis-d"),
    "fault isolate d": lambda sim: sim.faults.isolate("d"),
    "fault toxic client-to-redis-a --toxic slicer,average_size=64 --toxicity 2": (
        lambda sim: sim.faults.toxic("client-to-redis-a", Slicer(64), toxicity=2)
    ),
    "logs redis-a -n 0": lambda sim: sim.nodes["redis-a"].logs(0),
    "logs redis-a -n 1.5": lambda sim: sim.nodes["redis-a"].logs(1.5),  # type: ignore[arg-type]
    "logs redis-a -n five": lambda sim: sim.nodes["redis-a"].logs("five"),  # type: ignore[arg-type]
    "wait healthy --node redis-d": lambda sim: sim.nodes["redis-d"].wait_until_healthy(),
    "failover --to d": lambda sim: sim.control_plane.failover("d"),
    "failover --to a": lambda sim: sim.control_plane.failover("a", wait=True),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes(sim: Simulator, words: str) -> None:
    """A wrong value is one error, with the same text in both."""
    with pytest.raises((CachesimError, ValueError)) as error:
        MISTAKES[words](sim)
    result = shell(sim, words)
    assert (result.exit_code in (1, 2), result.stdout) == (True, "")
    assert result.stderr.splitlines()[-1] == f"Error: {error.value}"
    assert applied(sim) == []
