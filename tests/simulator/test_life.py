"""Before the start of a topology and after its stop: what is refused, and what is left."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from cachesim import Fault, Simulator
from cachesim.errors import NotRunning
from cachesim.runs import rpc
from cachesim.runs.calls import Call
from cachesim.runs.registry import find_run
from tests.contract.helpers import until
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
    "env": lambda sim: sim.env(),
    "redis_cluster": lambda sim: sim.redis_cluster(),
    "memcached_client": lambda sim: sim.memcached_client(),
    "toxiproxy": lambda sim: sim.toxiproxy("a"),
    "heal": lambda sim: sim.heal(),
    "reset": lambda sim: sim.reset(),
    "lease": lambda sim: sim.lease(),
    "detach": lambda sim: sim.detach(),
    "events.wait": lambda sim: sim.events.wait(lambda: False, 60),
    "events.next": lambda sim: sim.events.next(len(sim.events), 60),
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
        "suspended": lambda: plane.suspended().__enter__(),
        "failovers": lambda: plane.failovers,
        "timing": lambda: plane.timing,
        "wait": lambda: sim.events.wait(lambda: False, 60),
    }


def refused(verb: Callable[[], object]) -> str:
    """The error of something that is refused."""
    with pytest.raises(NotRunning) as refusal:
        verb()
    return str(refusal.value)


@pytest.fixture(scope="module")
def fresh() -> Simulator:
    """A topology that was not started."""
    return Simulator(name="n")


@pytest.mark.parametrize("part", PARTS)
def test_before_the_start(fresh: Simulator, part: str) -> None:
    """What needs a running topology says that this one is none, and what to do."""
    error = refused(lambda: PARTS[part](fresh))
    assert error.startswith("the topology 'n' is not running")
    assert "Call `start()`" in error
    assert list(fresh.events) == []


def test_while_it_starts(backend: str) -> None:
    """In other threads, too, it does not run yet; they are not held up by the start."""
    sim = Simulator(name="n", backend=backend, speed=100)
    parts = [part for name, part in PARTS.items() if name not in ("lease", "detach")]
    errors: list[str] = []

    def step(_line: str) -> None:
        with ThreadPoolExecutor() as pool:
            errors.extend(pool.map(lambda part: refused(lambda: part(sim)), parts))

    try:
        sim.start(step)
        assert len(errors) >= len(parts)
        assert all("is not running" in error for error in errors)
    finally:
        sim.stop()


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


@pytest.fixture
def running(alone: Path) -> Iterator[Simulator]:
    """A topology; what the process of one leaves that is killed is in a folder of its own."""
    assert alone
    with contextlib.suppress(NotRunning), Simulator(backend="embedded", speed=100) as sim:
        yield sim


def daemon(sim: Simulator) -> psutil.Process:
    """The topology's process."""
    return psutil.Process(find_run(sim.name).owner.pid)


def kill_daemon(sim: Simulator) -> None:
    """SIGKILL the topology's process."""
    process = daemon(sim)
    process.kill()
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def taken_down(sim: Simulator) -> None:
    """Take the topology down from another process."""
    done = call(Path.cwd(), "-m", "cachesim", "down", "--name", sim.name)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("end", [kill_daemon, taken_down])
def test_end_of_the_process(running: Simulator, end: Callable[[Simulator], None]) -> None:
    """When the topology's process ends, those that wait get an error, and so does every verb."""
    sim = running
    tried = {**verbs(sim), "heal": sim.heal, "reset": sim.reset}
    fault = sim.faults.latency("client-to-redis-a", ms=5)
    with ThreadPoolExecutor() as pool:
        waiting: list[Future[Any]] = [
            pool.submit(sim.redis.wait_for_failover, 60),
            pool.submit(sim.events.wait, lambda: False, 60),
            pool.submit(sim.events.next, sim.events.mark() + 100, 60),
        ]
        assert len(sim.faults.active) == 1  # it does not wait for those
        end(sim)
        for wait in waiting:
            assert isinstance(wait.exception(10), NotRunning)
    for name, verb in tried.items():
        if name != "no faults":  # that is wrong without a call
            refused(verb)
    refused(fault.heal)
    assert [event.kind for event in sim.events][:2] == ["started", "fault"]
    assert sim.env()["CACHESIM_NAME"] == sim.name


def test_error_beside_the_end_of_the_process(alone: Path) -> None:
    """If the process is killed, the error of the user's own block is what is raised."""
    assert alone
    sim = Simulator(backend="embedded", speed=100)
    with pytest.raises(ZeroDivisionError), sim, sim.faults.kill("redis-b"):  # noqa: PT012
        kill_daemon(sim)
        _ = 1 / 0
    with pytest.raises(NotRunning, match="has ended without taking it down"), sim:
        kill_daemon(sim)
    with sim:  # it can be started again
        assert sim.nodes["redis-b"].state == "running"


# --- events ---------------------------------------------------------------------------------


def test_events(running: Simulator) -> None:
    """What a verb has recorded can be read when it returns, whoever has called it."""
    sim = running
    mark = sim.events.mark()
    sim.nodes["redis-b"].kill()
    assert [(it.kind, it.source) for it in sim.events.since(mark)] == [("fault", "redis-b")]
    mark = sim.events.mark()
    rpc.call(find_run(sim.name), Call.APPLY, faults=[{"fault": "kill", "nodes": ["redis-c"]}])
    assert [it.source for it in sim.events.of("fault", mark)] == ["redis-c"]
    sim.stop()
    assert [it.source for it in sim.events.of("fault")] == ["redis-b", "redis-c"]
    before = len(sim.events)
    sim.start()
    assert [it.kind for it in sim.events.since(before)] == ["started"]


def test_condition_of_a_wait(running: Simulator) -> None:
    """It is called in the thread that waits, may make calls, and holds up no other thread."""
    sim = running
    threads: set[int] = set()
    is_waiting, others_called = threading.Event(), threading.Event()

    def condition() -> bool:
        threads.add(threading.get_ident())
        is_waiting.set()
        others_called.wait(60)
        return sim.nodes["redis-b"].state == "stopped"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: (sim.events.wait(condition, 60), threading.get_ident()))
        assert is_waiting.wait(60)
        sim.nodes["redis-b"].kill()
        assert sim.events.of("fault")
        others_called.set()
        holds, thread = waiting.result(60)
    assert holds
    assert threads == {thread}


def test_wait_that_takes_too_long(running: Simulator) -> None:
    """A condition that does not hold in time is no error; a time that is none is one."""
    assert not running.events.wait(lambda: False, 0.01)
    assert running.events.next(len(running.events), 0) == []
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout must be from 0"):
            running.events.wait(lambda: True, timeout)


# --- faults ---------------------------------------------------------------------------------


def test_equal_faults(running: Simulator) -> None:
    """Faults are equal by their ids, and those of another topology are others."""
    first, second = running.faults.kill("redis-b"), running.faults.kill("redis-b")
    assert running.faults.active == [first, second]
    assert first != second
    assert len({first, second, *running.faults.active}) == 2
    with Simulator(backend="embedded", speed=100) as other:
        theirs = other.faults.kill("redis-b")
        assert theirs.id == first.id
        assert theirs != first


# --- processes ------------------------------------------------------------------------------

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
    with sim.control_plane.suspended():
        held.set()
        forked.wait()

with Simulator(speed=100, backend=sys.argv[1]) as sim:
    fault = sim.faults.latency("client-to-redis-a", ms=1)
    tried = {**verbs(sim), "fault.heal": fault.heal, "heal": sim.heal, "reset": sim.reset}
    held, forked = threading.Event(), threading.Event()
    threading.Thread(target=hold).start()
    held.wait()  # in the child nobody will ever release that
    assert len(sim.events) == 2
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
            assert [event.kind for event in sim.events] == ["started", "fault"]
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
import threading
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
    assert threading.active_count() == 1
print(len(sockets()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_socket_stays_open(backend: str, tmp_path: Path) -> None:
    """After the stop the process has no connection of the topology, and no thread at any time."""
    done = call(tmp_path, "-c", SOCKETS, backend)
    assert (done.stdout, done.stderr) == ("0\n", "")
