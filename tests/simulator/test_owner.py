"""Owners in all kinds of trouble: what they are told, and that nothing is left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.helpers import until
from tests.processes import call, environment, is_gone

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals to processes")

START = """
import os, signal, sys, time
from pathlib import Path
from cachesim import Simulator
from cachesim.errors import CachesimError, NotRunning, StartError

def daemon(sim):
    return int(Path(sim.env()["CACHESIM_CA_FILE"]).with_name("owner").read_text().split()[-2])

def refused(kind, verb):
    try:
        verb()
    except kind as error:
        return str(error)
    raise AssertionError("not refused")

sim = Simulator(name="n", speed=100)
"""


@pytest.fixture(autouse=True)
def _is_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHESIM_BACKEND", "embedded")


def works(folder: Path, script: str, *options: str, start: str = START) -> None:
    """A script ends well, without a word, and nothing of it is left."""
    (folder / "script.py").write_text(start + script)
    done = call(folder, *options, "script.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    until(lambda: is_gone(folder, "n"))


SCRIPTS = {
    "never started": """
import gc, psutil
from cachesim.settings import load_settings
del sim
gc.collect()
assert psutil.Process().children() == []
kept = [Simulator(), Simulator(load_settings().settings)]
""",
    "never stopped": "sim.start()",
    "a failed start": """
with sim:
    assert "is running already" in refused(StartError, Simulator(name="n").start)
""",
    "several times": """
files = len(os.listdir("/dev/fd"))
for waiting in (0, 1, 1):
    with sim:
        pass
    # A process that waits has two pipes and its error output.
    assert len(os.listdir("/dev/fd")) <= files + 3 * waiting
""",
    "two": """
with sim, Simulator(name="other", speed=100) as other:
    sim.redis.primary.kill()
    assert other.faults.active == []
""",
    "started in a thread": """
import threading
thread = threading.Thread(target=sim.start)
thread.start()
thread.join()
sim.redis.primary.kill()
sim.redis.wait_for_failover(30)
sim.stop()
""",
    "a forked child starts its own": """
if (child := os.fork()) == 0:
    with sim:
        sim.reset()
else:
    assert os.waitpid(child, 0)[1] == 0
    with sim:
        pass
""",
    "the folder of files is removed": """
import shutil
with sim:
    # The topology removes it too.
    shutil.rmtree(Path(sim.env()["CACHESIM_CA_FILE"]).parent, ignore_errors=True)
    told = refused(NotRunning, lambda: [sim.reset() for _ in range(99)])
    assert "or its files were removed" in told
    assert refused(NotRunning, lambda: sim.redis.wait_for_failover(60))
""",
    "the folder of files is removed in part": """
with sim:
    Path(sim.env()["CACHESIM_CA_FILE"]).with_name("address.json").unlink()
    told = refused(NotRunning, lambda: [sim.reset() for _ in range(9999)])
    assert "or its files were removed" in told
""",
    "the current folder is removed": """
os.mkdir("gone")
os.chdir("gone")
os.rmdir("../gone")
sys.path[:0] = ["", "here", b"bytes"]
with Simulator(name="n", speed=100):
    pass
""",
    "the daemon is stopped": """
import time
with sim:
    os.kill(daemon(sim), signal.SIGSTOP)
    before = time.monotonic()
assert time.monotonic() - before < 10
""",
    "the daemon is killed": """
for _ in range(2):
    sim.start()
    with open(Path(sim.env()["CACHESIM_CA_FILE"]).with_name("log"), "a") as log:
        log.write("PANIC: no more")
    os.kill(daemon(sim), signal.SIGKILL)
    for verb in (sim.reset, lambda: sim.redis.wait_for_failover(60), sim.stop):
        told = refused(NotRunning, verb)
        assert "has ended without taking it down. `cachesim gc` removes" in told
        assert told.endswith("Its log ends with:\\nPANIC: no more")
    sim.stop()
try:
    with sim, sim.faults.latency("client-to-redis-a", ms=1), sim.control_plane.suspended():
        os.kill(daemon(sim), signal.SIGKILL)
        1 / 0
except ZeroDivisionError:
    pass
with sim:
    pass
""",
    "many threads": """
import threading
from concurrent.futures import ThreadPoolExecutor
def look(_):
    return sim.nodes["redis-a"].state, len(sim.events), sim.faults.active
files = len(os.listdir("/dev/fd"))
with sim, ThreadPoolExecutor(50) as pool:
    assert len({str(it[0]) for it in pool.map(look, range(500))}) == 1
    assert len(os.listdir("/dev/fd")) < files + 20
    begun = threading.Barrier(21)
    def loop():
        begun.wait()
        while True:
            look(0)
            sim.reset()
    loops = [pool.submit(loop) for _ in range(20)]
    begun.wait()
    sim.stop()
    assert {type(it.exception(10)) for it in loops} == {NotRunning}
""",
    "calls are interrupted": """
def ring(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, ring)
with sim:
    files = len(os.listdir("/dev/fd"))
    for turn in range(50):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001 + 0.0005 * turn)
            while True:
                with sim.faults.latency("client-to-redis-a", ms=1):
                    sim.events.wait(lambda: False, 0.005)
        except KeyboardInterrupt:
            pass
        sim.heal()
        limit = time.monotonic() + 10  # a fault whose call was interrupted is healed by itself
        while sim.faults.active and time.monotonic() < limit:
            time.sleep(0.01)
        assert sim.faults.active == []
        assert sim.nodes["redis-b"].state == "running"
    assert len(os.listdir("/dev/fd")) < files + 20
""",
    "no executable": """
for sys.executable in (None, "", "/nonexistent", "/etc/passwd"):
    told = refused(StartError, Simulator)
    assert "and use Simulator.attach()" in told
""",
    "no process": """
import subprocess
def forbidden(*_):
    raise BlockingIOError(11, "Resource temporarily unavailable")
subprocess._fork_exec = forbidden
assert "Resource temporarily unavailable. Allow this process to" in refused(StartError, Simulator)
""",
    "a full disk": """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
told = refused(StartError, lambda: Simulator(name="n").start())
assert "can't be written: " in told and "Make room" in told, told
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
Path(f"cachesim-{os.getuid()}").rmdir()  # the second place that was tried: it is empty
""",
}


@pytest.mark.parametrize("what", SCRIPTS)
def test_in_trouble(what: str, tmp_path: Path) -> None:
    """Each ends well or in an error that tells what to do, without a warning."""
    # Objects of a fork, or of an interrupted call, are left to the garbage collection.
    is_strict = what not in ("a forked child starts its own", "calls are interrupted")
    works(tmp_path, SCRIPTS[what], *(["-X", "dev", "-W", "error"] if is_strict else []))


GEVENT = """
with sim:
    with sim.faults.latency("client-to-redis-a", ms=1):
        assert sim.redis_cluster().set("k", "v")
        assert sim.memcached_client().set("k", b"v")
    sim.redis.primary.kill()
    ticks = []
    def tick():
        while True:
            ticks.append(1)
            gevent.sleep(0.01)
    ticking = gevent.spawn(tick)
    looks = [gevent.spawn(lambda: sim.nodes["redis-c"].state) for _ in range(50)]
    waits = gevent.spawn(sim.redis.wait_for_failover, 30)
    assert waits.get().name != "redis-a"
    assert len(ticks) > 2
    assert {str(it.get()) for it in looks} == {"running"}
    sim.reset()
    ends = gevent.spawn(refused, NotRunning, lambda: sim.redis.wait_for_failover(60))
    gevent.sleep(0.1)
    sim.stop()
    assert "is not running" in ends.get()
sim.start()
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_gevent(when: str, tmp_path: Path) -> None:
    """It works under gevent's monkey-patching, before and after the import."""
    patch = "import gevent\nfrom gevent import monkey\nmonkey.patch_all()\n"
    parts = [patch, START] if when == "before" else [START, patch]
    works(tmp_path, GEVENT, start="".join(parts))


VARIABLES = {
    "PYTHONWARNINGS": "error",
    "PYTHONINSPECT": "1",
    "PYTHONPROFILEIMPORTTIME": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONTRACEMALLOC": "5",
    "PYTHONDEVMODE": "1",
    "PYTHONSAFEPATH": "1",
    "PYTHONIOENCODING": "utf-16",
}


@pytest.mark.parametrize("variable", VARIABLES)
def test_variables_of_python(variable: str, tmp_path: Path) -> None:
    """The variables of the owner's Python do not reach into the daemon."""
    done = subprocess.run(
        [sys.executable, "-c", f"{START}with sim:\n    assert sim.nodes\nos._exit(7)"],
        env=environment(tmp_path, **{variable: VARIABLES[variable]}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert done.returncode == 7, done.stderr
    until(lambda: is_gone(tmp_path, "n"))


def test_modules_like_the_standard_library(tmp_path: Path) -> None:
    """The daemon takes no module beside the script for one of the standard library."""
    for name in ("asyncio", "queue", "selectors", "calendar", "uuid"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not this one')")
    script = f"import sys\nbeside = sys.path.pop(0)\n{START}"
    works(
        tmp_path,
        "with sim: pass",
        start=script.replace("\nsim =", "\nsys.path[:0] = [beside]\nsim ="),
    )


def test_closed_streams(tmp_path: Path) -> None:
    """An owner without stdin, stdout and stderr has the pipes of the daemon in their place."""
    script = f"{START}with sim:\n    sim.reset()\n    print('lost')\nPath('done').touch()"
    command = ["sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', sys.executable, script]
    assert subprocess.run(command, cwd=tmp_path, env=environment(tmp_path)).returncode == 0
    assert (tmp_path / "done").exists()
    until(lambda: is_gone(tmp_path, "n"))


INTERRUPTED = """
def tell(step):
    if "waiting until" in step:
        print("start", flush=True)
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    sim.start(tell)
    print("body", flush=True)
    if sys.argv[1] == "body":
        signal.pause()
    print("stop", flush=True)
finally:
    sim.stop()
"""


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("where", ["start", "body", "stop"])
def test_interrupted(where: str, times: int, tmp_path: Path) -> None:
    """Ctrl-C, however often, leaves nothing behind."""
    with subprocess.Popen(
        [sys.executable, "-c", START + INTERRUPTED, where],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line == f"{where}\n":
                break
        for _ in range(times):
            process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130), told
    assert "KeyboardInterrupt" in told
    until(lambda: is_gone(tmp_path, "n"))
