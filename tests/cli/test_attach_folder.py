"""Commands on a topology that `docker compose` runs, with their effect on a real client."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cachesim import Simulator
from cachesim.cli.app import main
from cachesim.errors import CachesimError, NotReady
from cachesim.runs.registry import find_run, living_runs
from cachesim.servers.admin import errors
from cachesim.toxiproxy.client import ToxiproxyClient
from tests.composed import Folder
from tests.contract.helpers import plain_client, until
from tests.processes import Process, call

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.usefixtures("compose", "alone"),
    pytest.mark.skipif(os.name != "posix", reason="sends signals to processes"),
]


@pytest.fixture(scope="module")
def folder(compose: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A folder that is up."""
    with closing(Folder(tmp_path_factory.mktemp("attach"), compose)) as it:
        it.up()
        yield it


@pytest.fixture
def name(folder: Folder, alone: Path) -> Iterator[str]:
    """The name of a topology to attach to, from which all is detached in the end."""
    yield folder.path.name
    for run in living_runs():
        done = call(alone, "-m", "cachesim", "down", "--name", run.name)
        assert done.returncode == 0, done.stderr


def run(*arguments: str) -> Result:
    """Run a command in this process."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        return CliRunner().invoke(main, arguments)
    finally:
        # At its end a command may ignore signals; processes that start later would inherit that.
        for number, handler in before.items():
            signal.signal(number, handler)


def ok(*arguments: str) -> str:
    """Run a command that has to succeed; its stdout."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def attach(folder: Folder) -> Any:
    """Attach to it; what is said of it."""
    return json.loads(ok("attach", str(folder.path), "--speed", "100", "--seed", "7", "--json"))


def detach(folder: Folder, *options: str) -> None:
    """Detach from it."""
    assert ok("down", *options) == (
        f"Nothing is attached to {folder.path.name} any more. Its containers keep running: "
        f"`docker compose -f {folder.path}/docker-compose.yml down` takes them down.\n"
    )
    assert living_runs() == []


def is_well(folder: Folder) -> bool:
    """Whether clients find all nodes there, and no toxics."""
    for zone in folder.plan.topology.zones:
        with closing(ToxiproxyClient(folder.plan.toxiproxy(zone.name))) as server:
            proxies = server.proxies().values()
        if any(proxy["toxics"] or not proxy["enabled"] for proxy in proxies):
            return False
    for node in folder.plan.topology.memcached:
        with closing(folder.through_links.new_memcached(node.name)) as client:
            client.version()
    roles = [folder.through_links.redis(n.name).role() for n in folder.plan.topology.redis]
    return sorted(role[0] for role in roles) == ["master", "slave", "slave"] and all(
        role[3] == "connected" for role in roles if role[0] == "slave"
    )


def containers(folder: Folder) -> set[str]:
    """The ids of its containers."""
    return set(folder.compose("ps", "-q").split())


# --- attached -------------------------------------------------------------------------------


def test_status(folder: Folder, name: str) -> None:
    """It is a topology like any other, with `compose` as its backend."""
    state = attach(folder)
    assert (state["name"], state["backend"], state["speed"]) == (name, "compose", 100)
    assert state["folder"] == str(folder.path)
    assert [it["state"] for it in state["nodes"]] == ["running"] * 6
    assert state["nodes"][0]["endpoint"] == str(folder.plan.endpoint("redis-a"))
    text = ok("status")
    assert re.search(rf"^{name}: up for \d+ s in process {state['pid']}, available$", text, re.M)
    assert f"backend compose ({folder.path}), engine redis, speed 100, seed 7\n" in text


def test_env(folder: Folder, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables lead a client to the nodes, and don't confuse the commands after them."""
    attach(folder)
    env = json.loads(ok("env", "--json", "--show-secrets"))
    assert (env["CACHESIM_NAME"], env["CACHESIM_BACKEND"]) == (name, "compose")
    with closing(plain_client(env, folder.plan.endpoint("redis-a"))) as client:
        assert client.ping()
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    assert ok("status", "--name", name)
    assert json.loads(ok("config", "--json"))["backend"]["value"] == "auto"
    detach(folder)


def test_failover(folder: Folder, name: str) -> None:
    """Its control plane fails over when the primary is killed; then that is back as a replica."""
    attach(folder)
    folder.keep("session:1", "here")
    with closing(folder.redis()) as redis:
        ok("kill", "redis-a")
        with Process(Path.cwd(), "events", "-f") as events:
            events.wait_for("Failover from primary node redis-a to replica node redis-[bc]")
            events.wait_for("Finished recovery for cache nodes redis-a")
            events.interrupt()
        assert redis.get("session:1") == "here"
    until(lambda: find_run(name) and is_well(folder), 30)
    assert "Ready to accept connections" in ok("logs", "redis-a")


def test_fault(folder: Folder, name: str) -> None:
    """A fault is there for clients until it is healed."""
    attach(folder)
    env = find_run(name).env(secrets=True)
    assert env
    ok("fault", "blackhole", "client-to-redis-b")

    def answers(node: str) -> bool:
        with closing(plain_client(env, folder.plan.endpoint(node))) as client:
            try:
                return bool(client.ping())
            except errors():
                return False

    assert not answers("redis-b")
    assert answers("redis-c")
    ok("heal")
    assert answers("redis-b")


def test_pytest(
    folder: Folder, name: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`pytest --cachesim-attach` tests on it, and leaves it as new."""
    attach(folder)
    monkeypatch.setenv("CACHESIM_BACKEND", "compose")  # as after `eval "$(cachesim env)"`
    pytester.makepyfile(
        f"""
        def test_failover(cachesim, redis_cluster):
            assert (cachesim.name, cachesim.backend) == ({name!r}, "compose")
            primary = redis_cluster.get_redis_connection(redis_cluster.get_primaries()[0])
            primary.set("k", "v")
            assert primary.wait(2, 5000) == 2
            cachesim.redis.primary.kill()
            assert cachesim.redis.wait_for_failover().name != "redis-a"
            assert redis_cluster.get("k") == "v"
            cachesim.memcached["c"].pause()

        def test_as_new(cachesim, redis_cluster, memcached):
            assert cachesim.redis.primary.name == "redis-a"
            assert redis_cluster.get("k") is None
            assert memcached.set("k", "v", noreply=False)
            cachesim.memcached["b"].kill()
        """
    )
    plugin = ["-p", "no:cachesim", "-p", "pytest_cachesim"]  # whether it is installed or not
    arguments = ["-p", "no:cacheprovider", "--cachesim", "--cachesim-attach"]
    result = pytester.runpytest_subprocess(*plugin, *arguments, "--cachesim-speed=100")
    result.assert_outcomes(passed=2)
    assert json.loads(ok("status", "--json"))["topologies"][0]["leased_by"] is None
    assert is_well(folder)
    with closing(folder.redis()) as redis:
        assert redis.get("k") is None


# --- detached -------------------------------------------------------------------------------

BROKEN: dict[str, list[str]] = {
    "links": [
        "fault latency * --ms 300",
        "fault blackhole client-to-memcached-a",
        "fault refuse client-to-redis-c",
        "fault partition b c",
    ],
    "nodes": ["kill redis-c", "pause memcached-a", "stop memcached-b"],
    "zone": ["fault az-power a"],
    "primary": ["pause redis-a"],
}


@pytest.mark.parametrize("how", BROKEN)
def test_down(folder: Folder, name: str, how: str) -> None:
    """`down` heals everything, ends the process, and leaves the containers and their data."""
    before = containers(folder)
    attach(folder)
    owner = find_run(name).owner
    folder.keep("kept", how)
    for command in BROKEN[how]:
        ok(*command.split())
    detach(folder)
    until(lambda: owner.is_gone)
    assert containers(folder) == before
    assert is_well(folder)
    with closing(folder.redis()) as redis:
        assert redis.get("kept") == how
        redis.set("written", "afterwards")
    assert run("status", "--name", name).exit_code == 3


CHANGES = (
    "memory-fill redis-b",
    "connection-limit redis-c --most 1",
    "auth-rotate redis-a",
    "slow memcached-b --cpu 5",
    "pause memcached-c --flap 20ms 20ms",
)


@pytest.mark.usefixtures("name")
def test_down_undoes_changes_of_servers(folder: Folder) -> None:
    """What faults have changed in servers is undone too, and none comes back meanwhile."""
    attach(folder)
    admin = [folder.admin.redis(node.name) for node in folder.plan.topology.redis]
    before = [client.config_get("max*") for client in admin]
    with closing(folder.through_links.new_memcached("memcached-c")) as client:
        client.set("kept", "v")
    for command in CHANGES:
        ok("fault", *command.split())
    detach(folder)
    assert is_well(folder)
    assert [client.config_get("max*") for client in admin] == before
    with closing(folder.redis()) as redis:  # with the token of the folder
        redis.set("written", "afterwards")
    with closing(folder.through_links.new_memcached("memcached-c")) as client:
        assert client.get("kept") == b"v"
    assert quota(folder, "memcached-b") <= 0


def quota(folder: Folder, node: str) -> int:
    """The microseconds of a processor that a node's container has in a period; 0, -1: no limit."""
    from cachesim.backends.containers.engine import connect

    (container,) = folder.compose("ps", "-q", node).split()
    with closing(connect().client) as engine:
        return int(engine.containers.get(container).attrs["HostConfig"]["CpuQuota"])


def test_down_json(folder: Folder, name: str) -> None:
    """For programs too it says that the topology was not taken down."""
    attach(folder)
    assert json.loads(ok("down", "--json")) == {"name": name, "state": "detached"}


def test_down_while_leased(folder: Folder, name: str) -> None:
    """Faults of the process that holds a lease are healed too."""
    attach(folder)
    with Simulator.attach(name) as sim:
        sim.nodes["memcached-c"].kill()
        sim.faults.pause("redis-b")
        detach(folder, "--force", "--name", name)
        assert is_well(folder)


def test_down_after_compose(compose: list[str], name: str, tmp_path: Path) -> None:
    """If the containers are gone before, it ends nevertheless."""
    assert name
    with closing(Folder(tmp_path, compose)) as it:
        it.up()
        attach(it)
        it.compose("down", "-v")
        detach(it)


def test_again(folder: Folder, name: str) -> None:
    """Attaching and detaching can be repeated, but nobody can attach twice at a time."""
    attach(folder)
    result = run("attach", str(folder.path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"Error: a topology named {name!r} is running already." in result.stderr
    detach(folder)
    attach(folder)
    detach(folder)


def test_killed(folder: Folder, name: str) -> None:
    """A killed process is told; its containers are not removed, and the next one heals them."""
    before = containers(folder)
    pid = attach(folder)["pid"]
    ok("fault", "latency", "client-to-redis-a", "--ms", "300")
    os.kill(pid, signal.SIGKILL)
    until(lambda: find_run_fails(name))
    said = (
        f"process that was attached to topology {name!r} (pid {pid}) has ended without healing it. "
        "`cachesim attach`, with the same folder, heals it.\n"
    )
    result = run("status")
    assert (result.exit_code, result.stderr) == (3, f"The {said}")
    assert run("heal", "--name", name).stderr == f"Error: the {said}"
    ok("gc")
    assert containers(folder) == before
    attach(folder)
    assert is_well(folder)


def find_run_fails(name: str) -> bool:
    """Whether no process is there for it any more."""
    try:
        find_run(name)
    except CachesimError:
        return True
    return False


@pytest.mark.parametrize("step", ["looking for", "checking the cluster"])
def test_interrupt(folder: Folder, name: str, alone: Path, step: str) -> None:
    """Ctrl-C while it attaches leaves no process, and the containers as they were."""
    before = containers(folder)
    with Process(alone, "attach", str(folder.path)) as process:
        process.wait_for(step)
        process.interrupt()
        assert process.end() == 130
    assert process.err.endswith("Detaching from it.\n")
    assert run("status", "--name", name).exit_code == 3
    assert containers(folder) == before
    assert is_well(folder)


# --- mistakes -------------------------------------------------------------------------------


def no_folder(folder: Folder) -> Path:
    """Return a folder that does not exist."""
    return folder.path / "nothing"


def not_up(folder: Folder) -> Path:
    """Return a folder whose containers are not up."""
    other = folder.path.parent / "not-up"
    ok("compose", str(other))
    return other


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (no_folder, r"is no folder of `cachesim compose`: .*Write one with `cachesim compose "),
        (not_up, r"not-up is not up. Bring it up with `docker compose -f .*yml up -d --wait`\.$"),
    ],
)
def test_mistake(folder: Folder, make: Callable[[Folder], Path], told: str) -> None:
    """If attaching fails, the error says what to do."""
    result = run("attach", str(make(folder)))
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(f"^Error: .*{told}", result.stderr, re.M)
    assert living_runs() == []


# --- from Python ----------------------------------------------------------------------------


def test_simulator(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `Simulator` can have it, as what its folder was written for, and leaves it healed."""
    monkeypatch.setenv("CACHESIM_ENGINE", "valkey")
    monkeypatch.setenv("CACHESIM_NAME", "another")
    with Simulator.attach_composed(folder.path, speed=100) as sim:
        assert (sim.name, sim.backend) == (folder.path.name, "compose")
        (state,) = json.loads(ok("status", "--name", sim.name, "--json"))["topologies"]
        assert state["folder"] == str(folder.path)
        assert (sim.settings.engine, sim.settings.speed) == ("redis", 100)
        folder.keep("k", "v")
        with closing(sim.redis_cluster()) as redis:
            sim.redis.primary.kill()
            new = sim.redis.wait_for_failover()
            assert redis.get("k") == "v"
        sim.faults.latency("client-to-redis-b", ms=300)
        sim.faults.pause(new.name)
    assert is_well(folder)
    with closing(folder.redis()) as redis:
        assert redis.get("k") == "v"


FAILS = """
from cachesim.daemon import readiness
from cachesim.errors import NotReady

def fail(provision, _deadline):
    provision.backend.pause("memcached-b")
    raise NotReady("memcached-b does not answer", "memcached-b")

readiness.wait_through_links = fail
"""


def test_simulator_fails(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attach that failed leaves the containers healthy, and no files."""
    # The topology's process imports it when it starts.
    (tmp_path / "sitecustomize.py").write_text(FAILS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    with pytest.raises(NotReady, match="memcached-b does not answer") as failure:
        Simulator.attach_composed(folder.path).start()
    assert failure.value.node == "memcached-b"
    assert is_well(folder)
    assert living_runs() == []
