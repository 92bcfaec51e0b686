"""A topology that `docker compose` brought up: it works, and can be attached to."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cachesim import Settings
from cachesim.backends.compose.backend import ComposeBackend
from cachesim.backends.compose.folder import write_folder
from cachesim.errors import StartError
from cachesim.servers import clients
from cachesim.servers.admin import NodeClients, errors
from cachesim.servers.credentials import DEFAULT_USER
from cachesim.topology import ENDPOINTS, NodeState
from cachesim.toxiproxy.client import ToxiproxyClient
from cachesim.toxiproxy.toxics import Latency, Stream
from tests.composed import Folder

pytestmark = pytest.mark.usefixtures("require_docker")

PROJECT = "com.docker.compose.project"
NODES = ["redis-a", "memcached-a", "redis-b", "memcached-b", "redis-c", "memcached-c"]


@pytest.fixture(scope="module")
def folder(compose: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A folder that is up."""
    with closing(Folder(tmp_path_factory.mktemp("compose"), compose)) as it:
        it.up()
        yield it


@pytest.fixture
def unused(compose: list[str], tmp_path: Path) -> Iterator[Folder]:
    """A folder that is not up."""
    with closing(Folder(tmp_path, compose)) as it:
        yield it


@pytest.fixture
def backend(folder: Folder) -> Iterator[ComposeBackend]:
    """A backend attached to it. Afterwards its nodes run again."""
    backend = ComposeBackend(folder.path)
    backend.start(lambda _: None)
    yield backend
    for node in NODES:
        if backend.state(node) is NodeState.PAUSED:
            backend.resume(node)
        backend.start_node(node)
    backend.start(lambda _: None)


@pytest.fixture
def engine() -> Iterator[Any]:
    """The Docker SDK's client."""
    from cachesim.backends.containers.engine import connect

    client = connect().client
    yield client
    client.close()


def eventually(what: Callable[[], object], seconds: float = 20) -> object:
    """Return the first true result of a call that may fail until then."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if result := what():
                return result
        except errors():
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline
        time.sleep(0.02)


def containers_of(folder: Folder, engine: Any) -> dict[str, Any]:
    """Its containers, by the service's name."""
    found = engine.containers.list(all=True, filters={"label": f"{PROJECT}={folder.project}"})
    return {item.labels["com.docker.compose.service"]: item for item in found}


# --- compose alone --------------------------------------------------------------------------


def test_clients(folder: Folder) -> None:
    """After one command production's clients work, through the links, with TLS and AUTH."""
    redis = folder.redis()
    redis.set("session:abc123", "user-789")
    assert redis.get("session:abc123") == "user-789"
    assert {str(node.server_type) for node in redis.get_nodes()} == {"primary", "replica"}
    assert redis.get_primaries()[0].port == folder.plan.endpoint("redis-a").port
    redis.close()
    nodes = [folder.plan.endpoint(node.name) for node in folder.plan.topology.memcached]
    memcached = clients.memcached_client(nodes, folder.tls)
    for n in range(9):
        memcached.set(f"api:{n}", str(n), noreply=False)
    assert [memcached.get(f"api:{n}") for n in range(9)] == [str(n).encode() for n in range(9)]
    memcached.close()


def test_nobody_else(folder: Folder) -> None:
    """Every node knows the three nodes, and no others."""
    for node in folder.plan.topology.redis:
        assert len(folder.admin.redis(node.name).execute_command("CLUSTER NODES")) == 3


def test_production_settings(folder: Folder) -> None:
    """The formed cluster has production's settings."""
    for node in folder.plan.topology.redis:
        told = folder.admin.redis(node.name).config_get("cluster-node-timeout")
        assert told == {"cluster-node-timeout": "15000"}


def test_needs_the_password(folder: Folder) -> None:
    """Nobody gets in without AUTH."""
    from redis.exceptions import AuthenticationError

    wrong = NodeClients(folder.plan.endpoint, DEFAULT_USER, "wrong", folder.tls)
    with closing(wrong), pytest.raises(AuthenticationError):
        wrong.redis("redis-a").ping()


def test_proxies(folder: Folder) -> None:
    """There is one proxy for each link of nodes, and one a zone for the endpoint in its network."""
    names: list[str] = []
    for zone in folder.plan.topology.zones:
        with closing(ToxiproxyClient(folder.plan.toxiproxy(zone.name))) as server:
            proxies = server.proxies()
        assert all(proxy["enabled"] for proxy in proxies.values())
        names += proxies
    topology = folder.plan.topology
    links = [link.name for link in topology.links if link.target_zone != ENDPOINTS]
    assert len(links) == 24
    assert sorted(names) == sorted(
        [*links, *(f"{it.name}-to-endpoint-redis" for it in topology.zones)]
    )


def test_no_secret_shows(folder: Folder, engine: Any) -> None:
    """Passwords and keys are not in inspect, arguments or logs."""
    shown = []
    for container in containers_of(folder, engine).values():
        shown += [repr(container.attrs), container.logs().decode(errors="replace")]
        if container.status == "running":
            shown.append(repr(container.top()))
    assert len(shown) > 20
    for text in shown:
        assert folder.composed.credentials.token not in text
        assert folder.composed.credentials.admin_password not in text
        assert "PRIVATE KEY" not in text


def test_files_are_private(folder: Folder, engine: Any) -> None:
    """Only their own users may read the servers' files."""
    listing = containers_of(folder, engine)["redis-a"].exec_run(
        ["ls", "-ln", "/cachesim/redis-a", "/cachesim/memcached-a"]
    )
    files = [line.split() for line in listing.output.decode().splitlines() if "." in line]
    secret = [(owner, mode) for mode, _, owner, *_, name in files if not name.startswith("nodes")]
    assert sorted(set(secret)) == [("11211", "-rw-------"), ("999", "-rw-------")]
    assert len(secret) == 8


def test_no_way_out(folder: Folder, engine: Any) -> None:
    """Ports are published on loopback alone, and the network translates no address."""
    for container in containers_of(folder, engine).values():
        published = (container.attrs["NetworkSettings"]["Ports"] or {}).values()
        hosts = {binding["HostIp"] for bindings in published for binding in bindings or []}
        assert hosts <= {"127.0.0.1"}
    (network,) = engine.networks.list(filters={"label": f"{PROJECT}={folder.project}"})
    option = "com.docker.network.bridge.enable_ip_masquerade"
    assert network.attrs["Options"][option] == "false"


def test_service_in_a_zone(folder: Folder) -> None:
    """A service that joins a zone, as the README shows, uses the same addresses."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (folder.path / "README.md").read_text(), re.DOTALL)
    port = folder.plan.endpoint("redis-a").port
    script = (
        "REDISCLI_AUTH=$$(cat secrets/token) "
        f"redis-cli --tls --cacert secrets/ca.pem -c -p {port} set from-a-zone b"
    )
    override = folder.path / "docker-compose.override.yml"
    override.write_text(
        block.replace(
            "image: my-service",
            f"image: {Settings().server_image}\n"
            f"    entrypoint: [sh, -c, '{script}']\n"
            "    volumes: ['.:/data:ro']",
        )
    )
    try:
        assert "OK" in folder.compose("run", "--rm", "my-service")
    finally:
        override.unlink()
    redis = folder.redis()
    assert redis.get("from-a-zone") == "b"
    redis.close()


def test_restart(folder: Folder) -> None:
    """After a restart, and after `down` and `up`, the cluster is healthy, with its data.

    That holds even if another node was the primary before.
    """
    folder.keep("kept", "yes")
    folder.admin.redis("redis-c").execute_command("CLUSTER FAILOVER", "TAKEOVER")
    eventually(lambda: folder.admin.redis("redis-a").role()[0] == "slave")
    for bring_back in (folder.again, lambda: (folder.compose("down"), folder.up())):
        folder.admin.close()
        bring_back()
        redis = folder.redis()
        assert redis.get("kept") == "yes"
        assert redis.get_primaries()[0].port == folder.plan.endpoint("redis-a").port
        redis.set("written", "again")
        redis.close()


def test_down_leaves_nothing(unused: Folder, engine: Any) -> None:
    """`down -v` removes everything, also all volumes."""
    unused.up()
    containers = containers_of(unused, engine)
    assert sorted(containers) == sorted([*NODES, "pod-a", "pod-b", "pod-c", "files", "form"])
    volumes = {
        mount["Name"]
        for container in containers.values()
        for mount in container.attrs["Mounts"]
        if mount["Type"] == "volume"
    }
    names = ("files", "redis-a", "redis-b", "redis-c")
    assert volumes == {f"{unused.project}_{name}" for name in names}
    unused.compose("down", "-v")
    mine = {"label": f"{PROJECT}={unused.project}"}
    assert containers_of(unused, engine) == {}
    assert engine.networks.list(filters=mine) == []
    assert engine.volumes.list(filters=mine) == []


def test_fresh_clone(unused: Folder) -> None:
    """Without secrets nothing comes up, and the log says what to do."""
    shutil.rmtree(unused.path / "secrets")
    unused.up(fails=True)
    assert "Run 'cachesim compose .' in it" in unused.compose("logs", "files")


# --- attached -------------------------------------------------------------------------------


def test_kill_of_the_primary(folder: Folder, backend: ComposeBackend) -> None:
    """A killed primary is unreachable for its clients; started again, it has its data."""
    client = folder.through_links.redis("redis-a")
    client.set("before", "the kill")
    backend.kill("redis-a", "memcached-a")
    backend.kill("redis-a")
    assert backend.state("redis-a") is backend.state("memcached-a") is NodeState.STOPPED
    assert backend.state("redis-b") is NodeState.RUNNING
    with pytest.raises(errors()):
        client.get("before")
    backend.start_node("redis-a")
    assert backend.state("redis-a") is NodeState.RUNNING
    assert eventually(lambda: client.get("before")) == "the kill"
    assert "Ready to accept connections" in backend.logs("redis-a")


def test_pause(folder: Folder, backend: ComposeBackend) -> None:
    """A paused node answers nothing; when it is resumed, it answers again."""
    with closing(folder.through_links.new_memcached("memcached-b")) as client:
        client.set("k", "v")
        backend.pause("memcached-b")
        assert backend.state("memcached-b") is NodeState.PAUSED
        with pytest.raises(TimeoutError):
            client.get("k")
        backend.resume("memcached-b")
        assert client.get("k") == b"v"


def test_orderly_end(folder: Folder, backend: ComposeBackend) -> None:
    """A node that is shut down logs it, and can be started again."""
    backend.shut_down("redis-c")
    assert backend.state("redis-c") is NodeState.STOPPED
    assert "bye bye" in backend.logs("redis-c")
    backend.start_node("redis-c")
    assert eventually(folder.through_links.redis("redis-c").ping)


def test_toxic(folder: Folder, backend: ComposeBackend) -> None:
    """A toxic affects the clients of its link, and no others."""
    link = "client-to-redis-a"
    with closing(ToxiproxyClient(backend.toxiproxy("a"))) as server:
        for client in (folder.through_links, folder.admin):
            assert client.redis("redis-a").ping()
        server.add_toxic(link, "slow", Latency(700), Stream.DOWNSTREAM)
        began = time.monotonic()
        assert folder.through_links.redis("redis-a").ping()
        assert time.monotonic() - began >= 0.7
        began = time.monotonic()
        assert folder.admin.redis("redis-a").ping()
        assert time.monotonic() - began < 0.7
        server.remove_toxic(link, "slow")


def test_new_toxiproxy(folder: Folder, backend: ComposeBackend) -> None:
    """A zone's Toxiproxy can be replaced: nodes and links work with the new one."""
    client = folder.through_links.redis("redis-a")
    client.set("k", "kept")
    with closing(ToxiproxyClient(backend.toxiproxy("a"))) as server:
        server.add_toxic("client-to-redis-a", "slow", Latency(700), Stream.DOWNSTREAM)
        backend.renew_toxiproxy("a")
        assert all(not proxy["toxics"] for proxy in server.proxies().values())
    assert eventually(lambda: client.get("k")) == "kept"
    with closing(folder.through_links.new_memcached("memcached-a")) as memcached:
        assert eventually(memcached.version)


def test_addresses(folder: Folder, backend: ComposeBackend) -> None:
    """The backend returns the addresses of the folder's plan."""
    for node in NODES:
        assert backend.endpoint(node) == folder.plan.endpoint(node)
        assert backend.admin(node) == folder.plan.admin(node)


def test_start_undoes_what_was_left(folder: Folder) -> None:
    """Toxics, disabled proxies and other roles that a dead control plane has left are undone."""
    with closing(ToxiproxyClient(folder.plan.toxiproxy("b"))) as server:
        server.add_toxic("b-to-redis-a", "left", Latency(1000), Stream.UPSTREAM)
        server.set_enabled("client-to-memcached-b", False)
        folder.admin.redis("redis-b").execute_command("CLUSTER FAILOVER", "TAKEOVER")
        ComposeBackend(folder.path).start(lambda _: None)
        assert server.proxy("b-to-redis-a")["toxics"] == []
        assert server.proxy("client-to-memcached-b")["enabled"]
    assert folder.admin.redis("redis-a").role()[0] == "master"


def test_start_leaves_the_well_alone(folder: Folder, backend: ComposeBackend) -> None:
    """Clients stay connected while a backend attaches and detaches."""
    client = folder.through_links.redis("redis-a")
    before = client.client_id()
    other = ComposeBackend(folder.path)
    other.start(lambda _: None)
    other.stop()
    assert client.client_id() == before
    assert {backend.state(node) for node in NODES} == {NodeState.RUNNING}


def test_not_up(unused: Folder) -> None:
    """The error for a folder that is not up has the command that brings it up."""
    with pytest.raises(StartError, match=r"is not up.*docker compose -f .* up -d"):
        ComposeBackend(unused.path).start(lambda _: None)


def test_node_is_down(folder: Folder, backend: ComposeBackend) -> None:
    """A container that is not running is named, with what to do; then it works."""
    backend.kill("memcached-c")
    with pytest.raises(StartError, match=r"memcached-c \(exited\).*up -d"):
        ComposeBackend(folder.path).start(lambda _: None)
    folder.up()
    ComposeBackend(folder.path).start(lambda _: None)


def test_node_is_paused(folder: Folder, backend: ComposeBackend) -> None:
    """A paused container is named, with what to do; then it works."""
    backend.pause("redis-b")
    with pytest.raises(StartError, match=r"paused: redis-b.*unpause"):
        ComposeBackend(folder.path).start(lambda _: None)
    folder.compose("unpause", "redis-b")
    ComposeBackend(folder.path).start(lambda _: None)


def test_other_secrets(folder: Folder) -> None:
    """The error for servers with other secrets than the folder says what to do."""
    kept = folder.path / "secrets.kept"
    (folder.path / "secrets").rename(kept)
    try:
        write_folder(folder.path, Settings(), folder.plan.ports["a"].redis)
        with pytest.raises(StartError, match=r"(?s)does not answer.*--force-recreate"):
            ComposeBackend(folder.path, start_timeout=0.1).start(lambda _: None)
    finally:
        shutil.rmtree(folder.path / "secrets")
        kept.rename(folder.path / "secrets")
