"""The embedded backend: its own behaviour, besides the contract."""

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.exceptions import ConnectionError

from cachesim import CachesimError, Simulator
from cachesim.backends.base import host_for_clients
from cachesim.errors import StartError
from cachesim.runs.registry import find_run, living_runs
from tests.contract.helpers import node_client, until
from tests.hosted import hosted
from tests.processes import call, is_alive, python, ready

pytestmark = pytest.mark.usefixtures("alone")
posix = pytest.mark.skipif(os.name != "posix", reason="sends signals, or forks")


def new(**arguments: Any) -> Simulator:
    """Return a topology that is not started yet."""
    return Simulator(backend="embedded", speed=100, **arguments)


@contextlib.contextmanager
def inside() -> Iterator[Simulator]:
    """Run a topology in this process."""
    with hosted("inside", backend="embedded", speed=100) as it:
        yield it.sim


def daemon(sim: Simulator) -> psutil.Process:
    """The process of a topology."""
    return psutil.Process(find_run(sim.name).owner.pid)


def open_sockets(process: psutil.Process) -> set[tuple[object, ...]]:
    """A process's TCP sockets."""
    return {(it.laddr, it.raddr, it.status) for it in process.net_connections("tcp")}


def listening(process: psutil.Process) -> set[object]:
    """Where a process listens."""
    return {address for address, _, status in open_sockets(process) if status == psutil.CONN_LISTEN}


def files(folder: Path) -> list[Path]:
    """The files of runs."""
    return [it for it in folder.rglob("*") if it.is_file() and "cachesim" in it.parts]


# --- its end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("begin", [new, inside])
def test_nothing_is_left(
    alone: Path, begin: Callable[[], AbstractContextManager[Simulator]]
) -> None:
    """After its end there is no process, thread, socket and file more than before."""
    me = psutil.Process()
    threads, sockets, processes = threading.active_count(), open_sockets(me), me.children()
    for _ in range(2):
        with begin() as sim, closing(sim.redis_cluster()) as redis:
            redis.set("k", b"x" * 100_000)
            until(lambda: any(it.name == "appendonly.aof" for it in files(alone)))
            sim.redis.primary.pause()
            sim.memcached["b"].kill()
        assert me.children() == processes
        until(lambda: threading.active_count() == threads)
        until(lambda: open_sockets(me) <= sockets)
        assert [it for it in files(alone) if it.name != "lock"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is a gap")
def test_its_ports_are_its_own() -> None:
    """Nobody else can bind its ports while it runs, whatever is down or refused."""
    with new() as sim:
        ports = [handle.listen.port for handle in sim.links.values()]
        refused = sim.faults.refuse(sim.links.where(lambda _: True))
        killed = sim.faults.kill(*sim.nodes)
        for port in ports:
            with socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with pytest.raises(OSError, match="in use"):
                    other.bind(("127.0.0.1", port))
        killed.heal()
        refused.heal()
        assert all(handle.enabled for handle in sim.links.values())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are accepted")
def test_no_power_lets_connects_hang() -> None:
    """A dead machine answers no connect, even if a process was dead before; heals work."""
    with new() as sim:
        process = daemon(sim)
        before = listening(process)
        sim.memcached["a"].kill()
        dark = sim.faults.az_power("a")
        for node in ("redis-a", "memcached-a"):
            endpoint = sim.nodes[node].endpoint
            with pytest.raises(TimeoutError):
                socket.create_connection((endpoint.host, endpoint.port), timeout=0.2)
        dark.heal()
        refused = sim.memcached["a"].endpoint
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((refused.host, refused.port))
        sim.heal()
        for node in ("redis-a", "memcached-a"):
            endpoint = sim.nodes[node].endpoint
            socket.create_connection((endpoint.host, endpoint.port), timeout=5).close()
        assert listening(process) == before


def test_several_in_one_process() -> None:
    """Two topologies are independent."""
    with new() as one, new() as other:
        with closing(one.redis_cluster()) as redis, closing(other.redis_cluster()) as others:
            redis.set("k", "v")
            assert others.get("k") is None
            other.redis.primary.kill()
            other.redis.wait_for_failover()
            assert one.redis.primary.name == "redis-a"
            assert redis.get("k") == "v"
        other.stop()
        assert one.redis.primary.role == "primary"


def test_exit_without_stop(alone: Path) -> None:
    """An interpreter that exits takes the topology down."""
    script = 'from cachesim import Simulator; Simulator(backend="embedded").start(); print("ready")'
    done = call(alone, "-Werror", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ready\n", "")
    assert living_runs() == []
    assert not list(alone.glob("cachesim/runs/*/owner"))


@posix
@pytest.mark.parametrize("together", [False, True])
def test_killed(alone: Path, together: bool) -> None:
    """The end of a killed process takes its topology down.

    If the topology's process was killed too, the next start removes what is left.
    """
    script = """
import sys
from cachesim import Simulator
Simulator(backend="embedded", name="killed").start()
print("ready", flush=True)
sys.stdin.read()
"""
    with ready(alone, script) as process:
        (its_daemon,) = psutil.Process(process.pid).children()
        if together:
            its_daemon.kill()
        process.kill()
        process.wait(30)
    if not together:
        until(lambda: not list(alone.glob("cachesim/runs/killed-*")), 3.0)
        until(lambda: not its_daemon.is_running(), 3.0)
        return
    assert list(alone.glob("cachesim/runs/killed-*"))
    with new():
        assert not list(alone.glob("cachesim/runs/killed-*"))


@posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_workers(alone: Path) -> None:
    """A forked process can be a client, and its exit takes nothing down."""
    script = """
import os, sys
from contextlib import closing
from cachesim import CachesimError, Simulator
with Simulator(backend="embedded") as sim:
    if not (child := os.fork()):
        with closing(sim.redis_cluster()) as redis:
            redis.set("k", "from the child")
        try:
            sim.redis.primary.kill()
        except CachesimError as error:
            print(error, flush=True)
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    with closing(sim.redis_cluster()) as redis:
        print(redis.get("k"), flush=True)
"""
    with python(alone, script) as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    told, got = out.splitlines()
    assert "forked from" in told
    assert got == "from the child"


# --- processes for scripts --------------------------------------------------------------------

ENDLESS = """
import os, sys, threading
from cachesim import Simulator
def evaluate(client):
    try:
        client.eval("while true do end", 1, "k")
    except Exception:
        pass
sim = Simulator(backend="embedded")
sim.start()
client = sim.redis_cluster(socket_timeout=60)
client.eval("return 1", 1, "k")
threading.Thread(target=evaluate, args=(client,), daemon=True).start()
"""


@posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("killed", ["owner", "owner of a fork", "daemon"])
def test_a_script_ends_with_a_killed_process(alone: Path, killed: str) -> None:
    """A process for scripts ends with the topology's, in the middle of an endless script.

    A forked process of the user's that lives on does not keep it.
    """
    script = (
        ENDLESS
        + """
if "fork" in sys.argv and not os.fork():
    threading.Event().wait(30)
print("ready", flush=True)
sys.stdin.read()
"""
    )
    with ready(alone, script, "fork" if "fork" in killed else "") as process:
        children = psutil.Process(process.pid).children(recursive=True)
        (worker,) = [it for it in children if any("interpreter" in word for word in it.cmdline())]
        parent = worker.parent()
        assert parent is not None
        assert parent.pid != process.pid
        until(lambda: worker.cpu_times().user > 0.1)
        if killed == "daemon":
            parent.kill()
        else:
            process.kill()
            process.wait(30)
        until(lambda: not is_alive(worker))
        for child in children:
            if child not in (worker, parent):
                child.kill()


def test_a_script_ends_with_its_topology(alone: Path) -> None:
    """No process is left, nor a zombie."""
    script = (
        ENDLESS
        + """
import psutil, time
me = psutil.Process()
(daemon,) = me.children()
(worker,) = daemon.children()
while worker.cpu_times().user < 0.1:
    time.sleep(0.01)
sim.stop()
deadline = time.monotonic() + 10
while worker.is_running() and time.monotonic() < deadline:
    time.sleep(0.01)
print(me.children(), worker.is_running())
"""
    )
    done = call(alone, "-c", script)
    assert done.stdout == "[] False\n", done.stderr


# --- a start that fails -----------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="counts files as Linux does")
def test_too_few_files(alone: Path) -> None:
    """If the process may open too few files, the error says so, and nothing is left."""
    script = """
import resource, sys
from cachesim import CachesimError, Simulator
import cachesim.backends.embedded
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), 4096))
try:
    Simulator(backend="embedded").start()
except CachesimError as error:
    print(error)
import threading
print(threading.active_count())
"""
    for limit in (12, 30):
        done = call(alone, "-c", script, str(limit))
        message, threads = done.stdout.splitlines()
        assert "ulimit -n" in message
        assert "Traceback" not in done.stderr
        assert threads == "1"
        assert not list(alone.glob("cachesim/runs/*/owner"))


def test_started_twice() -> None:
    """A running topology can't be started again."""
    with new(name="one") as sim:
        with pytest.raises(StartError, match="is running already"):
            sim.start()
        with pytest.raises(CachesimError, match="running already"):
            new(name="one").start()
        assert sim.redis.primary.state == "running"


# --- addresses --------------------------------------------------------------------------------


def test_advertised_host() -> None:
    """Clients are told a name instead of 127.0.0.1, and the certificates are for it."""
    with new(advertise_host="localhost") as sim:
        client = node_client(sim, sim.redis["a"].endpoint)
        ((_, _, *nodes),) = client.execute_command("CLUSTER", "SLOTS")
        assert {node[0] for node in nodes} == {"localhost"}
        client.close()
        told = sim.env()
        for name in ("CACHESIM_REDIS_NODES", "CACHESIM_MEMCACHED_NODES"):
            assert {node.partition(":")[0] for node in told[name].split(",")} == {"localhost"}


@pytest.mark.parametrize(
    ("advertised", "expected"),
    [(None, "127.0.0.1"), ("localhost", "localhost"), ("no-such.invalid", "127.0.0.1"),
     ("127.0.0.1", "127.0.0.1"), ("192.0.2.1", "127.0.0.1")],
)  # fmt: skip
def test_host_for_clients(advertised: str | None, expected: str) -> None:
    """Clients here use the advertised host only if it leads to the published ports."""
    assert host_for_clients(advertised, "127.0.0.1") == expected


def test_a_proxy_of_the_users(alone: Path) -> None:  # noqa: ARG001  # its own folder
    """A user's own proxy may have any upstream, also one of the topology's."""
    with new() as sim:
        port = sim.redis["a"].endpoint.port
        proxy = sim.toxiproxy("a").create(upstream=f"127.0.0.1:{port}", name="mine")
        host, _, own = proxy.listen.rpartition(":")
        with socket.create_connection((host, int(own)), timeout=5) as plain:
            plain.sendall(b"PING\r\n")  # not TLS: it is closed, by the node
            with suppress(ConnectionError):
                assert b"PONG" not in plain.recv(100)


def test_settings_are_productions() -> None:
    """CONFIG GET has production's values, as the containers' configuration has."""
    wanted = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "maxclients": "65000",
        "cluster-node-timeout": "15000",
        "repl-backlog-size": str(16 << 20),
        "repl-diskless-sync": "no",
        "save": "",
        "cluster-replica-no-failover": "yes",
    }
    with hosted("inside", backend="embedded") as it:
        client = it.operations.admin.redis("redis-a")
        said = {key: client.config_get(key)[key] for key in wanted}
    assert json.dumps(said) == json.dumps(wanted)


def test_every_client_has_an_address() -> None:
    """CLIENT KILL ADDR closes one of the connections that come over a link."""
    with new() as sim:
        node = sim.redis.primary.endpoint
        with closing(node_client(sim, node)) as one, closing(node_client(sim, node)) as other:
            its_address, its_id = str(other.client_info()["addr"]), other.client_id()
            mine = one.client_info()
            assert mine["addr"] != its_address
            assert {c["addr"]: c["id"] for c in one.client_list()}[its_address] == str(its_id)
            one.client_kill(its_address)
            assert one.client_id() == mine["id"]
            # redis-py connects again by itself if it sees the end before it sends.
            with contextlib.suppress(ConnectionError):
                other.client_id()
            assert other.client_id() != its_id


def test_the_ports_in_shards() -> None:
    """CLUSTER SHARDS shows the announced port twice, as a TLS cluster of Redis does."""
    with new() as sim:
        node = sim.redis.primary.endpoint
        with closing(node_client(sim, node)) as client:
            (shard,) = client.execute_command("CLUSTER SHARDS")
            assert {(m["port"], m["tls-port"]) for m in _members(shard)} == {
                (sim.nodes[f"redis-{zone}"].endpoint.port,) * 2 for zone in "abc"
            }


def _members(shard: Any) -> list[dict[str, Any]]:
    """Return the nodes of a shard of CLUSTER SHARDS."""
    rows = shard["nodes"] if isinstance(shard, dict) else shard[3]
    return [
        row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True))
        for row in rows
    ]
