"""Sends the lines that a node's log gains."""

import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from cachesim.errors import InvalidArgument

_LOOK = 0.5  # seconds between two reads
_WINDOW = 1000  # lines that may be added between two reads
_HEARTBEAT = 5.0  # seconds within which the end of a receiver is noticed


def check_lines(lines: object) -> None:
    """Do nothing if this is a number of lines.

    Raises:
        InvalidArgument: it is not.
    """
    if isinstance(lines, bool) or not isinstance(lines, int) or lines < 1:
        raise InvalidArgument(f"lines must be a whole number of at least 1, got {lines!r}")


def follow_log(tail: Callable[[int], str], lines: int, send: Callable[[str], object]) -> NoReturn:
    """Send the last lines of a log, and then new lines, until `send` raises an error.

    Args:
        tail: returns as many last lines of the log.
        send: is also called without new lines, to notice that nobody receives them any more.
    """
    window = max(lines, _WINDOW)
    seen, told = tail(window).splitlines(), time.monotonic()
    send("\n".join(seen[-lines:]))
    while True:
        time.sleep(_LOOK)
        now = tail(window).splitlines()
        news, seen = added(seen, now), now
        if news or time.monotonic() - told > _HEARTBEAT:
            send("\n".join(news))
            told = time.monotonic()


def added(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Return the lines that a log has gained.

    Args:
        before: the last lines of the log, some time ago.
        now: the last lines now.
    """
    kept = next(n for n in range(len(before), -1, -1) if before[len(before) - n :] == now[:n])
    return list(now[kept:])
