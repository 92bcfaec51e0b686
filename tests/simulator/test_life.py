"""Before the start of a topology and after its stop: what is refused, and what is left."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cachesim import Fault, Simulator
from cachesim.errors import NotRunning
from tests.processes import call

PARTS: dict[str, Callable[[Simulator], object]] = {
    "redis": lambda sim: sim.redis,
    "shards": lambda sim: sim.shards,
    "nodes": lambda sim: sim.nodes,
    "memcached": lambda sim: sim.memcached,
    "zones": lambda sim: sim.zones,
    "links": lambda sim: sim.links,
    "faults": lambda sim: sim.faults,
    "control_plane": lambda sim: sim.control_plane,
    "backend": lambda sim: sim.backend,
    "files": lambda sim: sim.files,
    "env": lambda sim: sim.env(),
    "redis_cluster": lambda sim: sim.redis_cluster(),
    "memcached_client": lambda sim: sim.memcached_client(),
    "toxiproxy": lambda sim: sim.toxiproxy("a"),
    "heal": lambda sim: sim.heal(),
    "reset": lambda sim: sim.reset(),
}
"""What needs a running topology."""


def verbs(sim: Simulator) -> dict[str, Callable[[], object]]:
    """What the parts of a running topology can do, to be called later."""
    shard, faults, plane = sim.redis, sim.faults, sim.control_plane
    primary, memcached = shard.primary, sim.memcached["a"]
    zone, link = sim.zones["a"], sim.links["client", "redis-a"]
    return {
        "kill": primary.kill,
        "stop": primary.stop,
        "pause": memcached.pause,
        "resume": memcached.resume,
        "restart": memcached.restart,
        "logs": memcached.logs,
        "state": lambda: memcached.state,
        "role": lambda: primary.role,
        "primary": lambda: shard.primary,
        "shard's state": lambda: shard.state,
        "wait_for_failover": lambda: shard.wait_for_failover(60),
        "lose_power": zone.lose_power,
        "isolate": zone.isolate,
        "latency_toxic": lambda: link.latency_toxic(5),
        "refuse": link.refuse,
        "toxics": lambda: link.toxics,
        "enabled": lambda: link.enabled,
        "listen": lambda: link.listen,
        "fault": lambda: faults.kill("redis-a"),
        "no faults": lambda: faults.apply([]),
        "active": lambda: faults.active,
        "heal_all": faults.heal_all,
        "failover": lambda: plane.failover("b"),
        "suspended": plane.suspended,
        "failovers": lambda: plane.failovers,
    }


def refused(verb: Callable[[], object]) -> str:
    """The error of something that is refused."""
    with pytest.raises(NotRunning) as refusal:
        verb()
    return str(refusal.value)


@pytest.mark.parametrize("part", PARTS)
def test_before_the_start(part: str) -> None:
    """What needs a running topology says that this one is none, and what to do."""
    error = refused(lambda: PARTS[part](Simulator(name="n")))
    assert error.startswith("the topology 'n' is not running")
    assert "Call `start()`" in error


Stopped = tuple[Simulator, dict[str, Callable[[], object]], list[Fault]]


@pytest.fixture(scope="module")
def stopped(backend: str) -> Stopped:
    """A topology that was stopped, what its parts can do, and faults that it had."""
    with Simulator(name="n", backend=backend, speed=100) as sim:
        faults = [sim.faults.kill("redis-b"), sim.faults.latency("client-to-redis-a", ms=5)]
        before = verbs(sim)
    return sim, before, faults


def test_after_the_stop(stopped: Stopped) -> None:
    """Its parts, and what was taken from it before, say that it is not running."""
    sim, before, _ = stopped
    for part in PARTS.values():
        assert "'n' is not running" in refused(lambda part=part: part(sim))  # type: ignore[misc]
    for verb in before.values():
        assert "'n' is not running" in refused(verb)


def test_faults_end_with_the_topology(stopped: Stopped) -> None:
    """Healing a fault later is harmless."""
    for fault in stopped[2]:
        fault.heal()
        with fault:
            pass


def test_stop_within_a_fault(backend: str) -> None:
    """A test that fails after the stop fails for its own reason; the next start works."""
    with Simulator(backend=backend, speed=100) as sim:
        node = sim.nodes["redis-b"]
        with pytest.raises(ZeroDivisionError), sim.faults.kill("redis-b"):  # noqa: PT012
            sim.stop()
            _ = 1 / 0
        sim.start()
        assert sim.nodes["redis-b"].state == "running"
        assert "is not running" in refused(node.kill)


def test_stop_ends_waiting(backend: str) -> None:
    """Threads that wait for what can't happen any more get the error at once."""
    with Simulator(backend=backend, speed=100) as sim, ThreadPoolExecutor() as pool:
        waiting: list[Future[Any]] = [
            pool.submit(sim.redis.wait_for_failover, 60),
            pool.submit(sim.events.wait, lambda: False, 60),
            pool.submit(sim.events.next, sim.events.mark() + 100, 60),
        ]
        sim.stop()
        for wait in waiting:
            assert isinstance(error := wait.exception(5), NotRunning)
            assert "Call `start()`" in str(error)
        sim.start()
        sim.redis.primary.kill()
        assert sim.redis.wait_for_failover().name != "redis-a"


FORK = """
import os
import signal
import sys
import threading
from contextlib import closing
from cachesim import Simulator
from cachesim.errors import NotRunning
from tests.simulator.test_life import verbs

def hold():
    with sim.control_plane.suspended(), sim.faults.suspended():
        held.set()
        forked.wait()

with Simulator(speed=100, backend=sys.argv[1]) as sim:
    fault = sim.faults.latency("client-to-redis-a", ms=1)
    tried = {**verbs(sim), "fault.heal": fault.heal, "heal": sim.heal, "reset": sim.reset}
    held, forked = threading.Event(), threading.Event()
    threading.Thread(target=hold).start()
    held.wait()  # in the child nobody will ever release that
    child = os.fork()
    if not child:
        code = 1
        signal.alarm(60)
        try:
            for name, verb in tried.items():
                try:
                    verb()
                except NotRunning as error:
                    assert f"belongs to process {os.getppid()}, which this one was" in str(error)
                else:
                    print("not refused:", name, flush=True)
            try:
                with fault:
                    1 / 0
            except ZeroDivisionError:
                pass
            sim.stop()
            with closing(sim.redis_cluster()) as client:
                client.set("k", "v")
            assert sim.env()
            assert sim.nodes["redis-a"].endpoint
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    forked.set()
    assert sim.faults.active == [fault]
    assert {str(node.state) for node in sim.nodes.values()} == {"running"}
    with closing(sim.redis_cluster()) as client:
        assert client.get("k") == "v"
    sim.control_plane.failover("b")
    sim.redis.wait_for_failover()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_forked_child(backend: str, tmp_path: Path) -> None:
    """A forked child can use its parent's topology, but neither break nor heal it."""
    (tmp_path / "tests").symlink_to(Path(__file__).parents[1])
    done = call(tmp_path, "-W", "ignore::DeprecationWarning", "-c", FORK, backend)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


SOCKETS = """
import sys
from pathlib import Path
from cachesim import Simulator

def sockets():
    files = []
    for file in Path("/proc/self/fd").iterdir():
        try:
            files.append(str(file.readlink()))
        except OSError:
            pass
    return [it for it in files if it.startswith("socket:")]

with Simulator(speed=100, backend=sys.argv[1]) as sim:
    sim.nodes["redis-b"].kill().heal()
    with sim.faults.partition("a", "b"):
        pass
    sim.reset()
    assert sockets()
print(len(sockets()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_socket_stays_open(backend: str, tmp_path: Path) -> None:
    """After the stop the process has none of the topology's connections any more."""
    done = call(tmp_path, "-c", SOCKETS, backend)
    assert (done.stdout, done.stderr) == ("0\n", "")
