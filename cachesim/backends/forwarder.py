"""A forwarder before Memcached nodes: it answers `config get cluster`, and passes all else.

Real servers do not know that command, which only ElastiCache's have. As it comes over TLS, the
forwarder ends the client's TLS, and begins its own to the node.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, cast

from cachesim.servers.discovery import REQUEST

_WITH_DATA = {b"set": 4, b"add": 4, b"replace": 4, b"append": 4, b"prepend": 4, b"cas": 4, b"ms": 2}
"""The commands that data follow, and which of their words is its size in bytes."""
_LONGEST = 64 * 1024
"""Bytes of a line. A longer one is no command, and is passed as it comes."""
_BINARY = b"\x80"  # the first byte of the binary protocol

Connect = Callable[[Callable[[], asyncio.Protocol]], Awaitable[Any]]
"""Connects a protocol, made by the factory, to a node. Raises OSError."""


class Forwarder(asyncio.Protocol):
    """The side of one client. Its transport has the client's requests in plain text.

    Args:
        reply: returns the answer to `config get cluster`.
        connect: connects to the node that gets all else, when there is something for it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, reply: Callable[[], bytes], connect: Connect
    ) -> None:
        self._loop = loop
        self._reply = reply
        self._connect = connect
        self._buffer = b""
        self._data = 0  # bytes of data that belong to the last command
        self._is_raw = False
        self._node: _Node | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer or pass what the client sends."""
        self._buffer += data
        if self._buffer.startswith(_BINARY) and self._node is None:
            self._is_raw = True
        passed: list[bytes] = []
        while piece := self._next():
            if not self._data and not self._is_raw and tuple(piece.split()) == REQUEST:
                self._pass(passed)
                self.transport.write(self._reply())
            else:
                passed.append(piece)
                self._count(piece)
        self._pass(passed)

    def _next(self) -> bytes:
        """Take the next line, or the next part of a command's data; empty: it is not there yet."""
        end = self._buffer.find(b"\n") + 1
        if self._is_raw or (not end and len(self._buffer) > _LONGEST):
            end = len(self._buffer)
        if self._data:
            end = min(self._data, len(self._buffer))
        piece, self._buffer = self._buffer[:end], self._buffer[end:]
        return piece

    def _count(self, piece: bytes) -> None:
        """Note how many bytes of data follow."""
        if self._data:
            self._data -= len(piece)
            return
        words = piece.split()
        place = _WITH_DATA.get(words[0]) if words else None
        if place is not None and len(words) > place and words[place].isdigit():
            self._data = int(words[place]) + 2

    def _pass(self, pieces: list[bytes]) -> None:
        if not pieces:
            return
        if self._node is None:
            self._node = _Node(self)
            self.transport.pause_reading()
            self._task = self._loop.create_task(self._open(self._node))
        self._node.send(b"".join(pieces))
        pieces.clear()

    async def _open(self, node: "_Node") -> None:
        try:
            await self._connect(lambda: node)
        except OSError:
            self.transport.abort()
        else:
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """Read no more from the node while the client does not read."""
        if self._node is not None and self._node.transport is not None:
            self._node.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read from the node again."""
        if self._node is not None and self._node.transport is not None:
            self._node.transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        """Let go of the node."""
        if self._task is not None:
            self._task.cancel()
        if self._node is not None and self._node.transport is not None:
            self._node.transport.close()


class _Node(asyncio.Protocol):
    """The side of the node."""

    def __init__(self, client: Forwarder) -> None:
        self._client = client
        self._waiting: list[bytes] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.writelines(self._waiting)
        self._waiting.clear()

    def send(self, data: bytes) -> None:
        """Send data, once there is a connection."""
        if self.transport is None:
            self._waiting.append(data)
        else:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._client.transport.write(data)

    def pause_writing(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is closing
            self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._client.transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        self._client.transport.close()
