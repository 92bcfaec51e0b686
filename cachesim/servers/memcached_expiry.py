"""Lets items of a Memcached server expire."""

import fnmatch
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from pymemcache.client.base import Client

_END = b"END\r\n"


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
        if fnmatch.fnmatchcase(key, pattern) and not keep():
            count += bool(client.touch(key, -1))
            client.get(key)  # a server notices that an item has expired when it is asked for
    return count


def _keys(client: "Client") -> list[str]:
    """Return all keys of a server.

    pymemcache returns the end of a long answer alone, so this reads it from the socket.
    """
    client.version()  # connects
    connection, answer = client.sock, b""
    if connection is None:
        raise ConnectionResetError("the connection is closed")
    connection.sendall(b"lru_crawler metadump all\r\n")
    while not answer.endswith(_END):
        received = connection.recv(65536)
        if not received:
            raise ConnectionResetError("the connection ended")
        answer += received
        if answer.startswith(b"BUSY"):
            raise BlockingIOError("its crawler is busy; try again")
    words = (line.split()[0] for line in answer.splitlines() if line.startswith(b"key="))
    return [unquote(word.decode().removeprefix("key=")) for word in words]
