"""`cachesim exec`: a program in a zone, as a process."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from cachesim import Simulator
from tests.contract.helpers import until
from tests.processes import Process, call, environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs network namespaces")

_CONFINED = """
import os, sys
from cachesim.cli import namespace
{before}
program = namespace.Confined([7001], ["true"], dict(os.environ))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the topology, where commands look for it."""
    return tmp_path_factory.mktemp("exec")


@pytest.fixture(scope="module")
def sim(folder: Path) -> Iterator[Simulator]:
    """A topology."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        with Simulator(backend="embedded", speed=100, seed=7) as it:
            yield it


def words(sim: Simulator, *command: str, options: Sequence[str] = ()) -> list[str]:
    """Return the command that runs a program in az-b."""
    return ["exec", "--name", sim.name, "--zone", "b", *options, "--", *command]


@pytest.fixture
def namespaces(tmp_path: Path) -> None:
    """Skip where the kernel allows no network namespaces."""
    done = call(tmp_path, "-c", _CONFINED.format(before=""))
    if "does not allow a network namespace" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(sim: Simulator, folder: Path, namespaces: None) -> Run:  # noqa: ARG001  # it may skip
    """Run a program to its end."""

    def run(
        *command: str, stdin: str = "", options: Sequence[str] = ()
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "cachesim", *words(sim, *command, options=options)],
            env=environment(folder),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    return run


def test_is_the_program(run: Run) -> None:
    """Input, output and exit code are those of the program, also of one that was killed."""
    done = run("sh", "-c", "cat; echo oh >&2; exit 7", stdin="to\nit\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "to\nit\n", "oh\n")
    assert run("sh", "-c", "kill -9 $$").returncode == 128 + signal.SIGKILL
    done = run("no-such-program")
    assert (done.returncode, done.stderr) == (127, "no-such-program: No such file or directory\n")


def test_has_the_variables(run: Run, sim: Simulator) -> None:
    """In a namespace they are the same as everywhere, secrets included; its user is the same."""
    show = "import os, json; print(json.dumps([os.getuid(), dict(os.environ)]))"
    uid, found = json.loads(run(sys.executable, "-c", show).stdout)
    assert uid == os.getuid()
    assert found | sim.env() == found


def test_reaches_nothing_else(run: Run) -> None:
    """Another port of this machine is reached if it was asked for, and is refused otherwise."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        show = f"import socket; socket.create_connection(('127.0.0.1', {port}), 30).sendall(b'it')"
        done = run(sys.executable, "-c", show)
        assert (done.returncode, done.stderr.splitlines()[-1][:22]) == (1, "ConnectionRefusedError")
        done = run(sys.executable, "-c", show, options=["--reach", str(port)])
        assert (done.returncode, done.stderr) == (0, "")
        server.settimeout(30)
        with server.accept()[0] as accepted:
            assert accepted.recv(10) == b"it"


def test_what_is_sent_before_the_end(run: Run) -> None:
    """It arrives, as by the kernel: connections that nobody has accepted yet are no exception."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        port = server.getsockname()[1]
        send = f"""
import os, socket
some = [socket.create_connection(("127.0.0.1", {port}), 30) for _ in range(30)]
for it in some:
    it.sendall(b"x" * 10_000)
os._exit(0)
"""
        done = run(sys.executable, "-c", send, options=["--reach", str(port)])
        assert (done.returncode, done.stderr) == (0, "")
        server.settimeout(10)
        for _ in range(30):
            with server.accept()[0] as accepted, accepted.makefile("rb") as file:
                accepted.settimeout(10)
                assert len(file.read()) == 10_000


@pytest.mark.usefixtures("namespaces")
def test_signals(sim: Simulator, folder: Path) -> None:
    """SIGTERM is the program's to handle. A command that is killed takes it along."""
    loop = "trap 'echo told; exit 3' TERM; echo $$; while :; do sleep .05; done"
    with Process(folder, *words(sim, "sh", "-c", loop)) as process:
        process.wait_for(r"^\d+$")
        process.interrupt(signal.SIGTERM)
        assert process.end() == 3
        assert process.out.endswith("told\n")
    with Process(folder, *words(sim, "sh", "-c", loop)) as process:
        process.wait_for(r"^\d+$")
        program = psutil.Process(int(process.out))
        process.interrupt(signal.SIGKILL)
        until(lambda: not program.is_running() or program.status() == psutil.STATUS_ZOMBIE)


def test_without_rights(tmp_path: Path) -> None:
    """Where the kernel does not allow it, the message says why, and what to do instead."""
    refuse = """
def refuse(flags):
    raise PermissionError(1, "Operation not permitted")
namespace._unshare = refuse
"""
    done = call(tmp_path, "-c", _CONFINED.format(before=refuse))
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert "this kernel does not allow a network namespace: Operation not permitted" in last
    assert last.endswith(
        "--by-address, or run the program in a container that joins the zone's network"
    )
