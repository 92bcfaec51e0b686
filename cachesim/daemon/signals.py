"""Ctrl-C and its like, while there is something to be taken down."""

import contextlib
import os
import signal
import sys
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
"""The exit code of a command that was interrupted, as shells have it."""


class Interrupted(KeyboardInterrupt):
    """What an interrupt raises.

    Not KeyboardInterrupt itself: when that has passed through an `exec` of text, as dataclasses
    have it, CPython ends the process by SIGINT in the end, whatever its exit code.
    """


class Interrupts:
    """Ends things in order on SIGINT, SIGTERM or SIGHUP, and lets no second one cut that short.

    A context manager, for the main thread. When it is left all is done, and the process about to
    end with an exit code of its own: interrupts are ignored from then on.

    Attributes:
        requested: whether there was one.
    """

    def __init__(self) -> None:
        self.requested = False
        self._breakable = False

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            if not _is_left_to_others(number):
                signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    @contextlib.contextmanager
    def breaking(self) -> Iterator[None]:
        """Where an interrupt raises `Interrupted`, once. Elsewhere it is only noted."""
        self._breakable = True
        try:
            yield
        finally:
            self._breakable = False
        if self.requested:  # after `hold`, or where Python could not raise it
            raise Interrupted

    def request(self) -> None:
        """Ask for the end without a signal."""
        self.requested = True

    def hold(self) -> None:
        """From now on raise only at the end of `breaking`."""
        self._breakable = False

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        first, self.requested = not self.requested, True
        if first:
            _tell("Taking everything down.")
        if self._breakable:
            self._breakable = False
            raise Interrupted
        if not first:
            _tell("Everything is being taken down: that is not cut short, and takes a moment.")


def _is_left_to_others(number: int) -> bool:
    """Whether it is ignored on purpose, as `nohup` does."""
    is_hangup = number == getattr(signal, "SIGHUP", None)
    return is_hangup and signal.getsignal(number) is signal.SIG_IGN


def _tell(line: str) -> None:
    if sys.stderr is None:
        return  # it was closed from the beginning, so that 2 may be anything
    # Not through sys.stderr: the interrupt may have come while that was being written to.
    with contextlib.suppress(OSError):  # the terminal may be gone
        start = "\n" if os.isatty(2) else ""  # it shows ^C, and what was there before
        os.write(2, f"{start}{line}\n".encode())
