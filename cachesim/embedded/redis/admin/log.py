"""The log of a node, in the format of Redis."""

import os
import time
from collections import deque
from collections.abc import Callable

_KEPT = 1000


class Log:
    """The last lines of a log.

    Args:
        wall: returns the seconds since the epoch.

    Attributes:
        role: `M` for a primary, `S` for a replica.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._lines: deque[str] = deque(maxlen=_KEPT)
        self.role = "M"

    def __call__(self, text: str, level: str = "*") -> None:
        """Write a line.

        Args:
            level: `.` debug, `-` verbose, `*` notice, `#` warning.
        """
        now = self._wall()
        moment = time.strftime("%d %b %Y %H:%M:%S", time.localtime(now))
        milliseconds = int(now * 1000) % 1000
        self._lines.append(f"{os.getpid()}:{self.role} {moment}.{milliseconds:03} {level} {text}")

    def tail(self, lines: int) -> str:
        """Return the last lines."""
        return "\n".join(list(self._lines)[-lines:])
