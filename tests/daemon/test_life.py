"""The end of an owner, of a daemon, or of both: what is left, and what the survivor is told."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.contract.helpers import until
from tests.processes import call, daemons, environment, is_gone

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="sends signals to processes"),
    pytest.mark.usefixtures("on_backend", "alone"),
]

KILLS = int(os.environ.get("CACHESIM_TEST_KILLS", "3"))
"""How often an owner, its daemon, or both are killed at a random moment, on each backend."""
on_embedded = pytest.mark.parametrize("backend", ["embedded"], indirect=True)


@pytest.fixture
def name() -> str:
    """A name that no other run has, and that tells whose it is."""
    return f"life-{os.urandom(3).hex()}"


@pytest.fixture
def within(backend: str) -> float:
    """The seconds after an owner's end within which all is gone.

    Containers are gone after 2 s if the machine has nothing else to do.
    """
    return 3 if backend == "embedded" else 30


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder for the files of a test's processes."""
    yield tmp_path
    left = daemons(tmp_path)
    for process in left:  # the test has failed
        process.kill()
    if left:
        call(tmp_path, "-m", "cachesim", "gc")


@contextmanager
def owner(
    folder: Path, name: str, script: str, *options: str, **variables: str
) -> "Iterator[subprocess.Popen[str]]":
    """A script with `sim`, not started yet; it is killed in the end."""
    start = "import os, signal, sys\nfrom cachesim import Simulator\n"
    with subprocess.Popen(
        [sys.executable, *options, "-c", f"{start}{script}", name],
        cwd=folder,
        env=environment(folder, **variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: "subprocess.Popen[str]", line: str) -> None:
    """Wait for a line on its stdout."""
    assert process.stdout
    assert process.stderr
    if (found := process.stdout.readline()) != f"{line}\n":
        process.kill()
        pytest.fail(f"{found!r}, {process.stderr.read()}")


RUNNING = "sim = Simulator(name=sys.argv[1], speed=100).start()\n"

# --- the owner ends -----------------------------------------------------------------------------

ENDS = {
    "exit": ("sys.exit(3)", 3),
    "exception": ("1 / 0", 1),
    "os._exit": ("os._exit(4)", 4),
    "exec": ("os.execv(sys.executable, [sys.executable, '-c', 'input()'])", None),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", -9),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)", -15),
    "SIGHUP": (  # which is ignored where the tests run under nohup
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\nos.kill(os.getpid(), signal.SIGHUP)",
        -1,
    ),
    "SIGABRT": ("os.abort()", -6),
}
CHILDREN = {
    "none": "",
    "os.fork": "if not os.fork(): signal.pause()\n",
    "multiprocessing": (
        "import multiprocessing\n"
        "multiprocessing.get_context('fork').Process(target=signal.pause, daemon=True).start()\n"
    ),
    "fork of C": (  # no hook of Python's closes the child's copies of the pipe and the sockets
        "import ctypes\nC = ctypes.CDLL(None)\nif not C.fork(): C.pause()\n"
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_owner_ends(folder: Path, name: str, within: float, how: str) -> None:
    """However an owner ends, everything of its topology goes."""
    end, code = ENDS[how]
    with owner(folder, name, f"{RUNNING}print('up', flush=True)\ninput()\n{end}") as process:
        said(process, "up")
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
        if code is not None:
            assert process.wait(60) == code
        until(lambda: is_gone(folder, name), within)


@pytest.mark.parametrize("stage", ["made", "running"])
@pytest.mark.parametrize("child", CHILDREN)
def test_owner_is_killed_with_a_child(
    folder: Path, name: str, within: float, child: str, stage: str
) -> None:
    """A child of the owner that outlives it, with copies of what it had open, changes nothing."""
    made = "sim = Simulator(name=sys.argv[1], speed=100)\n"
    script = f"{RUNNING if stage == 'running' else made}{CHILDREN[child]}"
    with owner(folder, name, f"{script}print('up', flush=True)\ninput()") as process:
        said(process, "up")
        me = psutil.Process(process.pid)
        children = [it for it in me.children() if it not in daemons(folder)]
        assert len(children) == (child != "none")
        assert daemons(folder)
        process.kill()
        try:
            until(lambda: is_gone(folder, name), within)
            assert all(it.is_running() for it in children)
        finally:
            for it in children:
                it.kill()


def test_owner_that_blocks_signals(folder: Path, name: str, within: float) -> None:
    """A daemon ends though its owner has blocked or ignored signals, which a child inherits."""
    script = (
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
    )
    with owner(folder, name, f"{script}{RUNNING}print('up', flush=True)\ninput()") as process:
        said(process, "up")
        process.kill()
        until(lambda: is_gone(folder, name), within)


CHILDLESS = {
    "reaps": "signal.signal(signal.SIGCHLD, lambda *_: os.waitpid(-1, os.WNOHANG))\n",
    "ignores": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n",
}


@pytest.mark.parametrize("how", CHILDLESS)
def test_owner_that_takes_no_care_of_children(folder: Path, name: str, how: str) -> None:
    """Code that reaps all children or ignores SIGCHLD changes nothing."""
    script = (
        f"{CHILDLESS[how]}"
        "for _ in range(2):\n"
        "    with Simulator(name=sys.argv[1], speed=100) as sim:\n"
        "        sim.redis.primary.kill()\n"
        "        sim.redis.wait_for_failover(30)\n"
        "with sim:\n"
        "    folder = os.path.dirname(sim.env()['CACHESIM_CA_FILE'])\n"
        "    os.kill(int(open(folder + '/owner').read().split()[-2]), signal.SIGKILL)\n"
        "    try:\n"
        "        sim.reset()\n"
        "    except Exception as error:\n"
        "        assert 'has ended without taking it down' in str(error), error\n"
        "        print('told', flush=True)\n"
        "        raise\n"
    )
    with owner(folder, name, script) as process:
        said(process, "told")
        assert process.wait(60) == 1
    assert call(folder, "-m", "cachesim", "gc").returncode == 0
    assert is_gone(folder, name)


@pytest.mark.skipif(sys.platform != "linux", reason="makes a namespace")
@on_embedded
def test_owner_is_process_1(folder: Path, name: str) -> None:
    """In a container without an init the owner is process 1, which all orphans belong to."""
    space = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*space, "true"], capture_output=True).returncode:
        pytest.skip("no namespace can be made here")
    script = (
        "import os, sys\nfrom cachesim import Simulator\n"
        "with Simulator(name=sys.argv[1], speed=100) as sim:\n"
        "    assert os.getpid() == 1\n"
        "    sim.redis.primary.kill()\n"
        "    sim.redis.wait_for_failover(30)\n"
        "assert not [it for it in os.listdir('/proc') if it.isdigit() and it != '1']\n"
    )
    done = subprocess.run(
        [*space, sys.executable, "-c", script, name],
        env=environment(folder),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert is_gone(folder, name)


# --- killed at any moment -----------------------------------------------------------------------

BUSY = """
import random
print("made", flush=True)
try:
    with Simulator(name=sys.argv[1], speed=100) as sim:
        print("up", flush=True)
        while True:
            sim.faults.latency("client-to-redis-a", ms=1)
            sim.nodes["redis-b"].kill()
            sim.reset()
            if random.random() < 0.3:
                sim.stop()
                sim.start()
except Exception as error:
    assert "process" in str(error), repr(error)
    raise
"""


@pytest.mark.parametrize("turn", range(KILLS))
@pytest.mark.parametrize("victims", ["owner", "daemon", "both"])
def test_killed_at_any_moment(
    folder: Path, name: str, within: float, victims: str, turn: int
) -> None:
    """With the daemon alive nothing is left soon; else after `gc` or the next start."""
    draws = random.Random(f"{victims} {turn}")
    with owner(folder, name, BUSY) as process:
        said(process, "made")
        if turn % 3:
            said(process, "up")
        # It is the moment that is tested, whatever it is.
        time.sleep(draws.uniform(0, min(3, within / 3)))
        if victims != "owner":
            kill_daemons(folder)
        if victims != "daemon":
            process.kill()
        while victims == "daemon" and process.poll() is None:
            kill_daemons(folder)  # again: if all was down already, its owner does not miss it
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
        _, told = process.communicate()
    if victims == "owner":
        until(lambda: is_gone(folder, name), within)
        return
    if victims == "daemon":
        assert process.returncode == 1, told
        assert f"process of topology {name!r} (pid " in told or "exit code -9" in told, told
    until(lambda: not daemons(folder), within)  # one that the loop was just starting
    if draws.random() < 0.5:
        done = call(folder, "-m", "cachesim", "gc")
    else:
        done = call(folder, "-c", "from cachesim import Simulator\nwith Simulator(): pass")
    assert done.returncode == 0, done.stderr
    assert is_gone(folder, name)


def kill_daemons(folder: Path) -> None:
    """Kill the processes of topologies that have their files there."""
    for daemon in daemons(folder):
        with suppress(psutil.NoSuchProcess):
            daemon.kill()
