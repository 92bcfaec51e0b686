"""A forwarder before Memcached nodes: it answers `config get cluster`, and passes all else.

Real servers do not know that command, which only ElastiCache's have. As it comes over TLS, the
forwarder ends the client's TLS, and begins its own to the node.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import cast

from cachesim.servers.discovery import REQUEST

_WITH_DATA = {b"set": 4, b"add": 4, b"replace": 4, b"append": 4, b"prepend": 4, b"cas": 4, b"ms": 2}
"""The commands that data follow, and which of their words is its size in bytes."""
_ANSWERS_WITH_DATA = {b"VALUE": 3, b"VA": 1}
_LONGEST = 64 * 1024
"""Bytes of a line. A longer one is no command, and is passed as it comes."""
_BINARY = b"\x80"  # the first byte of the binary protocol

_QUESTION, _ANSWER = b"version", b"VERSION"
"""What a node is asked in place of `config get cluster`, and the first word of what it says.

The answer of the forwarder takes the place of that: clients that do not wait for answers get them
in the order of their requests, and from a node that hangs none.
"""

Connect = Callable[[], Awaitable[asyncio.Protocol]]
"""Connects to a node, and returns the protocol for its client. Raises OSError."""


class Gate(asyncio.Protocol):
    """A client's first protocol: it hears nothing before there is a connection to the node.

    So it meets a node that refuses or hangs as if nothing were between them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connect: Connect) -> None:
        self._loop = loop
        self._connect = connect
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the node."""
        self._transport = cast(asyncio.Transport, transport)
        self._task = self._loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            protocol = await self._connect()
        except OSError:
            self._transport.abort()
            return
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._received:
            protocol.data_received(self._received)

    def data_received(self, data: bytes) -> None:
        """Keep what the client sends."""
        self._received += data

    def connection_lost(self, _error: Exception | None) -> None:
        """Connect no more."""
        self._task.cancel()


class Forwarder(asyncio.Protocol):
    """The side of one client. Its transport has the client's requests in plain text.

    Args:
        reply: returns the answer to `config get cluster`.

    Attributes:
        node: the side of the node, which is connected first.
        transport: the client's; closing it ends the connection.
    """

    transport: asyncio.Transport

    def __init__(self, reply: Callable[[], bytes]) -> None:
        self.node = Node(self)
        self._reply = reply
        self._requests = _Pieces(_WITH_DATA)
        self._asked: deque[bool] = deque()  # of each question: whether it was the forwarder's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass what the client sends."""
        if self._requests.is_new and data.startswith(_BINARY):
            self._requests.is_raw = self.node.answers.is_raw = True
        passed = []
        for piece, words in self._requests.cut(data):
            is_ours = tuple(words) == REQUEST
            if is_ours or words[:1] == [_QUESTION]:
                self._asked.append(is_ours)
            passed.append(_QUESTION + b"\r\n" if is_ours else piece)
        self.node.transport.write(b"".join(passed))

    def answer(self, piece: bytes) -> bytes:
        """Return what the client gets for a node's answer to the question."""
        return self._reply() if self._asked and self._asked.popleft() else piece

    def pause_writing(self) -> None:
        """Read no more from the node while the client does not read."""
        self.node.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read from the node again."""
        self.node.transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        """Let go of the node."""
        self.node.transport.close()


class Node(asyncio.Protocol):
    """The side of the node."""

    transport: asyncio.Transport

    def __init__(self, client: Forwarder) -> None:
        self.answers = _Pieces(_ANSWERS_WITH_DATA)
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass what the node answers."""
        passed = [
            self._client.answer(piece) if words[:1] == [_ANSWER] else piece
            for piece, words in self.answers.cut(data)
        ]
        self._client.transport.write(b"".join(passed))

    def pause_writing(self) -> None:
        """Read no more from the client while the node does not read."""
        with contextlib.suppress(RuntimeError):  # it is closing
            self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read from the client again."""
        with contextlib.suppress(RuntimeError):
            self._client.transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        """End the client's connection."""
        self._client.transport.close()


class _Pieces:
    """Cuts a stream of the text protocol into lines, and the data after some of them.

    Args:
        with_data: the first words of these, and which of the line's words is the size in bytes.

    Attributes:
        is_new: whether nothing has come yet.
        is_raw: whether the stream is passed as it comes.
    """

    def __init__(self, with_data: Mapping[bytes, int]) -> None:
        self.is_new = True
        self.is_raw = False
        self._with_data = with_data
        self._rest = b""
        self._data = 0  # bytes of data that belong to the last line
        self._is_within_line = False  # in a long one, whose beginning was passed

    def cut(self, received: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
        """Yield each piece that is there, with its words if it is a line."""
        self.is_new = False
        stream, at = self._rest + received, 0
        while at < len(stream):
            words: list[bytes] = []
            if self.is_raw:
                end = len(stream)
            elif self._data:
                end = min(at + self._data, len(stream))
                self._data -= end - at
            elif end := stream.find(b"\n", at) + 1:
                words = [] if self._is_within_line else stream[at:end].split()
                self._is_within_line = False
                self._data = self._size(words)
            elif self._is_within_line or len(stream) - at > _LONGEST:
                end = len(stream)
                self._is_within_line = True
            else:
                break
            yield stream[at:end], words
            at = end
        self._rest = stream[at:]

    def _size(self, words: list[bytes]) -> int:
        """Return how many bytes of data follow a line."""
        place = self._with_data.get(words[0]) if words else None
        if place is None or len(words) <= place or not words[place].isdigit():
            return 0
        return int(words[place]) + 2
