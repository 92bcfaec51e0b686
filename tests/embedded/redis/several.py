"""Several clients of one server: a real Redis or an embedded node. See `transcript`."""

import asyncio
import shlex
import socket
from collections.abc import Sequence
from typing import Any, Protocol

from cachesim.aio.pipe import pipe
from cachesim.protocols.resp import request
from tests.embedded.redis.differential import NULL_ARRAY, Ours, Real
from tests.embedded.redis.shard import Caller, ReplyError, _read

_ROUNDS = 5  # of PING, after which each reply has arrived


class Clients(Protocol):
    """Clients by name."""

    def send(self, name: str, words: Sequence[bytes]) -> None:
        """Send a request."""

    def settle(self) -> None:
        """Wait until the server has answered what it can."""

    def taken(self) -> dict[str, bytes]:
        """Return what the clients have received since the last call, and forget it."""

    def close(self) -> None:
        """Close all connections."""


class RealClients:
    """Clients of a real server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._control = Real(port)
        self._control(b"FLUSHALL")
        self._sockets: dict[str, socket.socket] = {}

    def send(self, name: str, words: Sequence[bytes]) -> None:
        """See `Clients`."""
        if name not in self._sockets:
            self._sockets[name] = socket.create_connection(("127.0.0.1", self._port))
        self._sockets[name].sendall(request(words))

    def settle(self) -> None:
        """See `Clients`."""
        for _ in range(_ROUNDS):
            self._control(b"PING")

    def taken(self) -> dict[str, bytes]:
        """See `Clients`."""
        return {name: self._received(one) for name, one in self._sockets.items()}

    @staticmethod
    def _received(one: socket.socket) -> bytes:
        try:
            return one.recv(1 << 20, socket.MSG_DONTWAIT) or b"+closed\r\n"
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """See `Clients`."""
        self._control.close()
        for one in self._sockets.values():
            one.close()


class OurClients:
    """Clients of an embedded node."""

    def __init__(self) -> None:
        self._ours = Ours()
        self.server = self._ours.node.server
        self._callers: dict[str, Caller] = {}

    def send(self, name: str, words: Sequence[bytes]) -> None:
        """See `Clients`."""
        if name not in self._callers:
            self._callers[name] = Caller()
            pipe(self._ours.loop, self._callers[name], self._ours.node.accept())
        self._callers[name].send(*words)

    def settle(self) -> None:
        """See `Clients`."""
        for _ in range(_ROUNDS):
            self._ours(b"PING")

    def taken(self) -> dict[str, bytes]:
        """See `Clients`."""
        received = {}
        for name, caller in self._callers.items():
            received[name] = caller.buffer or (b"+closed\r\n" if caller.is_lost else b"")
            caller.buffer = b""
        return received

    def close(self) -> None:
        """See `Clients`."""
        self._ours.close()
        asyncio.set_event_loop(None)


def transcript(
    clients: Clients, script: str, *, pipelined: bool = True
) -> list[tuple[str, str, list[Any]]]:
    """Send the requests of a script. Return each with a client and what this one received then.

    Args:
        script: in each line a client and its request, `A: SET k v`.
        pipelined: whether to send the requests of a client that still waits for a reply.
    """
    said: list[tuple[str, str, list[Any]]] = []
    waiting: set[str] = set()
    try:
        for line in filter(None, map(str.strip, script.splitlines())):
            name, _, words = line.partition(": ")
            if name in waiting and not pipelined:
                continue
            waiting.add(name)
            clients.send(name, [word.encode() for word in shlex.split(words)])
            clients.settle()
            for other, data in clients.taken().items():
                replies = []
                while data:
                    reply, data = _read(data, NULL_ARRAY)
                    replies.append(_comparable(reply))
                if replies:
                    waiting.discard(other)
                    said.append((line, other, replies))
    finally:
        clients.close()
    return said


def _comparable(reply: Any) -> Any:
    if isinstance(reply, list):
        return [_comparable(one) for one in reply]
    return repr(reply) if isinstance(reply, ReplyError) else reply
