"""The connections of clients to a node, of which those beyond a limit wait."""

import asyncio
from collections import deque
from typing import cast


class Backlog:
    """Admits connections up to a limit; the others wait until one that was admitted is closed.

    Attributes:
        limit: the most connections; None: as many as come. Those that are open stay.
        waits: how many connections have had to wait.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        self.waits = 0
        self._admitted = 0
        self._waiting: deque[_Queued] = deque()

    @property
    def is_accepting(self) -> bool:
        """Whether no connection waits."""
        return not self._waiting

    def wrap(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        """Wrap the protocol of a new connection, so that it begins when it is admitted."""
        return _Queued(self, protocol)

    def set_limit(self, limit: int | None) -> None:
        """Change the limit; connections that may go on now do."""
        self.limit = limit
        self._admit_more()

    def _admit(self, connection: "_Queued") -> bool:
        """Admit a new connection. Return whether it need not wait."""
        if self._has_room and not self._waiting:
            self._admitted += 1
            return True
        self.waits += 1
        self._waiting.append(connection)
        return False

    def _leave(self, connection: "_Queued") -> None:
        if connection in self._waiting:
            self._waiting.remove(connection)
        else:
            self._admitted -= 1
            self._admit_more()

    def _admit_more(self) -> None:
        while self._waiting and self._has_room:
            self._admitted += 1
            self._waiting.popleft().begin()

    @property
    def _has_room(self) -> bool:
        return self.limit is None or self._admitted < self.limit


class _Queued(asyncio.Protocol):
    """A connection. While it waits nothing is read, so that its end is not noticed either."""

    _transport: asyncio.Transport

    def __init__(self, backlog: Backlog, protocol: asyncio.Protocol) -> None:
        self._backlog = backlog
        self._protocol = protocol
        self._has_begun = False
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._backlog._admit(self):
            self._has_begun = True
            self._protocol.connection_made(transport)
        else:
            self._transport.pause_reading()

    def begin(self) -> None:
        self._has_begun = True
        # First, as the protocol may pause reading for reasons of its own.
        if not self._transport.is_closing():
            self._transport.resume_reading()
        self._protocol.connection_made(self._transport)
        early, self._early = self._early, []
        for data in early:
            self._protocol.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._has_begun:
            self._protocol.data_received(data)
        else:
            self._early.append(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received() if self._has_begun else None

    def connection_lost(self, error: Exception | None) -> None:
        had_begun, self._has_begun = self._has_begun, False
        self._backlog._leave(self)
        if had_begun:
            self._protocol.connection_lost(error)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
