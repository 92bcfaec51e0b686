"""Calls between processes: JSON over a socket, by whoever has the key and at whatever pace."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

import pytest

from cachesim.errors import CachesimError, FaultError, StartError
from cachesim.runs import rpc
from cachesim.runs.files import RunFiles
from cachesim.runs.registry import find_run, living_runs, remove_dead_runs
from cachesim.runs.rpc import Call, Caller, Hangup, Server, TakenDown, call
from tests.processes import environment, ready

posix = pytest.mark.skipif(os.name != "posix", reason="sockets and signals are POSIX's")


def answer(caller: Caller, operation: str, arguments: dict[str, Any]) -> object:
    """The handler of the tests' server."""
    match operation:
        case "echo":
            return arguments
        case "count":
            for number in range(arguments["to"]):
                caller.send(number)
            return "done"
        case "converse":
            caller.send("and?")
            return caller.receive()
        case "fail":
            raise FaultError("no such luck")
        case "value":
            raise ValueError("no such value")
        case "key":
            raise KeyError("no such key: there are none")
        case _:
            raise ZeroDivisionError("a bug")


@pytest.fixture
def files(alone: Path) -> RunFiles:
    """The files of a run that is up."""
    assert alone
    files = RunFiles("one", b"", "")
    files.save_env({})
    return files


@pytest.fixture
def server(files: RunFiles) -> Iterator[Server]:
    """A server of that run."""
    with closing(Server(files.folder, answer)) as server:
        yield server


def address(files: RunFiles) -> str:
    """Return the server's address."""
    return str(json.loads((files.folder / "address.json").read_text())["address"])


@pytest.mark.usefixtures("server")
def test_call() -> None:
    """A call has an answer."""
    assert call(find_run("one"), "echo", text="ä\n", number=1.5) == {"text": "ä\n", "number": 1.5}


@pytest.mark.usefixtures("server")
def test_several_answers() -> None:
    """A call may have answers as they come."""
    with closing(Call(find_run("one"), "count", to=3)) as it:
        assert list(it.parts()) == [0, 1, 2]


@pytest.mark.usefixtures("server")
def test_conversation() -> None:
    """A caller may say more."""
    with closing(Call(find_run("one"), "converse")) as it:
        assert it.part() == "and?"
        it.send(["this"])
        assert it.result() == ["this"]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("operation", "kind", "text"),
    [
        ("fail", FaultError, "no such luck"),
        ("value", CachesimError, "no such value"),
        ("key", CachesimError, "no such key: there are none"),
        ("bug", CachesimError, "ZeroDivisionError('a bug')"),
    ],
)
def test_errors(operation: str, kind: type[CachesimError], text: str) -> None:
    """An error comes out of the call, of its own class if it is one of ours."""
    with pytest.raises(CachesimError) as caught:
        call(find_run("one"), operation)
    assert (type(caught.value), str(caught.value)) == (kind, text)


@pytest.mark.usefixtures("server")
def test_caller_who_leaves() -> None:
    """The end of a caller is noticed, and the next one is answered."""
    left = threading.Event()

    def wait(caller: Caller, _operation: str, _arguments: dict[str, Any]) -> object:
        caller.send("go")
        try:
            return caller.receive()
        except Hangup:
            left.set()
            raise

    other = RunFiles("two", b"", "")
    other.save_env({})
    with closing(Server(other.folder, wait)):
        with closing(Call(find_run("two"), "wait")) as it:
            assert it.part() == "go"
        assert left.wait(10)
    assert call(find_run("one"), "echo") == {}


# --- who may ----------------------------------------------------------------------------------


@posix
@pytest.mark.usefixtures("server")
def test_socket_is_private(files: RunFiles) -> None:
    """Nobody else reaches the socket, or reads its key."""
    modes = {path.name: path.stat().st_mode & 0o777 for path in files.folder.iterdir()}
    assert modes["socket"] == modes["address.json"] == 0o600


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"GET / HTTP/1.1",
        b"[]",
        b'{"operation": "echo", "arguments": {}}',
        json.dumps({"key": "x" * 64, "operation": "echo", "arguments": {}}).encode(),
        json.dumps({"key": "ä", "operation": "echo", "arguments": {}}).encode(),
    ],
)
def test_callers_without_the_key(files: RunFiles, message: bytes) -> None:
    """A caller without the key, or with another protocol, is hung up on; others are answered."""
    with closing(Client(address(files))) as stranger:
        stranger.send_bytes(message)
        assert stranger.poll(10)
        with pytest.raises(EOFError):
            stranger.recv_bytes()
    assert call(find_run("one"), "echo") == {}


@posix
@pytest.mark.usefixtures("server")
def test_silent_callers(files: RunFiles) -> None:
    """Callers that connect and say nothing keep nobody waiting."""
    silent = [socket.socket(socket.AF_UNIX) for _ in range(100)]
    try:
        for it in silent:
            it.connect(address(files))
        assert call(find_run("one"), "echo", timeout=10) == {}
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
    with closing(Server(run.folder, answer)):
        short = Path(address(run)).parent
        assert len(str(short / "socket")) <= 107
        assert short.stat().st_mode & 0o777 == 0o700
        assert call(find_run("one"), "echo") == {}
    assert not short.exists()


KILLED = """
import os, signal, sys
from cachesim.runs import rpc
from cachesim.runs.files import RunFiles

def die(*_arguments, **_more):
    os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[1] == "early":
    rpc.Listener = die
rpc.Server(RunFiles("one", b"", "").folder, die)
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


@pytest.mark.parametrize("what", ["write_private", "Listener"])
def test_no_socket(files: RunFiles, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """If there can be no socket, the error says why and what to do."""

    def fail(*_arguments: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rpc, what, fail)
    with pytest.raises(StartError, match=r"socket: No space left on device. Make room, or set"):
        Server(files.folder, answer)
    assert not (files.folder / "address.json").exists()


# --- the other side's end -----------------------------------------------------------------------

SERVING = """
import sys, time
from cachesim.runs.files import RunFiles
from cachesim.runs.rpc import Server
run = RunFiles("one", b"", "")
run.save_env({})
def answer(caller, operation, arguments):
    caller.send("part")
    caller.receive()
server = Server(run.folder, answer)
print("ready", flush=True)
sys.stdin.read()
server.close()
print("closed", flush=True)
time.sleep(0.2)
run.remove()
"""


@pytest.fixture
def other(alone: Path) -> "Iterator[subprocess.Popen[str]]":
    """A process that has a server, until its stdin ends."""
    with ready(alone, SERVING) as process:
        yield process


def test_parts_end_with_the_topology(other: "subprocess.Popen[str]") -> None:
    """Following ends when the topology is taken down in order."""
    with closing(Call(find_run("one"), "follow")) as it:
        parts = it.parts()
        assert next(parts) == "part"
        assert other.stdin
        other.stdin.close()
        assert list(parts) == []
    assert living_runs() == []


def test_call_when_it_was_taken_down(other: "subprocess.Popen[str]") -> None:
    """A call that waits for its answer gets an error when the topology is gone."""
    run = find_run("one")
    with closing(Call(run, "follow")) as it:
        assert it.part() == "part"
        assert other.stdin
        other.stdin.close()
        with pytest.raises(TakenDown, match=r"'one' was taken down. `cachesim up` starts another"):
            it.result()
    with pytest.raises(TakenDown):
        call(run, "echo")


@posix
def test_killed(other: "subprocess.Popen[str]") -> None:
    """The end of a killed process is told with the next step, under way and afterwards."""
    run = find_run("one")
    with closing(Call(run, "follow")) as it:
        parts = it.parts()
        assert next(parts) == "part"
        other.kill()
        with pytest.raises(CachesimError, match=r"has ended without .* `cachesim gc` removes"):
            next(parts)
    with pytest.raises(CachesimError, match=r"has ended without .* `cachesim gc` removes"):
        call(run, "echo")


@posix
def test_hung(other: "subprocess.Popen[str]") -> None:
    """A process that stands still is not waited for without an end."""
    other.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(CachesimError, match=r"not answer within 0.1 s.*`cachesim down --name"):
            call(find_run("one"), "echo", timeout=0.1)
    finally:
        other.send_signal(signal.SIGCONT)


@pytest.mark.usefixtures("files")
def test_no_server() -> None:
    """A process that takes no calls is told apart from one that is gone."""
    with pytest.raises(CachesimError, match=f"belongs to process {os.getpid()}, which takes no"):
        call(find_run("one"), "echo")


def test_another_version(files: RunFiles) -> None:
    """A process that talks otherwise is told as such."""
    path = files.folder / "socket"
    with closing(Listener(str(path))) as listener:
        (files.folder / "address.json").write_text(json.dumps({"address": str(path), "key": ""}))

        def talk() -> None:
            with closing(listener.accept()) as connection:
                connection.recv_bytes()
                connection.send_bytes(b"#CHALLENGE#")

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(CachesimError, match=r"runs another version of cachesim. End it"):
            call(find_run("one"), "echo")
        thread.join()
