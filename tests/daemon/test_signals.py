"""Interrupts: the first one breaks where that is safe, and none cuts a take-down short."""

import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from cachesim.daemon.signals import Interrupted, Interrupts


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    """Interrupts of this process, which has its own handlers again afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with Interrupts() as interrupts:
        yield interrupts
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_breaks_once(interrupts: Interrupts, number: signal.Signals) -> None:
    """The first interrupt breaks, a later one does not."""
    seen = []

    def interrupted_twice() -> None:
        with interrupts.breaking():
            try:
                signal.raise_signal(number)
            finally:
                signal.raise_signal(number)
                seen.append("the second")

    with pytest.raises(Interrupted):
        interrupted_twice()
    assert seen == ["the second"]


def test_interrupt_on_hold(interrupts: Interrupts) -> None:
    """An interrupt that is held raises at the end."""
    seen = []

    def interrupted() -> None:
        with interrupts.breaking():
            interrupts.hold()
            signal.raise_signal(signal.SIGINT)
            seen.append("what was begun")

    with pytest.raises(Interrupted):
        interrupted()
    assert seen == ["what was begun"]


def test_interrupt_elsewhere(interrupts: Interrupts, capfd: pytest.CaptureFixture[str]) -> None:
    """Outside `breaking` interrupts are noted, and each is answered."""
    for _ in range(2):
        signal.raise_signal(signal.SIGINT)
    assert interrupts.requested
    assert capfd.readouterr().err.splitlines() == [
        "Taking everything down.",
        "Everything is being taken down. This takes a moment and is not interrupted.",
    ]


def test_interrupt_after_hold_that_nobody_sees(interrupts: Interrupts) -> None:
    """An interrupt before `breaking` ends that too, if nothing else is reached."""
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(Interrupted), interrupts.breaking():
        pass


def test_no_interrupt(interrupts: Interrupts) -> None:
    """Without an interrupt nothing is broken, and nothing requested."""
    with interrupts.breaking():
        pass
    assert not interrupts.requested


def test_errors_are_not_hidden(interrupts: Interrupts) -> None:
    """An error inside comes out as it is, and interrupts after it break nothing."""
    with pytest.raises(LookupError), interrupts.breaking():
        raise LookupError
    signal.raise_signal(signal.SIGINT)
    assert interrupts.requested


@pytest.mark.parametrize("how", ["request", "interrupt"])
def test_wait(interrupts: Interrupts, how: str) -> None:
    """Waiting ends when another thread asks for the end, or sends a signal."""
    asking = threading.Timer(0.01, getattr(interrupts, how))
    asking.start()
    interrupts.wait()
    assert interrupts.requested
    interrupts.wait()
    asking.join()


def test_interrupt_of_another_thread_breaks(interrupts: Interrupts) -> None:
    """A signal that another thread sends breaks what the main thread does, waits too."""
    asking = threading.Timer(0.01, interrupts.interrupt)

    def waiting() -> None:
        with interrupts.breaking():
            asking.start()
            threading.Event().wait(10)
            pytest.fail("it was not broken")

    with pytest.raises(Interrupted):
        waiting()
    asking.join()


def test_request_does_not_break(interrupts: Interrupts) -> None:
    """A request raises at the end of `breaking` alone."""
    seen = []

    def requested() -> None:
        with interrupts.breaking():
            interrupts.request()
            seen.append("what was begun")

    with pytest.raises(Interrupted):
        requested()
    assert seen == ["what was begun"]


def test_what_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """What the first signal says can be chosen."""
    with Interrupts("Leaving.") as interrupts:
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.requested
    assert capfd.readouterr().err == "Leaving.\n"


def test_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    """Afterwards interrupts are ignored: the process ends by itself."""
    with Interrupts() as interrupts:
        pass
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert not interrupts.requested
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="terminals hang up on POSIX")
@pytest.mark.parametrize("is_ignored", [True, False])
def test_hangup(is_ignored: bool) -> None:
    """A terminal that is closed ends the process, but not under `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGHUP)
        assert interrupts.requested == (not is_ignored)


def test_without_stderr(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Without a stderr nothing is written to what may have its descriptor."""
    monkeypatch.setattr(sys, "stderr", None)
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
    assert interrupts.requested
    assert capfd.readouterr().err == ""
