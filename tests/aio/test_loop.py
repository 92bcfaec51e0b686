"""The loop in a thread of its own."""

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from cachesim.aio import loop
from cachesim.aio.loop import LoopThread
from cachesim.errors import CachesimError


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    """A running loop."""
    thread = LoopThread("test-loop")
    thread.start()
    yield thread
    thread.stop()


def test_calls_run_in_the_loop(thread: LoopThread) -> None:
    """Functions and coroutines run in the loop's thread, and their results come back."""
    assert thread.call(threading.current_thread).name == "test-loop"
    assert thread.call(divmod, 7, 2) == (3, 1)

    async def name() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    assert thread.run(name) == "test-loop"


def test_call_within_a_call(thread: LoopThread) -> None:
    """Code that runs in the loop may use functions that call into it."""
    assert thread.call(lambda: thread.call(divmod, 7, 2)) == (3, 1)


def test_errors_reach_the_caller(thread: LoopThread) -> None:
    """An exception is raised in the caller's thread, and the loop goes on."""
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 / 0)

    async def timeout() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        thread.run(timeout)
    assert thread.call(lambda: 1) == 1


def test_stop() -> None:
    """`stop` waits for nothing, cancels all tasks, and is idempotent."""
    thread = LoopThread("test-loop")
    loop = thread.start()
    ended = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.set()

    asyncio.run_coroutine_threadsafe(wait(), loop)
    thread.call(lambda: None)
    thread.stop()
    assert ended.is_set()
    assert loop.is_closed()
    thread.stop()
    assert "test-loop" not in {it.name for it in threading.enumerate()}
    with pytest.raises(CachesimError, match="stopped"):
        thread.call(lambda: None)


def test_never_started() -> None:
    """A loop that was not started can be stopped."""
    LoopThread("test-loop").stop()


@pytest.mark.parametrize("begun", [False, True])
def test_interrupted_start(begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop whose start was interrupted can be stopped, whether its thread has begun or not."""
    begin = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if begun:
            begin(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start)
    thread = LoopThread("test-loop")
    with pytest.raises(KeyboardInterrupt):
        thread.start()
    if begun:
        assert thread.call(lambda: 1) == 1
    thread.stop()
    assert "test-loop" not in {it.name for it in threading.enumerate()}


def test_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """`start` raises the reason why there can be no loop."""

    def new_event_loop() -> asyncio.SelectorEventLoop:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(loop, "new_event_loop", new_event_loop)
    thread = LoopThread("test-loop")
    with pytest.raises(OSError, match="too many"):
        thread.start()
    thread.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forks(thread: LoopThread) -> None:
    """In a forked process calls raise an error, and only the parent keeps the sockets."""
    said, say = os.pipe()
    done, end = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        thread.call(thread.loop.add_reader, listener, lambda: None)
        if not (child := os.fork()):
            try:
                thread.call(lambda: None)
            except CachesimError as error:
                os.write(say, str(error).encode())
            os.read(done, 1)
            os._exit(0)
        assert "forked from" in os.read(said, 1000).decode()
        thread.call(thread.loop.remove_reader, listener)
    # If the child had the listener too, it would still accept.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)
    os.write(end, b".")
    os.waitpid(child, 0)
    for file in (said, say, done, end):
        os.close(file)
    assert thread.call(lambda: 1) == 1
