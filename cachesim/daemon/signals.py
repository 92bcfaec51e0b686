"""Handles Ctrl-C, SIGTERM and SIGHUP while a topology runs."""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

# SIGHUP: the terminal was closed. SIGBREAK: Ctrl-Break on Windows.
_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
]

INTERRUPTED = 130
"""The exit code of an interrupted command, as shells expect it."""


class Interrupted(KeyboardInterrupt):
    """Raised by an interrupt.

    A class of its own: after a KeyboardInterrupt that has passed through an `exec` of text, which
    dataclasses use, CPython ends the process by SIGINT, whatever its exit code.
    """


class Interrupts:
    """Turns SIGINT, SIGTERM and SIGHUP into an orderly end. A second signal changes nothing.

    A context manager, for the main thread. After it, the process ends with its own exit code, so
    interrupts are ignored.

    Args:
        doing: what is printed at the first signal; empty: nothing.

    Attributes:
        doing: see above.
        requested: whether the process is to end.
    """

    def __init__(self, doing: str = "Taking everything down.") -> None:
        self.doing = doing
        self.requested = False
        self._breakable = False
        # A pipe, as a signal's handler must not take locks.
        self._woken, self._wake = os.pipe()
        self._wake_before = -1

    def __enter__(self) -> Self:
        if sys.platform != "win32":
            # The system may give a signal to any thread, as it does after SIGCONT. Python writes a
            # byte then, so that the main thread wakes and handles it.
            os.set_blocking(self._wake, False)
            self._wake_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in _SIGNALS:
            if not _is_left_to_others(number):
                signal.signal(number, self._handle)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # the parent may have blocked them
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if sys.platform != "win32":
            signal.set_wakeup_fd(self._wake_before)

    @contextlib.contextmanager
    def breaking(self) -> Iterator[None]:
        """Let an interrupt raise `Interrupted`, once. Outside, it only sets `requested`."""
        self._breakable = True
        try:
            if self.requested:
                raise Interrupted
            yield
        finally:
            self._breakable = False
        if self.requested:  # after `hold`, or where Python could not raise it
            raise Interrupted

    def request(self) -> None:
        """Make the process end, as a signal does after `hold`."""
        self.requested = True
        os.write(self._wake, b".")

    def interrupt(self) -> None:
        """Send the process a signal, from any thread."""
        if hasattr(signal, "pthread_kill"):
            # To the main thread, which may be waiting for something.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        else:
            _thread.interrupt_main(signal.SIGTERM)
            os.write(self._wake, b".")  # the main thread may be in `wait`

    def wait(self) -> None:
        """Wait until the process is to end."""
        while not self.requested:
            os.read(self._woken, 1)

    def hold(self) -> None:
        """From now on, raise only at the end of `breaking`."""
        self._breakable = False

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        first = not self.requested
        self.request()
        if first and self.doing:
            _tell(self.doing)
        if self._breakable:
            self._breakable = False
            raise Interrupted
        if not first:
            _tell("Everything is being taken down. This takes a moment and is not interrupted.")


def _is_left_to_others(number: int) -> bool:
    """Return whether the signal is ignored on purpose, as under `nohup`."""
    is_hangup = number == getattr(signal, "SIGHUP", None)
    return is_hangup and signal.getsignal(number) is signal.SIG_IGN


def _tell(line: str) -> None:
    if sys.stderr is None:
        return  # it was closed before the start, so descriptor 2 may be anything
    # Not through sys.stderr: the interrupt may have come in the middle of a write to it.
    with contextlib.suppress(OSError):  # the terminal may be gone
        start = "\n" if os.isatty(2) else ""  # the line there shows ^C
        os.write(2, f"{start}{line}\n".encode())
