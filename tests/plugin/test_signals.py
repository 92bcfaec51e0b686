"""Signals that end a pytest run leave nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil
import pytest

from cachesim.clock import Deadline
from cachesim.runs.registry import living_runs
from pytest_cachesim._signals import Signals, Terminated, held
from tests.processes import containers_of

SUITE = """
    import os, pathlib, threading
    import pytest

    @pytest.mark.parametrize("number", [0, 1])
    def test_it(cachesim, number):
        file = pathlib.Path(f"{number}.new")
        file.write_text(f"{os.getpid()} {cachesim.name}")
        file.rename(f"{number}.up")
        threading.Event().wait()
"""


@pytest.fixture
def default() -> Iterator[None]:
    """The signals' handlers are Python's own, and are so again after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("default")
def test_ends_in_order() -> None:
    """SIGTERM is an exception that pytest takes for Ctrl-C, and names the signal."""
    signals = Signals()
    signals.install()
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        signal.raise_signal(signal.SIGTERM)
    signals.restore()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("default")
def test_leaves_others_handlers() -> None:
    """An existing handler of SIGTERM is kept."""

    def mine(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError

    signal.signal(signal.SIGTERM, mine)
    signals = Signals()
    signals.install()
    assert signal.getsignal(signal.SIGTERM) is mine
    signals.restore()
    assert signal.getsignal(signal.SIGTERM) is mine


@pytest.mark.usefixtures("default")
def test_tells_workers() -> None:
    """Its workers get the same signal; one that has ended meanwhile is no trouble."""
    signals = Signals()
    command = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        with subprocess.Popen([sys.executable, "-c", ""]) as ended:
            pass
        signals.workers |= {ended.pid, worker.pid}
        signals.install()
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        signals.restore()
        assert worker.wait() == -signal.SIGTERM


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_held(number: signal.Signals) -> None:
    """A held block is finished first, however many signals come."""
    signals = Signals()
    signals.install()
    done = []

    def work() -> None:
        with held():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append("work")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    signals.restore()


@pytest.mark.usefixtures("default")
def test_held_for_nothing() -> None:
    """Without a signal, only the block's own error is raised."""
    with pytest.raises(ValueError, match="mine"), held():
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@contextmanager
def running(pytester: pytest.Pytester, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A run of the suite, which ends with the block."""
    pytester.makepyfile(SUITE)
    command = [sys.executable, "-m", "pytest", "-p", "no:asyncio", "--cachesim", *arguments]
    with pytester.popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], object], process: "subprocess.Popen[bytes]") -> None:
    """Wait for something that a run does."""
    deadline = Deadline(60)
    while not condition():
        assert not deadline.expired
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)


@pytest.mark.usefixtures("on_backend")
@pytest.mark.parametrize("target", ["pytest", "controller", "workers"])
def test_leaves_nothing_behind(pytester: pytest.Pytester, plugins: list[str], target: str) -> None:
    """SIGTERM in the middle of a test takes down what pytest, or all workers of xdist, run."""
    count = 1 if target == "pytest" else 2
    options = [] if target == "pytest" else ["-n2"]
    with running(pytester, *plugins, *options) as process:

        def up() -> list[tuple[int, str]]:
            texts = [file.read_text().split() for file in pytester.path.glob("*.up")]
            return [(int(pid), name) for pid, name in texts]

        until(lambda: len(up()) == count or process.poll() is not None, process)
        assert process.poll() is None
        targets = [pid for pid, _ in up()] if target == "workers" else [process.pid]
        for pid in targets:
            os.kill(pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == pytest.ExitCode.INTERRUPTED, output.decode()
        until(lambda: not any(psutil.pid_exists(pid) for pid, _ in up()), process)
    names = {name for _, name in up()}
    assert not names & {run.name for run in living_runs()}
    assert [containers_of(name) for name in names] == [[]] * len(names)
