"""The connection of a simulator, to a server in this process."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from cachesim.daemon.server import Server
from cachesim.errors import CachesimError, FaultError, NotRunning
from cachesim.runs.files import RunFiles
from cachesim.runs.registry import find_run
from cachesim.simulator.connection import Connection
from tests.answering import LIMIT, Answers
from tests.contract.helpers import until


@pytest.fixture
def answers() -> Answers:
    """The handler of the server."""
    return Answers()


@pytest.fixture
def connection(alone: Path, answers: Answers) -> Iterator[Connection]:
    """A connection to the process of a topology."""
    assert alone
    files = RunFiles("one", b"", "")
    files.save_env({})
    with closing(Server(files.folder, answers)), closing(Connection(find_run("one"))) as it:
        yield it
        answers.free.set()


def test_calls(connection: Connection, answers: Answers) -> None:
    """Calls are answered, or raise what the other side has raised."""
    assert connection.call("echo", n=1) == {"n": 1}
    assert connection.wait("echo", n=2) == {"n": 2}
    for error in (FaultError("no such luck"), ValueError("no such value")):
        answers.error = error
        for call in (connection.call, connection.wait):
            with pytest.raises(type(error), match=str(error)):
                call("fail")
    assert (connection.name, connection.is_over) == ("one", False)


def test_waits_have_connections_of_their_own(connection: Connection, answers: Answers) -> None:
    """A call that waits holds up no other, and its connection ends with it."""
    connection.call("echo")
    with ThreadPoolExecutor() as pool:
        wait = pool.submit(connection.wait, "wait")
        assert answers.entered.acquire(timeout=LIMIT)
        assert connection.call("echo", n=1) == {"n": 1}
        answers.free.set()
        assert wait.result(LIMIT) == "waited"
    until(lambda: answers.left)
    assert answers.left == answers.callers[1:]


def test_channel(connection: Connection, answers: Answers) -> None:
    """What is done on a channel ends with it, also by an error."""
    with connection.channel() as channel:
        channel.call("echo")
    with pytest.raises(LookupError), connection.channel():
        raise LookupError
    until(lambda: len(answers.left) == 2)


def test_lasting_channel(connection: Connection, answers: Answers) -> None:
    """A channel that nobody ends ends with the connection."""
    connection.lasting_channel().call("echo")
    connection.call("echo")
    assert answers.left == []
    connection.close()
    until(lambda: len(answers.left) == 2)


def test_end(connection: Connection) -> None:
    """After the end all calls are refused, but for the last ones."""
    connection.call("echo")
    connection.end()
    assert connection.is_over
    for call in (connection.call, connection.wait):
        with pytest.raises(NotRunning, match="the topology 'one' is not running: it was not sta"):
            call("echo")
    with pytest.raises(NotRunning), connection.channel():
        pass
    with pytest.raises(NotRunning):
        connection.lasting_channel()
    with connection.last_channel() as channel:
        assert channel.call("echo", n=1) == {"n": 1}


@pytest.mark.parametrize("how", ["call", "wait"])
def test_close(connection: Connection, answers: Answers, how: str) -> None:
    """Calls in progress end with the connection, and tell that the topology does not run."""
    with ThreadPoolExecutor() as pool:
        call = pool.submit(getattr(connection, how), "wait")
        assert answers.entered.acquire(timeout=LIMIT)
        connection.close()
        assert isinstance(error := call.exception(LIMIT), NotRunning)
        assert "'one' is not running" in str(error)


@pytest.mark.parametrize("how", ["call", "wait"])
def test_error_of_an_end_meanwhile(connection: Connection, answers: Answers, how: str) -> None:
    """An error of a call during which the topology was ended here is that it does not run."""

    def end() -> None:
        connection.end()
        raise CachesimError("it takes no commands")

    answers.on_wait = end
    with pytest.raises(NotRunning, match="'one' is not running"):
        getattr(connection, how)("wait")


def test_fork(connection: Connection, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a forked child nothing is called, and the error says what may be used."""
    owner = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: owner + 1)
    for call in (connection.call, connection.wait):
        with pytest.raises(NotRunning, match=f"process {owner}, which this one was forked from: c"):
            call("echo")
    with pytest.raises(NotRunning, match="forked"), connection.channel():
        pass
    with pytest.raises(NotRunning, match="forked"):
        connection.check()
    assert answers.callers == []
