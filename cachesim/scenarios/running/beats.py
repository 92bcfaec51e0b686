"""Beats: small operations of cachesim's own, which tell whether a node is able.

A beat is sent to each node every 20 ms, and a write to the Redis primary, over a connection each
through the clients' links. There is no retry. A connection on which an answer is overdue is given
up, and another one is made; what is due meanwhile has no answer. So a node that comes back is seen
within a beat, also if the same connections go on.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from cachesim.history.rows import Beat, Row
from cachesim.topology import Endpoint

INTERVAL = 0.02
"""Seconds between two beats of a connection."""
TIMEOUT = 0.5
"""Seconds for an answer, and for connecting: the clients' own."""
_AGAIN = 0.2  # seconds until a node that has let a connection in, but not its login, is tried again
KEY = "cachesim:beat"
_KEPT = 1500  # beats of each node that are kept in memory: half a minute


@dataclass(frozen=True)
class Lines:
    """The protocol of a stream of beats: every answer is one line.

    Attributes:
        greeting: what a new connection sends, and how many answers it gets.
        beat: what is sent each time.
        good: how a good answer begins.
    """

    greeting: tuple[bytes, int]
    beat: bytes
    good: bytes


def redis_lines(kind: Literal["read", "write"], token: str) -> Lines:
    """Return the protocol of beats to a Redis node."""
    login, readonly = _command("AUTH", token), _command("READONLY")
    if kind == "write":
        return Lines((login, 1), _command("SET", KEY, "1"), b"+OK")
    return Lines((login + readonly, 2), _command("EXISTS", KEY), b":")


def _memcached_lines() -> Lines:
    """Return the protocol of beats to a Memcached node. Nobody sets the key."""
    return Lines((b"", 0), f"get {KEY}\r\n".encode(), b"END")


def _command(*words: str) -> bytes:
    parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    return f"*{len(words)}\r\n{parts}".encode()


class _NotLetIn(OSError):
    """A greeting was refused, or the connection ended before it was answered."""


class _Connection(asyncio.Protocol):
    """One connection of a stream.

    Attributes:
        error: why it has ended; empty if it has not.
    """

    def __init__(self, stream: "_Stream") -> None:
        self.error = ""
        self._stream = stream
        self._buffer = b""
        self._lines = stream.lines()
        self._greetings = self._lines.greeting[1]
        self.sent: deque[tuple[float, float]] = deque()  # due and start of beats without an answer
        self.transport: asyncio.Transport | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the greeting was answered, and it has not ended."""
        return self.transport is not None and not self._greetings and not self.error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self.transport = transport
        if self._lines.greeting[0]:
            transport.write(self._lines.greeting[0])

    def beat(self, due: float, now: float) -> None:
        """Send a beat."""
        assert self.transport is not None  # noqa: S101 - for the type checker
        self.sent.append((due, now))
        self.transport.write(self._lines.beat)

    def data_received(self, data: bytes) -> None:
        """Take answers."""
        now = time.monotonic()
        *lines, self._buffer = (self._buffer + data).split(b"\r\n")
        for line in lines:
            if self._greetings:
                self._greetings -= 1
                if not line.startswith(b"+"):
                    self._end(_error_in(line))
            elif self.sent:
                due, start = self.sent.popleft()
                error = None if line.startswith(self._lines.good) else _error_in(line)
                self._stream.answered(due, start, now, line, error)

    def connection_lost(self, error: Exception | None) -> None:
        """Note that it ended."""
        self._end(type(error).__name__ if error else "ConnectionClosed")

    def _end(self, error: str) -> None:
        self.error = self.error or error
        self._stream.lost(self, error)

    def close(self) -> None:
        """End it at once."""
        if self.transport is not None:
            self.transport.abort()


class _Stream:
    """The beats of one kind to one node."""

    def __init__(
        self,
        beats: "Beats",
        node: str,
        kind: Literal["read", "write"],
        lines: Callable[[], Lines],
    ) -> None:
        self._beats = beats
        self.node = node
        self.is_over = False
        self.kind: Literal["read", "write"] = kind
        self.lines = lines
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._error = "NotConnected"

    def tick(self, due: float, now: float) -> None:
        """Send the beat that is due, or note that it can't be sent."""
        it = self._connection
        if it is not None and it.sent and now - it.sent[0][1] > TIMEOUT:
            self.lost(it, "TimeoutError")
        if self._connection is not None and self._connection.is_ready:
            self._connection.beat(due, now)
            return
        self._beats.note(Beat(self.node, self.kind, due, now, None, 0, self._error))
        if self._connection is None and self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.wait_for(self._connected(), TIMEOUT)
        except _NotLetIn as error:
            self._error = str(error)
            await asyncio.sleep(_AGAIN)
        except (OSError, TimeoutError) as error:
            self._error = type(error).__name__
        finally:
            self._connecting = None

    async def _connected(self) -> None:
        loop, endpoint = asyncio.get_running_loop(), self._beats.endpoints[self.node]
        plain = socket.socket()
        plain.setblocking(False)
        try:
            await loop.sock_connect(plain, (endpoint.host, endpoint.port))
        except BaseException:
            plain.close()
            raise
        self._beats.opened[self.node] += 1
        made: _Connection | None = None
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _, made = await loop.create_connection(
                lambda: _Connection(self),
                sock=plain,
                ssl=self._beats.tls,
                server_hostname=endpoint.host,
            )
            while not made.is_ready:
                if made.error:
                    raise _NotLetIn(made.error)
                await asyncio.sleep(INTERVAL / 4)
            # It was ended meanwhile: a connection that is made is not cancelled.
            if self.is_over:
                raise ConnectionAbortedError
            self._connection = made
        except BaseException:
            # The loop owns the socket. It may be in the middle of a handshake that hangs.
            with contextlib.suppress(OSError):
                plain.shutdown(socket.SHUT_RDWR)
            if made is not None:
                made.close()
            raise

    def answered(
        self, due: float, start: float, end: float, line: bytes, error: str | None
    ) -> None:
        """Note an answer."""
        self._beats.note(Beat(self.node, self.kind, due, start, end, int(error is None), error))
        if error == "MOVED":
            self._beats.moved(line)

    def lost(self, connection: _Connection, error: str) -> None:
        """Give a connection up: what it has sent gets no answer."""
        if connection is not self._connection:
            connection.close()
            return
        self._connection, self._error = None, error
        for due, start in connection.sent:
            self._beats.note(Beat(self.node, self.kind, due, start, None, 0, error))
        connection.sent.clear()
        connection.close()

    def move(self, node: str) -> None:
        """Send further beats to another node."""
        if self._connection is not None:
            self.lost(self._connection, "Moved")
        self.node = node

    def close(self) -> None:
        """End it, with what has no answer yet."""
        self.is_over = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.sent.clear()
            self._connection.close()

    @property
    def is_open(self) -> bool:
        """Whether it has a connection."""
        return self._connection is not None


def _error_in(line: bytes) -> str:
    words = line.lstrip(b"-").split(b" ", 1)
    return words[0].decode(errors="replace") or "Error"


class Beats:
    """Sends beats from a thread of its own, from `start` to `close`.

    Args:
        endpoints: each node's address for clients at first, by name; those of Redis first.
        redis: the names of the Redis nodes.
        token: returns the present AUTH token.
        tls: the context of its connections.
        primary: the Redis primary.
        record: gets the rows.

    Attributes:
        endpoints: each node's present address for clients.
        former: the address before, of nodes that have another one since.
        opened: how many connections were opened to each node.
        primary: the node that gets the writes.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        redis: frozenset[str],
        *,
        token: Callable[[], str],
        tls: ssl.SSLContext,
        primary: str,
        record: Callable[..., None],
    ) -> None:
        self.endpoints = dict(endpoints)
        self.former: dict[str, Endpoint] = {}
        self.tls = tls
        self.opened: dict[str, int] = defaultdict(int)
        self._record = record
        self.primary = primary
        self._rows: list[Row] = []
        self._recent: dict[str, deque[Beat]] = {node: deque(maxlen=_KEPT) for node in endpoints}
        self._streams = [
            _Stream(
                self,
                node,
                "read",
                (lambda: redis_lines("read", token())) if node in redis else _memcached_lines,
            )
            for node in endpoints
        ]
        self._write = _Stream(self, primary, "write", lambda: redis_lines("write", token()))
        self._streams.append(self._write)
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="cachesim-beats", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End. Beats without an answer are left out."""
        self._is_over = True
        if self._thread.is_alive():
            self._thread.join()

    def recent(self, node: str, since: float) -> list[Beat]:
        """Return the reads of a node that began after a time and are decided, by their begin."""
        return sorted(
            (it for it in tuple(self._recent.get(node, ())) if it.start >= since),
            key=lambda it: it.start,
        )

    def follow(self, node: str, endpoint: Endpoint) -> None:
        """Send a node's beats to another address from its next connection on.

        A node that is not known is a Memcached node that was added. Thread-safe, as `forget` is.
        """
        if node in self.endpoints:
            self.former[node] = self.endpoints[node]
            self.endpoints[node] = endpoint
            return
        self.endpoints[node] = endpoint
        self._recent[node] = deque(maxlen=_KEPT)
        self._streams.append(_Stream(self, node, "read", _memcached_lines))

    def forget(self, node: str) -> None:
        """Send no more beats to a node, which was removed."""
        for stream in tuple(self._streams):
            if stream.node == node:
                stream.is_over = True
        self.endpoints.pop(node, None)

    def open(self, node: str) -> int:
        """Return how many connections to a node are open."""
        return sum(it.node == node and it.is_open for it in tuple(self._streams))

    def note(self, beat: Beat) -> None:
        """Take a beat that is decided."""
        self._rows.append(beat)
        if beat.kind == "read":
            self._recent[beat.node].append(beat)

    def moved(self, line: bytes) -> None:
        """Follow a redirection: `-MOVED 42 127.0.0.1:7001`."""
        address = line.rpartition(b" ")[2].decode(errors="replace")
        for node, endpoint in tuple(self.endpoints.items()):
            if str(endpoint) == address:
                self.primary = node

    def _run(self) -> None:
        with contextlib.suppress(RuntimeError):  # the interpreter ends
            asyncio.run(self._beat())

    async def _beat(self) -> None:
        due = time.monotonic()
        while not self._is_over:
            now = time.monotonic()
            if self._write.node != self.primary:
                self._write.move(self.primary)
            for stream in tuple(self._streams):
                if stream.is_over:
                    stream.close()
                    self._streams.remove(stream)
                else:
                    stream.tick(due, now)
            self._flush()
            due = max(due + INTERVAL, time.monotonic() - INTERVAL)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        for stream in self._streams:
            stream.close()
        self._flush()

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            self._record(*rows)
