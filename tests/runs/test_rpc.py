"""Calls from other processes: JSON over a socket, each answer for the call that it belongs to."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cachesim.daemon.server import Server
from cachesim.errors import (
    CachesimError,
    FailoverTimeout,
    FaultError,
    NotReady,
    NotRunning,
    ToxiproxyError,
    ToxiproxyTimeout,
    UnknownName,
)
from cachesim.runs.files import RunFiles
from cachesim.runs.registry import find_run, living_runs
from cachesim.runs.rpc import Channel, Client, TakenDown, call
from tests.answering import LIMIT, Answers, waiting
from tests.contract.helpers import until
from tests.processes import environment, ready

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
    with closing(Server(files.folder, answers)) as server:
        yield server
        answers.free.set()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client of that server."""
    assert server
    with closing(Client(find_run("one"))) as client:
        yield client


# --- calls and answers --------------------------------------------------------------------------


@pytest.mark.usefixtures("server")
def test_call() -> None:
    """A call has an answer."""
    assert call(find_run("one"), "echo", text="ä\n", number=1.5) == {"text": "ä\n", "number": 1.5}


@pytest.mark.usefixtures("server")
def test_many_calls_on_one_connection(answers: Answers) -> None:
    """A connection carries one call after another, whatever their answers are."""
    with closing(Channel(find_run("one"))) as channel:
        assert channel.call("echo", n=1) == {"n": 1}
        channel.begin("count", to=3)
        assert channel.part() == 0
        assert list(channel.parts()) == [1, 2]
        with pytest.raises(FaultError):
            channel.call("fail")
        assert channel.call("echo", n=2) == {"n": 2}
    assert len(answers.callers) == 1


@pytest.mark.usefixtures("server")
def test_several_answers() -> None:
    """A call may have answers as they come, and a last one."""
    with closing(Channel(find_run("one"))) as channel:
        channel.begin("count", to=2)
        assert (channel.part(), channel.is_idle) == (0, False)
        assert (channel.part(), channel.is_idle) == (1, False)
        assert (channel.result(), channel.is_idle) == ("done", True)


@pytest.mark.parametrize(
    ("error", "attributes"),
    [
        (FaultError("no such luck"), {}),
        (ValueError("no such value"), {}),
        (KeyError("no such key: there are none"), {}),
        (UnknownName("no link 'x': there are none"), {}),
        (NotReady("redis-a: does not answer", "redis-a"), {"node": "redis-a"}),
        (ToxiproxyError("proxy not found", 404), {"status": 404}),
        (ToxiproxyTimeout("no answer"), {"status": None}),
        (FailoverTimeout("no failover was completed within 3 s"), {}),
        (FaultError(), {}),
    ],
    ids=lambda it: type(it).__name__,
)
def test_errors(
    client: Client, answers: Answers, error: Exception, attributes: dict[str, object]
) -> None:
    """An error comes out of the call as it was raised: its class, text and attributes."""
    answers.error = error
    with pytest.raises(type(error)) as caught:
        client.call("fail")
    assert type(caught.value) is type(error)
    assert str(caught.value) == (str(error) if error.args else "")
    assert vars(caught.value) == attributes
    assert client.call("echo") == {}


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("a bug"), UnicodeDecodeError("ascii", b"\xff", 0, 1, "a bug"), OSError(7)],
    ids=lambda it: type(it).__name__,
)
def test_errors_of_others(client: Client, answers: Answers, error: Exception) -> None:
    """An error of another class comes as one of ours, and tells which."""
    answers.error = error
    with pytest.raises(CachesimError) as caught:
        client.call("fail")
    assert (type(caught.value), str(caught.value)) == (CachesimError, repr(error))


# --- the connections of a client ----------------------------------------------------------------


def test_pool(client: Client, answers: Answers) -> None:
    """Calls share a connection, unless they are made at the same time."""
    for number in range(3):
        assert client.call("echo", n=number) == {"n": number}
    assert len(answers.callers) == 1
    with ThreadPoolExecutor(3) as pool:
        waits = [pool.submit(client.call, "wait") for _ in range(3)]
        for _ in waits:
            assert answers.entered.acquire(timeout=LIMIT)
        assert client.call("echo") == {}
        assert len(answers.callers) == 4
        answers.free.set()
        assert [wait.result(LIMIT) for wait in waits] == ["waited"] * 3
        assert list(pool.map(lambda n: client.call("echo", n=n), range(20))) == [
            {"n": number} for number in range(20)
        ]
    assert len(answers.callers) == 4
    assert answers.left == []


def test_callers_of_a_client(client: Client, answers: Answers) -> None:
    """The connections of a client are known as such, and those of another client as others."""
    client.call("echo")
    with waiting(client, answers) as channel:
        with closing(Client(find_run("one"))) as other:
            other.call("echo")
        call(find_run("one"), "echo")
        client.hang_up(channel)
    one, two, others, nobodys = answers.callers
    assert one.client == two.client
    assert len({one.client, others.client, nobodys.client}) == 3
    assert {it.pid for it in answers.callers} == {os.getpid()}


def test_call_that_is_cut_short_by_a_timeout(client: Client, answers: Answers) -> None:
    """It costs its connection: its answer, which comes later, does not reach the next call."""
    client.call("echo")
    with pytest.raises(CachesimError, match=r"\(pid \d+\) did not answer within 0\.05 s\. Its log"):
        client.call("wait", timeout=0.05)
    assert client.call("echo", n=1) == {"n": 1}
    until(lambda: answers.left)
    first, second = answers.callers
    assert answers.left == [first]
    answers.free.set()
    assert client.call("echo", n=2) == {"n": 2}
    assert answers.callers == [first, second]


def test_what_ends_a_process_that_does_not_answer(client: Client, files: RunFiles) -> None:
    """If it is leased, only force does: nobody can be asked whose lease it is."""
    with pytest.raises(CachesimError, match=r"`cachesim down --name one` ends it"):
        client.call("wait", timeout=0.01)
    files.save_holder("process 7")
    with pytest.raises(CachesimError, match=r"`cachesim down --name one --force` ends it"):
        client.call("wait", timeout=0.01)


@posix
def test_call_that_is_cut_short_by_an_exception(client: Client, answers: Answers) -> None:
    """It costs its connection alone, as with a timeout."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt("by the test")

    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread().ident or 0
    answers.on_wait = lambda: signal.pthread_kill(main, signal.SIGUSR1)
    try:
        client.call("echo")
        with pytest.raises(KeyboardInterrupt, match="by the test"):
            client.call("wait")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert client.call("echo", n=1) == {"n": 1}
    until(lambda: answers.left)
    assert answers.left == answers.callers[:1]


def test_connection_of_its_own(client: Client, answers: Answers) -> None:
    """What a connection was opened for ends with it, and calls of the pool never use it."""
    client.call("echo")
    own = client.channel()
    own.call("echo")
    for _ in range(2):
        client.call("echo")
    first, second = answers.callers
    assert answers.left == []
    client.hang_up(own)
    until(lambda: answers.left)
    assert answers.left == [second]
    client.close()
    until(lambda: len(answers.left) == 2)
    assert answers.left == [second, first]


def test_end_of_a_client(client: Client, answers: Answers) -> None:
    """With a client's end its calls in other threads end, with an error."""
    client.call("echo")
    with ThreadPoolExecutor() as pool:
        wait = pool.submit(client.call, "wait", timeout=None)
        assert answers.entered.acquire(timeout=LIMIT)
        client.close()
        assert isinstance(wait.exception(LIMIT), CachesimError)
    until(lambda: len(answers.left) == len(answers.callers))


FORKING = """
import os, sys
from cachesim.runs.registry import find_run
from cachesim.runs.rpc import Client
client = Client(find_run("one"))
client.call("echo", by="the parent, before")
own = client.channel()
own.call("echo", by="its own")
reader, writer = os.pipe()
if not (child := os.fork()):
    os.close(writer)
    try:
        client.call("echo", by="the child")
    except Exception as error:
        print(type(error).__name__, flush=True)
    os.read(reader, 1)
    os._exit(0)
client.call("echo", by="the parent, after")
sys.stdin.readline()
client.close()
sys.stdin.readline()
os.close(writer)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.usefixtures("server")
def test_forked_child(alone: Path, answers: Answers) -> None:
    """A child closes its copies; the parent's connections go on, and end while the child lives."""
    with subprocess.Popen(
        [sys.executable, "-c", FORKING],
        env=environment(alone),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        assert parent.stdout.readline() == "CachesimError\n"
        until(lambda: len(answers.callers) == 2)
        assert answers.left == []
        parent.stdin.write("\n")
        parent.stdin.flush()
        until(lambda: len(answers.left) == 2)
        assert parent.poll() is None
        parent.stdin.close()
    assert parent.returncode == 0


# --- the other side's end -----------------------------------------------------------------------

SERVING = """
import sys, threading, time
from cachesim.runs.files import RunFiles
from cachesim.daemon.server import Handler, Server
run = RunFiles("one", b"", "")
run.save_env({})
class Following(Handler):
    def answer(self, caller, operation, arguments):
        caller.send("part")
        threading.Event().wait()
server = Server(run.folder, Following())
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


@contextmanager
def following() -> Iterator[Channel]:
    """Yield a connection with a call that has got its first part."""
    with closing(Channel(find_run("one"))) as channel:
        channel.begin("follow")
        assert channel.part() == "part"
        yield channel


def test_parts_end_with_the_topology(other: "subprocess.Popen[str]") -> None:
    """Following ends when the topology is taken down in order."""
    with following() as channel:
        assert other.stdin
        other.stdin.close()
        assert list(channel.parts()) == []
    assert living_runs() == []


def test_call_when_it_was_taken_down(other: "subprocess.Popen[str]") -> None:
    """A call that waits for its answer gets an error when the topology is gone."""
    run = find_run("one")
    with following() as channel:
        assert other.stdin
        other.stdin.close()
        with pytest.raises(TakenDown, match=r"'one' was taken down, or .*`cachesim up` starts an"):
            channel.result()
    with pytest.raises(TakenDown):
        call(run, "echo")


@posix
def test_killed(other: "subprocess.Popen[str]") -> None:
    """The end of a killed process is told with the next step and the end of its log."""
    run = find_run("one")
    with following() as channel:
        parts = channel.parts()
        other.kill()
        with pytest.raises(NotRunning, match=r"has ended without .* `cachesim gc` removes") as one:
            next(parts)
    assert "Its log" not in str(one.value)
    (run.folder / "log").write_text(f"{'x' * 2000}\nthe last words\n")
    with pytest.raises(NotRunning, match=r"has ended without .* `cachesim gc` removes") as two:
        call(run, "echo")
    told = str(two.value).partition(" Its log ends with:\n")[2]
    assert told.startswith("xxx")
    assert told.endswith("xxx\nthe last words")
    assert len(told) < 2000


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


@posix
def test_another_version(files: RunFiles) -> None:
    """A process that talks otherwise is told as such."""
    path = files.folder / "socket"
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen()
        (files.folder / "address.json").write_text(json.dumps({"address": str(path), "key": ""}))

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"#CHALLENGE#\n")
                connection.recv(1000)

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(CachesimError, match=r"runs another version of cachesim. End it"):
            call(find_run("one"), "echo")
        thread.join()
