"""Signals end a pytest run with teardown, and never in the middle of a start or a stop."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_ENDING = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK")  # SIGBREAK: Ctrl-Break on Windows
    if hasattr(signal, name)
]
_ALL = [signal.SIGINT, *_ENDING]


class Terminated(KeyboardInterrupt):
    """Raised by a signal. pytest handles it like Ctrl-C: it tears down and ends the run."""


class Signals:
    """Ends the run with teardown on SIGTERM and SIGHUP, while it is installed.

    By default they end the process at once, and what it started stays. pytest handles SIGINT.

    Attributes:
        workers: the pids of xdist's workers, which get the signal too. Otherwise they would notice
            the controller's end seconds later, and have less time for their own teardown.
    """

    def __init__(self) -> None:
        self.workers: set[int] = set()
        self._installed: list[int] = []

    def install(self) -> None:
        """Handle the signals that nobody else handles."""
        if _is_main_thread():
            for number in _ENDING:
                if signal.getsignal(number) is signal.SIG_DFL:
                    signal.signal(number, self._end)
                    self._installed.append(number)

    def restore(self) -> None:
        """Restore the default handlers, unless others have replaced ours."""
        while self._installed:
            number = self._installed.pop()
            if signal.getsignal(number) == self._end:
                signal.signal(number, signal.SIG_DFL)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        for pid in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        raise Terminated(signal.Signals(number).name)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Delay signals inside the context. At its end, raise the first one again."""
    if not _is_main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before: dict[int, Callable[[int, FrameType | None], object]] = {
        number: handler for number in _ALL if callable(handler := signal.getsignal(number))
    }
    try:
        for number in before:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
