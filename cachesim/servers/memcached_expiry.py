"""Lets items of a Memcached server expire."""

import fnmatch
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from cachesim.clock import Deadline

if TYPE_CHECKING:
    from pymemcache.client.base import Client

_BUSY = b"BUSY"
"""The answer, without an END, while the server's own crawler runs."""
_LIMIT = 5.0  # seconds
_POLL = 0.05  # seconds


def expire(client: "Client", pattern: str, keep: Callable[[], bool]) -> int:
    """Let items expire, as if their time were up.

    Args:
        pattern: of the keys, with `*`, `?` and `[...]`.
        keep: tells of each key whether it stays.

    Returns:
        How many expired.

    Raises:
        OSError: the server did not list its keys in time, as its crawler is busy.
    """
    count = 0
    for key in _keys(client):
        if fnmatch.fnmatchcase(key.decode(errors="replace"), pattern) and not keep():
            count += bool(client.touch(key, -1))
            client.get(key)  # a server notices that an item has expired when it is asked for
    return count


def _keys(client: "Client") -> list[bytes]:
    """Return all keys of a server.

    pymemcache returns the end of a long answer alone, so this reads it from the socket.
    """
    client.version()  # connects
    connection, deadline = client.sock, Deadline(_LIMIT)
    if connection is None:
        raise ConnectionResetError("the connection is closed")
    while (answer := _metadump(connection)).startswith(_BUSY):
        if deadline.expired:
            raise BlockingIOError("its crawler is busy")
        time.sleep(_POLL)
    words = (line.split()[0] for line in answer.splitlines() if line.startswith(b"key="))
    # An item that is moved to another list meanwhile is told twice.
    return list(dict.fromkeys(unquote_to_bytes(word.removeprefix(b"key=")) for word in words))


def _metadump(connection: socket.socket) -> bytes:
    connection.sendall(b"lru_crawler metadump all\r\n")
    answer = b""
    while not answer.endswith(b"END\r\n"):
        received = connection.recv(65536)
        if not received:
            raise ConnectionResetError("the connection ended")
        answer += received
        if answer.startswith(_BUSY) and answer.endswith(b"\n"):
            break
    return answer
