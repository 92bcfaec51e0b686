"""The Docker backend: what only containers have, and their removal."""

import io
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from cachesim import Settings, Simulator
from cachesim.backends.containers.engine import connect
from cachesim.backends.ports import free_zone_ports
from cachesim.daemon.leftovers import remove_orphans
from cachesim.errors import (
    BackendUnavailable,
    ImageMissing,
    NameInUse,
    NotReady,
    PortTaken,
    StartError,
    ToxiproxyTimeout,
)
from cachesim.runs.directory import LOG, roots
from cachesim.runs.registry import find_run
from cachesim.servers.admin import NodeClients, errors
from cachesim.servers.certificates import client_context
from cachesim.servers.credentials import ADMIN_USER, Credentials
from cachesim.servers.redis_config import REDIS_PORT
from cachesim.topology import Endpoint, NodeState
from cachesim.toxiproxy.client import ToxiproxyClient
from cachesim.toxiproxy.toxics import Latency, Stream
from tests.backends.test_ports import free_first_port
from tests.contract.helpers import raw_tls, through_link, until
from tests.hosted import hosted
from tests.processes import ready

pytestmark = pytest.mark.usefixtures("require_docker")


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    """A running topology."""
    with Simulator(backend="docker", speed=30) as running:
        yield running


@pytest.fixture
def engine() -> Iterator[Any]:
    """The Docker SDK's client."""
    client = connect().client
    yield client
    client.close()


@pytest.fixture
def admin(sim: Simulator, engine: Any) -> Iterator[NodeClients]:
    """Clients of the Redis nodes at their admin addresses, as the control plane has them."""
    (password,) = re.findall(r"masterauth (\S+)", read_file(engine, sim, "redis-a", "auth.conf"))
    ca = Path(sim.env()["CACHESIM_CA_FILE"]).read_bytes()

    def address(node: str) -> Endpoint:
        pod = engine.containers.get(f"cachesim-{sim.name}-pod-{node[-1]}")
        return Endpoint("127.0.0.1", int(pod.ports[f"{REDIS_PORT}/tcp"][0]["HostPort"]))

    with closing(NodeClients(address, ADMIN_USER, password, client_context(ca))) as clients:
        yield clients


def container_of(engine: Any, sim: Simulator, node: str) -> Any:
    """The container of a node."""
    return engine.containers.get(f"cachesim-{sim.name}-{node}")


def read_file(engine: Any, sim: Simulator, node: str, name: str) -> str:
    """Return a file of a node."""
    parts, _ = container_of(engine, sim, node).get_archive(f"/cachesim/{node}/{name}")
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read().decode()


def left_of(engine: Any, name: str) -> list[Any]:
    """The containers, networks and volumes of a topology."""
    return labelled(engine, f"cachesim.run=cachesim-{name}")


def labelled(engine: Any, label: str) -> list[Any]:
    """The containers, networks and volumes with a label."""
    mine = {"label": label}
    return [
        *engine.containers.list(all=True, filters=mine, sparse=True),  # they may be going
        *engine.networks.list(filters=mine),
        *engine.volumes.list(filters=mine),
    ]


def folders_of(name: str) -> list[Path]:
    """The folders with a topology's files."""
    return [folder for root in roots() for folder in root.glob(f"{name}-*")]


def test_no_secret_shows(sim: Simulator, engine: Any) -> None:
    """Passwords and keys are not in inspect, arguments, logs, reprs or the event log.

    Nor are they in the arguments, the variables or the log of the topology's process.
    """
    token = sim.env()["CACHESIM_REDIS_PASSWORD"]
    (admin,) = re.findall(r"masterauth (\S+)", read_file(engine, sim, "redis-a", "auth.conf"))
    begin, key, *_ = read_file(engine, sim, "redis-a", "key.pem").splitlines()
    assert "PRIVATE KEY" in begin
    run = find_run(sim.name)
    daemon = psutil.Process(run.owner.pid)
    assert daemon.pid != os.getpid()
    shown = [repr(sim), str(sim.events), repr(sim.settings), repr(Credentials(token, admin))]
    shown += [*daemon.cmdline(), *daemon.environ().values(), (run.folder / LOG).read_text()]
    for item in left_of(engine, sim.name):
        item.reload()
        shown.append(repr(item.attrs))
        if hasattr(item, "logs"):
            shown += [item.logs().decode(errors="replace"), repr(item.top())]
    assert len(shown) > 20
    for text in shown:
        assert token not in text
        assert admin not in text
        assert key not in text
        assert "PRIVATE KEY" not in text


def test_files_are_private(sim: Simulator, engine: Any) -> None:
    """Only this user may read the files with secrets, and only the servers their own."""
    folder = Path(sim.env()["CACHESIM_CA_FILE"]).parent
    assert folder.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())
    listing = container_of(engine, sim, "redis-a").exec_run(
        ["ls", "-ln", "/cachesim/redis-a", "/cachesim/memcached-a"]
    )
    modes = [line.split()[0] for line in listing.output.decode().splitlines() if ".pem" in line]
    assert len(modes) == 6
    assert set(modes) == {"-rw-------"}


def test_no_way_out(sim: Simulator, engine: Any) -> None:
    """Ports are published on loopback alone, and the network translates no address."""
    for item in engine.containers.list(filters={"label": f"cachesim.run=cachesim-{sim.name}"}):
        published = (item.attrs["NetworkSettings"]["Ports"] or {}).values()
        hosts = {binding["HostIp"] for bindings in published for binding in bindings or []}
        assert hosts <= {"127.0.0.1"}
    (network,) = engine.networks.list(filters={"label": f"cachesim.run=cachesim-{sim.name}"})
    option = "com.docker.network.bridge.enable_ip_masquerade"
    assert network.attrs["Options"][option] == "false"


def ask_without_reading(sim: Simulator) -> ssl.SSLSocket:
    """Return a client of redis-a that requests more than all buffers hold, and does not read."""
    patient = {"socket_timeout": 10, "socket_connect_timeout": 10}
    with closing(through_link(sim, "redis-a", **patient)) as client:
        client.set("large", b"x" * 5_000_000)
    sock = raw_tls(sim, sim.nodes["redis-a"].endpoint)
    token = sim.env()["CACHESIM_REDIS_PASSWORD"]
    sock.sendall(f"AUTH {token}\r\n".encode())
    sock.recv(100)
    sock.sendall(b"GET large\r\n" * 10)
    return sock


def freeze(sim: Simulator) -> tuple[ssl.SSLSocket, ToxiproxyClient]:
    """Block redis-a's client link, by changing a toxic by hand; return the client and the API.

    Toxiproxy does not block each time, so it is repeated.
    """
    server = ToxiproxyClient(sim.env()["CACHESIM_TOXIPROXY_A"], timeout=0.5)
    while True:
        sim.reset()  # on a busy machine redis-a may have lost its role before
        sock = ask_without_reading(sim)
        for number in range(20):
            try:
                server.add_toxic("client-to-redis-a", f"t{number}", Latency(1), Stream.DOWNSTREAM)
            except ToxiproxyTimeout:
                return sock, server
        sock.close()


def test_receiver_that_does_not_read(sim: Simulator, engine: Any) -> None:
    """A proxy that such a receiver blocks is replaced, and the nodes are not restarted."""
    runs = {name: run_of(engine, sim, name) for name in ("redis-a", "memcached-a")}
    sock, server = freeze(sim)
    mark = sim.events.mark()  # on its way there a proxy may have been replaced as well
    with closing(sock), closing(server):
        fault = sim.faults.latency("client-to-redis-a", 300)
        (replaced,) = sim.events.of("replaced", mark)
        assert replaced.source == "client-to-redis-a"
        with closing(through_link(sim, "redis-a", socket_timeout=5)) as client:
            client.ping()
            began = time.monotonic()
            client.ping()
            assert time.monotonic() - began >= 0.3
        fault.heal()
        sim.reset()
        assert sim.links["client", "redis-a"].toxics == []
    assert {name: run_of(engine, sim, name) for name in runs} == runs


def test_toxiproxy_that_can_not_be_saved(sim: Simulator) -> None:
    """If a client has connected meanwhile, the zone is restarted; faults and a pause stay."""
    sock, server = freeze(sim)
    mark = sim.events.mark()  # on its way there a proxy may have been replaced as well
    late = socket.create_connection(("127.0.0.1", sim.nodes["redis-a"].endpoint.port))
    with closing(sock), closing(server), closing(late), sim.control_plane.suspended():
        sim.memcached["a"].pause()
        sim.faults.blackhole("a-to-redis-b")
        time.sleep(0.2)  # for the engine's forwarder, which tells nobody
        sim.faults.latency("client-to-redis-a", 1)
        (replaced,) = sim.events.of("replaced", mark)
        assert replaced.source == "az-a"
        assert sim.memcached["a"].state is NodeState.PAUSED
        assert len(server.proxy("a-to-redis-b")["toxics"]) == 2
        assert len(server.proxy("client-to-redis-a")["toxics"]) == 1
    sim.reset()
    with closing(sim.redis_cluster()) as redis:
        assert redis.set("k", 1)
    with closing(sim.memcached_client()) as memcached:
        assert memcached.set("k", "1", noreply=False)


def run_of(engine: Any, sim: Simulator, node: str) -> str:
    """Return when a node's container was last started."""
    return str(container_of(engine, sim, node).attrs["State"]["StartedAt"])


def test_ports_of_links_are_reserved(sim: Simulator, engine: Any) -> None:
    """In a pod no outgoing connection may take the port of a disabled link."""
    read = container_of(engine, sim, "redis-a").exec_run(
        ["cat", "/proc/sys/net/ipv4/ip_local_reserved_ports"]
    )
    reserved: set[int] = set()
    for part in read.output.decode().strip().split(","):
        first, _, last = part.partition("-")
        reserved.update(range(int(first), int(last or first) + 1))
    with closing(ToxiproxyClient(sim.env()["CACHESIM_TOXIPROXY_A"])) as server:
        proxies = server.proxies().values()
    assert reserved >= {int(proxy["listen"].rpartition(":")[2]) for proxy in proxies}


def test_endpoint_of_a_zone_after_a_move(sim: Simulator) -> None:
    """In a zone, the Redis endpoint leads to the new address of a node that has moved, and back."""
    sim.reset()
    (name,) = (it for it in sim.toxiproxy("b").proxies() if it.endswith("-to-endpoint-redis"))

    def leads_to_a_node() -> bool:
        port = int(sim.toxiproxy("b").get_proxy(name).upstream.rpartition(":")[2])
        return port in {node.endpoint.port for node in sim.redis}

    assert leads_to_a_node()
    for change in (partial(sim.control_plane.rolling_replacement, new_addresses=True), sim.reset):
        change()
        until(leads_to_a_node, 30)


def test_settings_outlive_a_restart(sim: Simulator, admin: NodeClients) -> None:
    """A restarted node has the chosen `cluster-node-timeout`."""

    def has_timeout(node: str) -> bool:
        try:
            return admin.redis(node).config_get("cluster-node-timeout") == {
                "cluster-node-timeout": "15000"
            }
        except errors():
            return False

    for node in ("redis-a", "redis-b"):
        assert has_timeout(node)
        began = admin.redis(node).info("server")["run_id"]
        sim.nodes[node].restart()
        until(partial(has_timeout, node))
        assert admin.redis(node).info("server")["run_id"] != began


def test_nothing_is_left(engine: Any) -> None:
    """After a stop there is no container, network, volume or folder; a second stop is harmless."""
    sim = Simulator(backend="docker")
    sim.start()
    assert len(left_of(engine, sim.name)) == 11
    assert folders_of(sim.name)
    sim.stop()
    sim.stop()
    assert left_of(engine, sim.name) == []
    assert folders_of(sim.name) == []


def test_an_exception_leaves_nothing(engine: Any) -> None:
    """An exception in the block takes the topology down and propagates."""
    sim = Simulator(backend="docker")

    def fail() -> None:
        with sim:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert left_of(engine, sim.name) == []


SCRIPT = """
import os, signal, sys
from cachesim import Simulator
sim = Simulator(backend="docker", name=sys.argv[1])
sim.start(lambda line: print(line, flush=True))
print("ready", flush=True)
if sys.argv[2] == "wait":
    sys.stdin.read()
"""


def run(name: str, how: str) -> "subprocess.Popen[str]":
    """A process that starts a topology."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, name, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def wait_for(process: "subprocess.Popen[str]", moment: str) -> None:
    """Wait until a start has come to a step."""
    assert process.stdout is not None
    assert any(moment in line for line in process.stdout)


def test_an_exit_without_stop_leaves_nothing(engine: Any) -> None:
    """An interpreter that exits takes its topology down."""
    with run("exits", "leave") as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert left_of(engine, "exits") == []
    assert folders_of("exits") == []


@pytest.mark.parametrize("moment", ["checking", "starting", "forming", "ready"])
def test_interrupted_start_leaves_nothing(engine: Any, moment: str) -> None:
    """Ctrl-C at any moment of the start leaves nothing."""
    name = f"interrupted-{moment}"
    with run(name, "wait") as process:
        wait_for(process, moment)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert left_of(engine, name) == []
    assert folders_of(name) == []


@pytest.mark.parametrize("moment", ["starting", "ready"])
def test_killed_owner(engine: Any, moment: str) -> None:
    """The end of a killed process takes its topology down."""
    name = f"killed-{moment}"
    with run(name, "wait") as process:
        wait_for(process, moment)
        process.kill()
    until(lambda: not left_of(engine, name) and not folders_of(name), 10.0)


@pytest.mark.parametrize("moment", ["starting", "ready"])
def test_killed_together_is_cleaned_up_after(engine: Any, moment: str) -> None:
    """The next start removes what the topology's process and its owner left, and nothing else."""
    name = f"both-{moment}"
    with run(name, "wait") as process:
        wait_for(process, moment)
        (daemon,) = psutil.Process(process.pid).children()
        daemon.kill()
        process.kill()
    assert folders_of(name)
    with Simulator(backend="docker") as other, Simulator(backend="docker") as third:
        assert left_of(engine, name) == []
        assert folders_of(name) == []
        assert len(left_of(engine, other.name)) == 11
        assert len(left_of(engine, third.name)) == 11


REAPED = """
import socket, sys
from testcontainers.core import container, labels
from tests.hosted import hosted

class Reaper:
    @classmethod
    def get_instance(cls):
        cls.connection = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
        cls.connection.send(f"label={labels.LABEL_SESSION_ID}={labels.SESSION_ID}\\n".encode())

container.Reaper = Reaper
with hosted(sys.argv[1], backend="docker"):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_reaper(engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Testcontainers' reaper, if present, learns of everything, and of the process's end.

    The test plays the reaper. A present image stands for the reaper's own.
    """
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "false")
    monkeypatch.setenv("RYUK_CONTAINER_IMAGE", engine.images.get(Settings().toxiproxy_image).id)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        with ready(tmp_path, REAPED, "reaped", port) as process:
            connection, _ = listener.accept()
            with connection, connection.makefile() as lines:
                label = lines.readline().strip().removeprefix("label=")
                reaped = labelled(engine, label)
                assert len(reaped) == 11
                assert set(map(repr, reaped)) == set(map(repr, left_of(engine, "reaped")))
                process.kill()
                assert lines.read() == ""  # it learns of the end at once
    remove_orphans()
    assert left_of(engine, "reaped") == []


def test_name_in_use(sim: Simulator, engine: Any) -> None:
    """The name of a running topology is refused, and that topology is left alone."""
    with pytest.raises(NameInUse, match=f"{sim.name}.*another name"):
        Simulator(backend="docker", name=sim.name).start()
    assert len(left_of(engine, sim.name)) == 11
    assert sim.redis_cluster().ping()


def test_image_missing(engine: Any) -> None:
    """An image that can't be pulled is named, with the setting to change."""
    sim = Simulator(backend="docker", memcached_image="cachesim.invalid/nothing:1")
    with pytest.raises(ImageMissing, match=r"cachesim.invalid/nothing:1.*memcached_image"):
        sim.start()
    assert left_of(engine, sim.name) == []


def test_bad_name_of_an_image(engine: Any) -> None:
    """What the engine says of it is told, with the setting to change."""
    sim = Simulator(redis_image=":::")
    with pytest.raises(ImageMissing, match=r"image ::: can't be used: .*the setting redis_image"):
        sim.start()
    assert left_of(engine, sim.name) == []


def test_no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without an engine, the error says where it was expected, and what to do."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(BackendUnavailable, match=r"none\.sock.*Start Docker.*DOCKER_HOST"):
        Simulator(backend="docker").start()


def test_port_taken(monkeypatch: pytest.MonkeyPatch, engine: Any) -> None:
    """A port that was taken meanwhile costs another attempt; the last one fails."""
    name = "cachesim.backends.containers.docker.free_zone_ports"
    draw = free_zone_ports
    tries = []

    def taken(topology: Any) -> Any:
        ports = draw(topology)
        tries.append(ports)
        if len(tries) < 2:
            blocker.bind(("127.0.0.1", ports["a"].redis))
            blocker.listen()
        return ports

    monkeypatch.setattr(name, taken)
    with socket.socket() as blocker, hosted("taken", backend="docker") as it:
        assert len(tries) == 2
        assert it.sim.redis_cluster().ping()
    assert left_of(engine, "taken") == []
    with socket.socket() as blocker:
        blocker.bind(("127.0.0.1", 0))
        blocker.listen()
        port = blocker.getsockname()[1]
        monkeypatch.setattr(
            name,
            lambda t: {
                z: p.__class__(port, *list(vars(p).values())[1:]) for z, p in draw(t).items()
            },
        )
        with (
            pytest.raises(PortTaken, match="Stop what uses the port"),
            hosted("taken", backend="docker"),
        ):
            pass
    assert left_of(engine, "taken") == []


def test_fixed_ports(engine: Any) -> None:
    """Ports of the settings are published; if one is taken, the start fails and leaves nothing."""
    first = free_first_port()
    ports = {"redis-a": first, "toxiproxy-b": first + 1}
    with hosted("fixed", backend="docker", ports=ports) as it:
        assert it.sim.nodes["redis-a"].endpoint.port == first
        assert it.sim.env()["CACHESIM_TOXIPROXY_B"].endswith(f":{first + 1}")
        assert it.sim.redis_cluster().ping()
        with pytest.raises(PortTaken, match=rf"{first} \(redis-a\).*: the topology 'fixed'"):
            Simulator(backend="docker", ports=first, name="other").start()
    assert left_of(engine, "other") == []


def test_fixed_ports_of_nodes_that_answer() -> None:
    """They are those that clients use. After the end nobody has them."""
    first = free_first_port()
    ports = [first + 10 * number + 1 for number in range(3)]
    sim = Simulator(backend="docker", discovery="nodes", ports=first)
    with (
        socket.create_server(("127.0.0.1", ports[1])),
        pytest.raises(PortTaken, match="memcached-b"),
    ):
        sim.start()
    with sim, closing(sim.memcached_client()) as client:
        assert [node.endpoint.port for node in sim.memcached.values()] == ports
        assert client.set("k", "v", noreply=False)
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_not_ready_in_time(engine: Any) -> None:
    """A node that is not ready in time is named, with the tail of its log."""
    sim = Simulator(backend="docker", start_timeout_seconds=0.001)
    with pytest.raises(NotReady, match=r"(?s)redis-[abc]: .*log.*start_timeout_seconds") as caught:
        sim.start()
    assert isinstance(caught.value, StartError)
    assert left_of(engine, sim.name) == []
