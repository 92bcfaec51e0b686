"""Counters, the slow log, and the ACL log."""

import time
from collections import deque
from collections.abc import Sequence


class Stats:
    """The counters of INFO.

    Attributes:
        errors: the number of error replies by error code.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.rejected_connections = 0
        self.net_input = self.net_output = 0
        self.repl_input = self.repl_output = 0
        self.sync_full = self.sync_partial_ok = self.sync_partial_err = 0
        self.expired = 0
        self.hits = self.misses = 0
        self.errors: dict[str, int] = {}

    def error(self, text: str) -> None:
        """Count an error by its code."""
        code = text.partition(" ")[0]
        self.errors[code] = self.errors.get(code, 0) + 1


class SlowLog:
    """The last requests that took longer than a threshold.

    Attributes:
        limit: the largest number of entries.
    """

    def __init__(self) -> None:
        self.limit = 128
        self._next = 0
        self._entries: deque[list[object]] = deque()

    def add(
        self, command: str, arguments: Sequence[bytes], taken: int, address: str, name: bytes
    ) -> None:
        """Add a request.

        Args:
            taken: the duration in microseconds.
            address: the client's address.
            name: the client's name.
        """
        if command == "exec" or not self.limit:
            return
        shown = [_shortened(argument) for argument in arguments[:31]]
        if len(arguments) > 32:
            shown.append(b"... (%d more arguments)" % (len(arguments) - 31))
        elif len(arguments) == 32:
            shown.append(_shortened(arguments[31]))
        self._entries.appendleft(
            [self._next, int(time.time()), taken, shown, address.encode(), name]
        )
        self._next += 1
        while len(self._entries) > self.limit:
            self._entries.pop()

    def last(self, count: int) -> list[object]:
        """Return the newest entries, newest first. A count of -1 returns all."""
        entries = list(self._entries)
        return list(entries if count < 0 else entries[:count])

    def __len__(self) -> int:
        return len(self._entries)

    def reset(self) -> None:
        """Delete all entries."""
        self._entries.clear()


def _shortened(argument: bytes) -> bytes:
    if len(argument) <= 128:
        return argument
    return argument[:128] + b"... (%d more bytes)" % (len(argument) - 128)


_Refusal = tuple[tuple[str, str, bytes, bytes], int, float, str]
"""What was refused, how often, when last in seconds since the epoch, and to which client."""
_SEARCHED = 10  # entries that a new one may repeat


class AclLog:
    """The last logins and requests that were refused.

    Args:
        limit: the largest number of entries.
    """

    def __init__(self, limit: int = 128) -> None:
        self._limit = limit
        self._entries: list[_Refusal] = []

    def add(self, reason: str, context: str, thing: bytes, user: bytes, client: str) -> None:
        """Add a refusal. If the same one came within a minute, only count it.

        Args:
            reason: `auth`, `command`, `key` or `channel`.
            context: `toplevel`, `multi` or `lua`.
            thing: the command, key or channel that was refused.
            user: the user name that the client has given.
            client: the client's line in CLIENT LIST.
        """
        key = reason, context, thing, user
        now = time.time()
        count = 1
        for index, (known, times, last, _) in enumerate(self._entries[:_SEARCHED]):
            if known == key and now - last < 60:
                del self._entries[index]
                count += times
                break
        self._entries.insert(0, (key, count, now, client))
        del self._entries[self._limit :]

    def last(self, most: int) -> list[dict[bytes, object]]:
        """Return the newest entries, newest first."""
        now = time.time()
        return [
            {
                b"count": count,
                b"reason": reason.encode(),
                b"context": context.encode(),
                b"object": thing,
                b"username": user,
                b"age-seconds": round(now - last, 3),
                b"client-info": info.encode(),
            }
            for (reason, context, thing, user), count, last, info in self._entries[:most]
        ]

    def reset(self) -> None:
        """Delete all entries."""
        self._entries.clear()
