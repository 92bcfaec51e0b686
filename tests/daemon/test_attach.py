"""Leasing a topology that another process owns: `Simulator.attach`."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from cachesim import CachesimError, Simulator
from cachesim.errors import FaultError, Leased, NotRunning, SettingsError
from cachesim.runs.calls import VERBS, Call
from cachesim.runs.registry import find_run
from cachesim.runs.rpc import call as ask
from tests.contract.helpers import until
from tests.processes import call, left_behind, ready

posix = pytest.mark.skipif(os.name != "posix", reason="sends signals to processes")


@pytest.fixture(scope="module")
def owner(backend: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A detached topology: its name, and the folder of its processes."""
    folder, name = tmp_path_factory.mktemp("owner"), f"owner-{os.urandom(3).hex()}"
    started = call(
        folder, "-m", "cachesim", "up", "-d", "--name", name, "--speed", "100", "--backend", backend
    )
    assert started.returncode == 0, started.stderr
    yield name, folder
    ended = call(folder, "-m", "cachesim", "down", "--name", name)
    assert ended.returncode == 0, ended.stderr
    assert left_behind(name, folder) == []


@pytest.fixture
def name(owner: tuple[str, Path], alone: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a topology that can be leased, as new."""
    assert alone
    name, folder = owner
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    until(lambda: status(name)["leased_by"] is None)
    ask(find_run(name), Call.RESET)
    return name


def status(name: str) -> Any:
    """The owner's answer to `status`."""
    return ask(find_run(name), Call.STATUS)


def states(name: str) -> set[str]:
    """The states of the nodes, as the owner sees them."""
    return {node["state"] for node in status(name)["nodes"]}


HOLDER = """
import sys
from cachesim import Simulator
sim = Simulator.attach(speed=100).start()
exec(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
sim.stop()
"""


def holder(folder: Path, script: str = "") -> "AbstractContextManager[subprocess.Popen[str]]":
    """Another process that holds the lease and has run a script, until its stdin ends."""
    return ready(folder, HOLDER, script)


# --- meanwhile ----------------------------------------------------------------------------------


def test_leased(name: str, backend: str) -> None:
    """The holder has all that an owner has, and `status` names it."""
    with Simulator.attach(speed=50, seed=3) as sim:
        assert (sim.name, sim.seed, sim.settings.speed, sim.backend) == (name, 3, 50, backend)
        assert status(name)["leased_by"] == f"process {os.getpid()}"
        with closing(sim.redis_cluster()) as client:
            client.set("k", "v")
            sim.redis.primary.kill()
            assert sim.redis.wait_for_failover()
            assert client.get("k") == "v"
        with closing(sim.memcached_client()) as memcached:
            memcached.set("k", b"v", noreply=False)
            assert memcached.get("k") == b"v"
        assert "Ready to accept connections" in sim.nodes["redis-b"].logs(1000)
        assert sim.events.of("failover")
        assert sim.env() == find_run(name).env(secrets=True)
        sim.reset()
        assert sim.redis.primary.name == "redis-a"
    assert status(name)["leased_by"] is None


def test_commands_meanwhile(name: str) -> None:
    """While it is leased others may look at it, but not break it."""
    run = find_run(name)
    with Simulator.attach() as sim:
        assert {node["name"] for node in status(name)["nodes"]} == set(sim.nodes)
        assert ask(run, Call.LOGS, node="redis-a", lines=2)
        assert ask(run, Call.EVENTS)[-1]["kind"] == "leased"
        breaking: dict[Call, dict[str, Any]] = {
            Call.APPLY: {"faults": [{"fault": "kill", "nodes": ["redis-a"]}]},
            Call.HEAL: {},
            Call.RESUME: {"node": "redis-a"},
            Call.RESTART: {"node": "redis-a"},
            Call.REPLACE: {"node": "redis-b", "new_address": False, "hangs": False},
            Call.ROLL: {"new_addresses": False, "hangs": False},
            Call.SCALE: {"memcached": 4},
            Call.RESET: {},
            Call.FAILOVER: {},
            Call.SET_TIMING: {"timing": sim.control_plane.timing.as_dict()},
            Call.SUSPEND: {},
            Call.OFFER: {},
            Call.DETACH: {},
        }
        assert breaking.keys() == VERBS
        for operation, arguments in breaking.items():
            with pytest.raises(Leased, match=rf"leased by process {os.getpid()} for \d+ s: wait"):
                ask(run, operation, **arguments)


def test_one_holder(name: str) -> None:
    """A second lease is refused, and the error names the holder."""
    with (
        Simulator.attach(),
        pytest.raises(CachesimError, match=rf"'{name}' has been leased by process {os.getpid()} f"),
    ):
        Simulator.attach(name).start()
    with Simulator.attach():
        pass


# --- which can be leased --------------------------------------------------------------------------


def test_faults(name: str) -> None:
    """A topology with faults is not leased, as the holder could not heal them."""
    ask(find_run(name), Call.APPLY, faults=[{"fault": "pause", "nodes": ["memcached-a"]}])
    with pytest.raises(FaultError, match=rf"has faults \(pause on.*heal --name {name}` first"):
        Simulator.attach().start()
    ask(find_run(name), Call.HEAL)
    with Simulator.attach():
        pass


def test_failover_under_way(name: str) -> None:
    """A topology in the middle of a failover is not leased."""
    ask(find_run(name), Call.FAILOVER, to="b")
    with pytest.raises(FaultError, match=rf"'{name}' is \w+: wait until `cachesim status` says av"):
        Simulator.attach().start()
    until(lambda: status(name)["control_plane"] == "available", 30)
    with Simulator.attach() as sim:
        assert sim.redis.primary.name == "redis-b"


@pytest.mark.parametrize(
    "settings",
    [{"engine": "valkey"}, {"memory_scale": 0.5}, {"redis_image": "redis:8.0"}],
    ids=lambda it: next(iter(it)),
)
def test_settings_of_what_runs(name: str, settings: dict[str, Any]) -> None:
    """Settings of the running servers can't be changed, and the topology can be leased again."""
    ((key, value),) = settings.items()
    with pytest.raises(SettingsError, match=rf"{key} = {value!r}: the topology '{name}' runs with"):
        Simulator.attach(**settings).start()
    assert status(name)["leased_by"] is None


def test_settings_that_agree(name: str) -> None:
    """The same settings, and those that say nothing, are no conflict."""
    with Simulator.attach(engine="redis", backend="auto", seed=None) as sim:
        assert sim.settings.speed == 100
        assert sim.settings.name == name


@pytest.mark.usefixtures("name")
def test_another_name() -> None:
    """A topology that is not up can't be leased."""
    with pytest.raises(CachesimError, match="no topology named 'nosuch'"):
        Simulator.attach("nosuch")


# --- returning ------------------------------------------------------------------------------------


def test_returned_with_its_data(name: str) -> None:
    """Data and primary stay when it is returned."""
    with Simulator.attach() as sim:
        with closing(sim.redis_cluster()) as client:
            client.set("k", "v")
        sim.control_plane.failover(to="c")
        sim.redis.wait_for_failover()
    roles = {node["name"]: node["role"] for node in status(name)["nodes"]}
    assert roles["redis-c"] == "primary"
    with Simulator.attach() as sim, closing(sim.redis_cluster()) as client:
        assert sim.redis.primary.name == "redis-c"
        assert client.get("k") == "v"


def test_returned_with_faults(name: str) -> None:
    """Faults that the holder has not healed are healed when it returns the topology."""
    with Simulator.attach() as sim:
        sim.nodes["redis-b"].pause()
        sim.memcached["c"].kill()
        sim.faults.latency("client-to-redis-a", ms=5)
        sim.faults.az_power("c")
    assert states(name) == {"running"}
    assert not any(link["toxics"] for link in ask(find_run(name), Call.LINKS))
    until(lambda: status(name)["control_plane"] == "available")


@pytest.mark.usefixtures("name")
def test_returned_in_a_failover() -> None:
    """A failover that is under way is finished, or called off, and writes go on."""
    with Simulator.attach(speed=1) as sim:
        sim.redis.primary.kill()
        until(lambda: sim.events.of("detecting"))
    with Simulator.attach() as sim, closing(sim.redis_cluster()) as client:
        client.set("k", "v")


def test_leased_beside_others(name: str) -> None:
    """A lease that was taken later is returned too: faults are healed, and the data stays."""
    pages = {f"page:{number}": b"v" for number in range(30)}
    with Simulator.attach(name, lease=False) as sim:
        with closing(sim.redis_cluster()) as client:
            client.set("k", "v")
        with closing(sim.memcached_client()) as cache:
            assert cache.set_many(pages, noreply=False) == []
        sim.lease()
        sim.memcached["c"].pause()
        sim.nodes["redis-b"].pause()
    assert status(name)["leased_by"] is None
    assert states(name) == {"running"}
    told = [it["message"] for it in ask(find_run(name), Call.EVENTS)]
    assert told[-1] == "by its holder"
    with Simulator.attach() as sim, closing(sim.redis_cluster()) as client:
        assert client.get("k") == "v"
        with closing(sim.memcached_client()) as cache:
            assert cache.get_many(pages) == pages


@posix
def test_holder_is_killed(name: str, owner: tuple[str, Path]) -> None:
    """After the death of the holder all is as new."""
    script = """
sim.control_plane.failover(to="b")
sim.redis.wait_for_failover()
sim.redis_cluster().set("k", "v")
sim.nodes["redis-c"].pause()
sim.memcached["a"].kill()
sim.faults.blackhole("client-to-redis-a")
"""
    with holder(owner[1], script) as process:
        assert status(name)["leased_by"] == f"process {process.pid}"
        process.kill()
        until(lambda: status(name)["leased_by"] is None, 60)
    assert states(name) == {"running"}
    roles = {node["name"]: node["role"] for node in status(name)["nodes"]}
    assert roles["redis-a"] == "primary"
    assert not any(link["toxics"] for link in ask(find_run(name), Call.LINKS))
    with Simulator.attach() as sim, closing(sim.redis_cluster()) as client:
        assert client.get("k") is None
    told = [it["message"] for it in ask(find_run(name), Call.EVENTS)]
    assert "as its holder has ended" in told


@posix
def test_one_after_another(name: str, owner: tuple[str, Path]) -> None:
    """After the end of one lease another process gets the next one."""
    with holder(owner[1]) as process:
        with pytest.raises(CachesimError, match=rf"leased by process {process.pid} for \d+ s alr"):
            Simulator.attach(name).start()
        with pytest.raises(
            CachesimError, match=rf"free: '{name}' is leased by process {process.pid}\."
        ):
            Simulator.attach()
        assert process.stdin
        process.stdin.close()
        assert process.wait(60) == 0
        with Simulator.attach() as sim:
            assert sim.name == name


# --- when the owner ends --------------------------------------------------------------------------


@pytest.fixture
def short(alone: Path) -> Iterator[tuple[str, Path]]:
    """A detached topology for one test."""
    name = f"short-{os.urandom(3).hex()}"
    started = call(alone, "-m", "cachesim", "up", "-d", "--name", name, "--speed", "100")
    assert started.returncode == 0, started.stderr
    yield name, alone
    if left_behind(name, alone):  # the test has failed
        os.kill(find_run(name).owner.pid, signal.SIGKILL)
        call(alone, "-m", "cachesim", "gc")


@posix
@pytest.mark.usefixtures("on_backend")
def test_down_while_it_is_leased(short: tuple[str, Path]) -> None:
    """`down` is refused, but by force; the holder can end, and gets an error if it goes on."""
    name, folder = short
    with Simulator.attach() as sim:
        refused = call(folder, "-m", "cachesim", "down", "--name", name)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert re.fullmatch(
            rf"Error: the topology '{name}' has been leased by process {os.getpid()} for \d+ s: "
            rf"wait until that ends, or end it\. `cachesim down --name {name} --force` takes .*\n",
            refused.stderr,
        )
        sim.nodes["redis-a"].kill().heal()
        for command in (["status"], ["events"], ["logs", "redis-a"]):
            assert call(folder, "-m", "cachesim", *command, "--name", name).returncode == 0
        done = call(folder, "-m", "cachesim", "down", "--name", name, "--force")
        assert (done.returncode, done.stderr) == (0, "")
        assert left_behind(name, folder) == []
        with pytest.raises(CachesimError, match=f"'{name}' was taken down"):
            sim.nodes["redis-a"].kill()


@posix
@pytest.mark.usefixtures("on_backend")
def test_owner_is_killed(short: tuple[str, Path]) -> None:
    """If the topology's process is killed, its holder is told; `gc` removes what is left."""
    name, folder = short
    sim = Simulator.attach().start()
    psutil.Process(find_run(name).owner.pid).kill()
    with pytest.raises(NotRunning, match=f"'{name}' .* has ended without"):
        sim.nodes["redis-a"].kill()
    with pytest.raises(NotRunning, match=f"'{name}' .* has ended without"):
        sim.stop()
    sim.stop()
    done = call(folder, "-m", "cachesim", "gc", "--json")
    assert name in json.loads(done.stdout)["removed"]
    assert left_behind(name, folder) == []
