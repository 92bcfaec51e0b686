"""The side that answers calls: whom, where, and until when."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cachesim.daemon import server as module
from cachesim.daemon.server import Caller, Server
from cachesim.errors import CachesimError, StartError
from cachesim.runs import rpc
from cachesim.runs.files import RunFiles
from cachesim.runs.registry import find_run, remove_dead_runs
from cachesim.runs.rpc import Client, call
from tests.answering import LIMIT, Answers, waiting
from tests.contract.helpers import until
from tests.processes import environment

posix = pytest.mark.skipif(os.name != "posix", reason="sockets and signals are POSIX's")


@pytest.fixture
def files(alone: Path) -> RunFiles:
    """The files of a run that is up."""
    assert alone
    files = RunFiles("one", b"", "")
    files.save_env({})
    return files


@pytest.fixture
def answers() -> Answers:
    """The handler of the server."""
    return Answers()


@pytest.fixture
def server(files: RunFiles, answers: Answers) -> Iterator[Server]:
    """A server of that run."""
    with contextlib.closing(Server(files.folder, answers)) as server:
        yield server
        answers.free.set()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client of that server."""
    assert server
    with contextlib.closing(Client(find_run("one"))) as client:
        yield client


def address(files: RunFiles) -> Any:
    """Return the server's address and its key."""
    return json.loads((files.folder / "address.json").read_text())


# --- callers that leave -------------------------------------------------------------------------


def test_caller_that_leaves_during_a_wait(client: Client, answers: Answers) -> None:
    """The end of a caller is noticed while its call is answered, and others are answered."""
    with waiting(client, answers) as channel:
        assert not answers.callers[0].has_hung_up
        assert client.call("echo") == {}
        client.hang_up(channel)
        until(lambda: answers.callers[0] in answers.left)
    assert client.call("echo") == {}


@posix
def test_caller_with_a_high_descriptor() -> None:
    """The end of a caller is told from its life however many connections there are."""
    import fcntl
    import resource

    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2000:
        pytest.skip("too few descriptors are allowed")
    near, far = socket.socketpair()
    with near, far:
        number = fcntl.fcntl(near, fcntl.F_DUPFD_CLOEXEC, 1500)
        with socket.socket(fileno=number) as high:
            caller = Caller(high, "it", 7)
            assert not caller.has_hung_up
            far.sendall(b"\n")
            assert not caller.has_hung_up
            assert high.recv(9) == b"\n"
            far.close()
            assert caller.has_hung_up


def test_answers_to_a_caller_that_has_left(client: Client, answers: Answers) -> None:
    """A caller that leaves between answers is told to the handler."""
    channel = client.channel()
    channel.begin("count", to=1_000_000)
    channel.part()
    client.hang_up(channel)
    until(lambda: answers.left)
    assert answers.left == answers.callers


def test_hangup_of_the_handler(client: Client, answers: Answers) -> None:
    """The handler may hang up without an answer: the call fails, and the next one has another."""
    with pytest.raises(CachesimError, match="takes no commands"):
        client.call("leave")
    assert client.call("echo") == {}
    assert answers.left == answers.callers[:1]


@posix
@pytest.mark.usefixtures("server")
def test_caller_that_dies_while_it_calls(files: RunFiles, answers: Answers) -> None:
    """Half a call is none, and its connection has ended."""
    with contextlib.closing(rpc.connect(files.folder)) as caller:
        hello = {"key": address(files)["key"], "client": "it", "pid": 7}
        caller.sendall(json.dumps(hello).encode() + b'\n{"operation": "echo", "argu')
    until(lambda: answers.left)
    assert [(it.client, it.pid) for it in answers.left] == [("it", 7)]
    assert answers.callers == []


# --- the end of a server ------------------------------------------------------------------------


def test_finish(server: Server, client: Client, answers: Answers) -> None:
    """Calls in progress get time to be answered, but not more than that."""
    server.finish(60)
    with ThreadPoolExecutor() as pool:
        wait = pool.submit(client.call, "wait")
        assert answers.entered.acquire(timeout=LIMIT)
        server.finish(0.05)
        assert not wait.done()
        finishing = pool.submit(server.finish, 60)
        answers.free.set()
        finishing.result(LIMIT)
        assert wait.result(LIMIT) == "waited"


def test_close(server: Server, files: RunFiles, client: Client, answers: Answers) -> None:
    """A closed server takes no more connections, answers calls in progress, and has no address."""
    run = find_run("one")
    with waiting(client, answers) as channel:
        server.close()
        assert not (files.folder / "address.json").exists()
        with pytest.raises(CachesimError, match="takes no commands"):
            call(run, "echo")
        answers.free.set()
        assert channel.result() == "waited"


# --- who may ----------------------------------------------------------------------------------


@posix
@pytest.mark.usefixtures("server")
def test_socket_is_private(files: RunFiles) -> None:
    """Nobody else reaches the socket, or reads its key."""
    modes = {path.name: path.stat().st_mode & 0o777 for path in files.folder.iterdir()}
    assert modes["socket"] == modes["address.json"] == 0o600


CALL = b'{"operation": "echo", "arguments": {}}\n'


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "message",
    [
        b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"[]\n" + CALL,
        b"\xff\xfe\n" + CALL,
        CALL,
        json.dumps({"client": "", "pid": 7}).encode() + b"\n" + CALL,
        json.dumps({"key": "x" * 64, "client": "", "pid": 7}).encode() + b"\n" + CALL,
        json.dumps({"key": "ä", "client": "", "pid": 7}).encode() + b"\n" + CALL,
        json.dumps({"key": "", "client": "", "pid": 7}).encode() + b"\n" + CALL,
        json.dumps({"key": None, "client": "", "pid": 7}).encode() + b"\n" + CALL,
    ],
)
def test_callers_without_the_key(files: RunFiles, answers: Answers, message: bytes) -> None:
    """A caller without the key, or with another protocol, is hung up on; others are answered."""
    with contextlib.closing(rpc.connect(files.folder)) as stranger:
        stranger.settimeout(LIMIT)
        stranger.sendall(message)
        with contextlib.suppress(ConnectionResetError):  # its call was not even read
            assert stranger.recv(1) == b""
    assert answers.callers == []
    assert call(find_run("one"), "echo") == {}


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "line", [b"\n", b"[]\n", b'{"operation": "echo"}\n', b'{"operation": "echo", "arguments": 7}\n']
)
def test_callers_with_another_protocol(files: RunFiles, answers: Answers, line: bytes) -> None:
    """A caller that has the key but says something else is hung up on."""
    hello = {"key": address(files)["key"], "client": "it", "pid": 7}
    with contextlib.closing(rpc.connect(files.folder)) as stranger:
        stranger.settimeout(LIMIT)
        stranger.sendall(json.dumps(hello).encode() + b"\n" + line)
        assert stranger.recv(1) == b""
    until(lambda: answers.left)
    assert answers.callers == []


@posix
@pytest.mark.usefixtures("server")
def test_silent_callers(files: RunFiles) -> None:
    """Callers that connect and say nothing keep nobody waiting."""
    silent = [rpc.connect(files.folder) for _ in range(100)]
    try:
        assert call(find_run("one"), "echo", timeout=LIMIT) == {}
    finally:
        for it in silent:
            it.close()


# --- where the socket is ------------------------------------------------------------------------


@posix
def test_long_path(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If its path would be too long, the socket is in another folder, which is removed with it."""
    folder = alone / ("long" * 25)
    folder.mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    run = RunFiles("one", b"", "")
    run.save_env({})
    with contextlib.closing(Server(run.folder, Answers())):
        short = Path(address(run)["address"]).parent
        assert len(str(short / "socket")) <= 107
        assert short.stat().st_mode & 0o777 == 0o700
        assert call(find_run("one"), "echo") == {}
    assert not short.exists()


KILLED = """
import os, signal, socket, sys
from cachesim.daemon import server
from cachesim.runs.files import RunFiles

def die(*_arguments, **_more):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "early":
    server.socket.socket = die
server.Server(RunFiles("one", b"", "").folder, server.Handler())
die()
"""


@posix
@pytest.mark.parametrize("moment", ["early", "late"])
def test_long_path_of_a_killed_process(
    alone: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """A short folder goes with its run too if the process was killed, with and without a socket."""
    state = alone / ("long" * 25)
    state.mkdir()
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    subprocess.run(
        [sys.executable, "-c", KILLED, moment],
        env=environment(state, TMPDIR=str(alone)),
        check=False,
    )
    (file,) = state.glob("cachesim/runs/one-*/address.json")
    short = Path(json.loads(file.read_text())["address"]).parent
    assert short.is_dir()
    assert (short / "socket").exists() == (moment == "late")
    remove_dead_runs()
    assert not short.exists()
    assert not file.parent.exists()


@posix
@pytest.mark.parametrize("what", ["write_private", "bind", "listen"])
def test_no_socket(files: RunFiles, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """If there can be no socket, the error says why and what to do."""

    def fail(*_arguments: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    if what == "write_private":
        monkeypatch.setattr(module, what, fail)
    else:
        monkeypatch.setattr(socket, "socket", type("Full", (socket.socket,), {what: fail}))
    with pytest.raises(StartError, match=r": No space left on device. Make room, or set"):
        Server(files.folder, Answers())
    assert not (files.folder / "address.json").exists()
