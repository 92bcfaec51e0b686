"""The life of a detached topology: its start, its end, and what is left when it is killed."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from cachesim.runs.owner import Owner
from tests.contract.helpers import until
from tests.processes import Process, call, left_behind, ready

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="sends signals to processes"),
    pytest.mark.usefixtures("on_backend", "alone"),
]

KILLS = int(os.environ.get("CACHESIM_TEST_KILLS", "3"))
"""How often an owner is killed at a random moment, of either kind of topology."""


@pytest.fixture
def name() -> str:
    """A name that no other run has, and that tells whose it is."""
    return f"life-{os.urandom(3).hex()}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder for the files of a test's processes."""
    yield tmp_path
    if owners(tmp_path):  # the test has failed
        for pid in owners(tmp_path):
            kill(pid)
        run(tmp_path, "gc")


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command in a process of its own."""
    return call(folder, "-m", "cachesim", *arguments)


def up(folder: Path, name: str) -> int:
    """Start a detached topology; its pid."""
    done = run(folder, "up", "-d", "--json", "--name", name, "--speed", "100")
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["pid"])


def down(folder: Path, name: str) -> None:
    """Take it down."""
    done = run(folder, "down", "--name", name)
    assert (done.returncode, done.stdout) == (0, f"The topology {name} is down.\n"), done.stderr
    assert left_behind(name, folder) == []


def gc(folder: Path, name: str) -> None:
    """Remove what is left of a killed one, and maybe of others that this engine has."""
    done = run(folder, "gc", "--json")
    assert done.returncode == 0, done.stderr
    assert name in json.loads(done.stdout)["removed"]
    assert left_behind(name, folder) == []


def owners(folder: Path) -> list[int]:
    """The processes that have files there."""
    found = []
    for file in folder.glob("cachesim/runs/*/owner"):
        with suppress(OSError, IndexError):  # just being written, or removed
            found.append(int(file.read_text().split()[-2]))
    return found


def kill(pid: int) -> None:
    """SIGKILL, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(psutil.NoSuchProcess):  # or a zombie
        until(lambda: psutil.Process(pid).status() == "zombie")


# --- starts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["starting", "waiting until all"])
def test_interrupt_while_it_starts(folder: Path, name: str, step: str) -> None:
    """Ctrl-C in any step takes down what there is before the command ends."""
    with Process(folder, "up", "-d", "--name", name) as process:
        process.wait_for(step)
        process.interrupt()
        assert process.end() == 130
    assert left_behind(name, folder) == []
    assert process.err.endswith("Taking everything down.\n")
    assert process.out == ""


def test_launcher_is_killed_while_it_starts(folder: Path, name: str) -> None:
    """If the command is killed, the process that it has started notices and takes all down."""
    with Process(folder, "up", "-d", "--name", name) as process:
        process.wait_for("starting")
        (daemon,) = psutil.Process(process.popen.pid).children()
        process.interrupt(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL
    daemon.wait(60)
    assert left_behind(name, folder) == []


def test_daemon_is_killed_while_it_starts(folder: Path, name: str) -> None:
    """If the topology's process is killed, the command says so."""
    with Process(folder, "up", "-d", "--name", name) as process:
        process.wait_for("starting")
        (daemon,) = psutil.Process(process.popen.pid).children()
        daemon.kill()
        assert process.end() == 1
    assert process.err.splitlines()[-1] == (
        "Error: the topology's process ended with exit code -9 during the start. `cachesim gc` "
        "removes what it may have left."
    )
    gc(folder, name)


on_docker = pytest.mark.parametrize("backend", ["docker"], indirect=True)


@on_docker
def test_no_engine(folder: Path, name: str) -> None:
    """Without an engine the message is that of `up`, and nothing is left."""
    with Process(folder, "up", "-d", "--name", name, DOCKER_HOST="tcp://127.0.0.1:1") as process:
        assert process.end() == 1
    assert re.fullmatch(r"Error: no Docker engine answers at .* Start Docker, or .*\n", process.err)
    assert not list(folder.glob("cachesim*/*"))


@pytest.mark.parametrize("backend", ["embedded"], indirect=True)
def test_no_engine_is_needed(folder: Path, name: str) -> None:
    """Without a chosen backend and without an engine, it is embedded, and the output says so."""
    up = ["up", "-d", "--json", "--name", name, "--backend", "auto"]
    with Process(folder, *up, DOCKER_HOST="tcp://127.0.0.1:1") as process:
        assert process.end() == 0, process.err
    assert json.loads(process.out)["backend"] == "embedded"
    assert re.match(r".*[Cc]onnection refused.*: the nodes are emulated\n", process.err)
    down(folder, name)


def test_two_at_one_moment(folder: Path, name: str) -> None:
    """Of two that start under one name at one moment, exactly one comes up."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(Process(folder, "up", "-d", "--name", name)) for _ in range(2)
        ]
        codes = [process.end() for process in processes]
    assert sorted(codes) == [0, 1]
    (loser,) = (it for it in processes if it.end() == 1)
    assert f"Error: a topology named {name!r} is running already." in loser.err
    assert len(json.loads(run(folder, "status", "--json").stdout)["topologies"]) == 1
    down(folder, name)


ON_A_TERMINAL = """
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
"""
"""Runs a command on a terminal of its own. It forks, which a process with threads must not."""


def test_terminal_is_closed(folder: Path, name: str) -> None:
    """A detached topology outlives its terminal."""
    command = [sys.executable, "-m", "cachesim", "up", "-d", "--name", name]
    done = call(folder, "-c", ON_A_TERMINAL, *command)
    assert done.returncode == 0, done
    assert f'eval "$(cachesim env --name {name})"' in done.stdout
    state = json.loads(run(folder, "status", "--json").stdout)["topologies"][0]
    daemon = psutil.Process(state["pid"])
    assert daemon.terminal() is None
    assert os.getsid(daemon.pid) == daemon.pid  # SIGHUP goes to the terminal's session
    down(folder, name)


OTHER = """
import sys
from cachesim import Simulator
with Simulator(backend="embedded", name="other"):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_beside_another_program(folder: Path, name: str) -> None:
    """The topology of a script is no candidate for commands without a name, before and after."""
    with ready(folder, OTHER) as script:
        alone = run(folder, "kill", "redis-b")
        assert alone.returncode == 1
        assert alone.stderr.startswith(
            f"Error: no topology is free: 'other' belongs to process {script.pid}, such as a test "
        )
        assert run(folder, "env", "--name", "other").returncode == 0
        up(folder, name)
        killed = run(folder, "kill", "redis-b")
        assert (killed.returncode, killed.stdout) == (0, "redis-b was killed.\n"), killed.stderr
        script.communicate()  # until it has ended
    down(folder, name)


# --- owned --------------------------------------------------------------------------------------

OWNER = """
import sys
from cachesim import Simulator
from cachesim.errors import NotRunning

with Simulator(name=sys.argv[1], replacement_seconds=(9000, 9000)) as sim:
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            print(eval(line), flush=True)
        except NotRunning:
            print("not running", flush=True)
"""


def ask(owner: "subprocess.Popen[str]", expression: str) -> str:
    """Let a script of an owner evaluate something; what it prints."""
    assert owner.stdin
    assert owner.stdout
    print(expression, file=owner.stdin, flush=True)
    return owner.stdout.readline().strip()


def test_owned_by_another_process(folder: Path, name: str) -> None:
    """Any process can look at a topology that nobody leases, break it, and take it down."""
    with ready(folder, OWNER, name) as owner:
        done = run(folder, "status", "--json", "--name", name)
        (state,) = json.loads(done.stdout)["topologies"]
        assert (state["owned_by"], state["leased_by"]) == (f"process {owner.pid}", None)
        assert state["pid"] != owner.pid
        done = run(folder, "kill", "--name", name, "redis-b")
        assert (done.returncode, done.stdout) == (0, "redis-b was killed.\n"), done.stderr
        assert ask(owner, "sim.nodes['redis-b'].state, sim.faults.active") == (
            "(<NodeState.STOPPED: 'stopped'>, [<kill on redis-b>])"
        )
        assert ask(owner, "sim.events.of('fault')[0].source") == "redis-b"
        assert run(folder, "heal", "--name", name).returncode == 0
        assert ask(owner, "str(sim.nodes['redis-b'].state)") == "running"
        down(folder, name)
        assert ask(owner, "sim.nodes['redis-b'].state") == "not running"
        owner.communicate()
        assert owner.returncode == 0


@pytest.mark.parametrize(
    "command",
    ["kill redis-b", "restart redis-b", "fault isolate a", "heal", "failover", "reset", "down"],
)
def test_leased_by_its_owner(leased: tuple[Path, str, int], command: str) -> None:
    """While the owner has the lease, the others may only look; they are told who has it."""
    folder, name, pid = leased
    word, *others = command.split()
    done = run(folder, word, *others, "--name", name)
    assert (done.returncode, done.stdout) == (1, "")
    told = rf"Error: the topology '{name}' has been leased by process {pid} for \d+ s: wait until "
    assert re.match(told, done.stderr)


@pytest.mark.parametrize("command", ["status", "env", "events", "logs redis-a", "fault list"])
def test_looking_at_a_leased_one(leased: tuple[Path, str, int], command: str) -> None:
    """Commands that change nothing work meanwhile."""
    folder, name, _ = leased
    done = run(folder, *command.split(), "--name", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.fixture(scope="module")
def leased(
    backend: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str, int]]:
    """A topology that its owner has leased: the folder of its files, its name, and that process."""
    folder, name = tmp_path_factory.mktemp("leased"), f"leased-{os.urandom(3).hex()}"
    script = f"import os\nos.environ['CACHESIM_BACKEND'] = {backend!r}\n{OWNER}"
    with ready(folder, script, name) as owner:
        assert ask(owner, "sim.lease()") == "None"
        yield folder, name, owner.pid
        # Nothing was changed, however busy the machine was; by force, it is taken down.
        changes = "[it.kind for it in sim.events if it.kind != 'standstill'], sim.faults.active"
        assert ask(owner, changes) == "(['started', 'leased'], [])"
        done = run(folder, "down", "--force", "--name", name)
        assert (done.returncode, done.stdout) == (0, f"The topology {name} is down.\n")
        assert ask(owner, "sim.reset()") == "not running"
        owner.communicate()
        assert owner.returncode == 0
    assert left_behind(name, folder) == []


def test_detached_by_its_owner(folder: Path, name: str) -> None:
    """A topology that its owner has detached goes on, and is for commands without a name."""
    with ready(folder, OWNER, name) as owner:
        assert run(folder, "kill", "redis-b").returncode == 1
        assert ask(owner, "sim.detach()") == "None"
        assert ask(owner, "sim.nodes") == "not running"
        owner.communicate()
        assert owner.returncode == 0
    done = run(folder, "kill", "redis-b")
    assert (done.returncode, done.stdout) == (0, "redis-b was killed.\n"), done.stderr
    (state,) = json.loads(run(folder, "status", "--json").stdout)["topologies"]
    assert state["owned_by"] is None
    down(folder, name)


# --- ends ---------------------------------------------------------------------------------------


def test_down_waits_for_the_end(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`down` returns when the process has ended, even if that takes long after all is down."""
    (folder / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "if any('daemon' in word for word in sys.orig_argv):\n"
        "    end = os._exit\n"
        "    os._exit = lambda code: (time.sleep(2), end(code))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    up(folder, name)
    (file,) = folder.glob("cachesim/runs/*/owner")
    owner = Owner.parse(file.read_text())
    down(folder, name)
    assert owner
    assert owner.is_gone


def test_down_of_one_that_hangs(folder: Path, name: str) -> None:
    """`status` reports a process that is stopped; `down` resumes it and ends it in order."""
    os.kill(up(folder, name), signal.SIGSTOP)
    down(folder, name)


def test_down_of_one_in_the_foreground(folder: Path, name: str) -> None:
    """`up` without -d ends too, as after Ctrl-C."""
    with Process(folder, "up", "--name", name) as process:
        process.wait_for("Ctrl-C takes everything down")
        down(folder, name)
        assert process.end() == 0
    assert process.err.endswith("Everything is down.\n")


def test_followers_end(folder: Path, name: str) -> None:
    """Following events or a log ends with the topology, without an error."""
    up(folder, name)
    with (
        Process(folder, "events", "-f") as events,
        Process(folder, "logs", "-f", "redis-a") as logs,
    ):
        events.wait_for("started")
        logs.wait_for("Ready to accept")
        down(folder, name)
        assert (events.end(), logs.end()) == (0, 0)
    assert (events.err, logs.err) == ("", "")


def test_sigterm(folder: Path, name: str) -> None:
    """The end of the system, say, takes it down in order."""
    pid = up(folder, name)
    os.kill(pid, signal.SIGTERM)
    until(lambda: not psutil.pid_exists(pid), 60)
    assert left_behind(name, folder) == []


def test_killed_beside_another(folder: Path, name: str) -> None:
    """What a killed process left is reported and removed; another topology is left alone."""
    other = f"{name}-other"
    pid = up(folder, name)
    up(folder, other)
    before = left_behind(other, folder)
    kill(pid)

    done = run(folder, "status", "--name", name)
    told = (
        f"process of topology {name!r} (pid {pid}) has ended without taking it down. `cachesim gc` "
        "removes what it left; `cachesim up` starts another topology.\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"The {told}")
    done = run(folder, "status")
    assert (done.returncode, done.stderr) == (0, f"The {told}")
    assert done.stdout.startswith(f"{other}: up for ")
    assert json.loads(run(folder, "status", "--json").stdout)["dead"] == [
        {"name": name, "pid": pid}
    ]
    for command in ("down", "events"):
        done = run(folder, command, "--name", name)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: the {told}")

    done = run(folder, "gc", "--json")
    assert name in json.loads(done.stdout)["removed"]
    mine = [it for it in before if name not in it.replace(other, "")]
    assert left_behind(other, folder) == mine
    with_redis = run(folder, "shell", "--name", other, "redis-a", "PING")
    assert with_redis.stdout.strip() in ("PONG", "True")
    down(folder, other)


def test_killed_where_nothing_can_be_written(folder: Path, name: str) -> None:
    """All works, and all goes, with no state folder and too long a path for a socket."""
    (folder / "file").touch()
    deep = folder / ("long" * 25)
    deep.mkdir()

    def there(*arguments: str) -> Process:
        return Process(folder, *arguments, XDG_STATE_HOME=str(folder / "file"), TMPDIR=str(deep))

    try:
        with there("up", "-d", "--json", "--name", name) as process:
            assert process.end() == 0, process.err
        (file,) = deep.rglob("address.json")
        short = Path(json.loads(file.read_text())["address"]).parent
        assert short.parent == Path("/tmp")  # noqa: S108
        kill(json.loads(process.out)["pid"])
        with there("status") as process:
            assert process.end() == 3
        assert "has ended without taking it down" in process.err
    finally:
        with there("gc") as process:
            assert process.end() == 0
    assert name in process.out
    assert left_behind(name, folder) == []
    assert [it for it in deep.rglob("*") if not it.is_dir()] == []
    assert not short.exists()


@on_docker
def test_engine_that_is_gone(folder: Path, name: str) -> None:
    """What can't be taken down is reported, and `gc` removes it."""
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not Path(where.removeprefix("unix://")).is_socket():
        pytest.skip(f"the engine's socket is no file: {where}")
    link = folder / "engine"
    link.symlink_to(where.removeprefix("unix://"))
    with Process(folder, "up", "-d", "--name", name, DOCKER_HOST=f"unix://{link}") as process:
        assert process.end() == 0, process.err
    link.unlink()
    done = run(folder, "down", "--name", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"not everything of the topology {name!r} could be taken down: " in done.stderr
    assert "`cachesim gc`, or the next start of a topology, removes what is left" in done.stderr
    gc(folder, name)


def test_several_gc_at_one_moment(folder: Path, name: str) -> None:
    """Several that remove the same don't stumble over each other."""
    kill(up(folder, name))
    with ExitStack() as stack:
        processes = [stack.enter_context(Process(folder, "gc")) for _ in range(3)]
        assert [(it.end(), it.err) for it in processes] == [(0, "")] * 3
    assert left_behind(name, folder) == []


# --- killed at any moment -----------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(KILLS))
@pytest.mark.parametrize("how", ["up", "up -d"])
def test_killed_at_any_moment(folder: Path, name: str, how: str, turn: int) -> None:
    """Whenever the owner is killed, `gc` or the next start leaves nothing behind."""
    draws = random.Random(f"{how} {turn}")
    moment = ("start", "run", "stop")[turn % 3]
    with ExitStack() as stack:
        arguments = [*how.split(), "--name", name, "--speed", "100"]
        process = stack.enter_context(Process(folder, *arguments))
        if moment == "start":
            time.sleep(draws.uniform(0, 4))  # it is the moment that is tested, whatever it is
        else:
            process.wait_for("cachesim env")
            others = ["failover", "reset", "kill redis-a", "events -f"]
            other = draws.choice(others if moment == "run" else ["down"]).split()
            beside = stack.enter_context(Process(folder, *other))
            time.sleep(draws.uniform(0, 2))
        kill_owner(folder, process)
        process.end()
        if moment != "start":
            beside.end()
            assert "Traceback" not in beside.err
    assert "Traceback" not in process.err

    if draws.random() < 0.5:
        done = run(folder, "gc")
        assert done.returncode == 0, done.stderr
    else:
        up(folder, f"{name}-next")
        run(folder, "down")
    assert left_behind(name, folder) == []


def kill_owner(folder: Path, process: Process) -> None:
    """Kill the process of the topology."""
    pids = owners(folder)
    if not pids:  # it has no files yet, or no more
        with suppress(psutil.NoSuchProcess):
            launcher = psutil.Process(process.popen.pid)
            pids = [it.pid for it in launcher.children()] or [launcher.pid]
    for pid in pids:
        kill(pid)
