"""Interrupts: the first one breaks where that is safe, and none cuts a take-down short."""

import signal
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
