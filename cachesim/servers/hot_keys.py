"""Traffic on hot keys: reads of one key at a rate, over the links of clients."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cachesim.servers.admin import NodeClients, errors
from cachesim.topology import Service, Topology

if TYPE_CHECKING:
    from pymemcache.client.base import Client
    from redis.connection import ConnectionInterface

PAUSE = 0.01
"""Seconds between two batches."""
BATCH = 250
"""The most reads that are sent before their answers are awaited."""
_BYTES = 8000
"""Memcached 1.6.18 with TLS hangs if more than 16 KB come at once."""
_RETRY = 0.1  # seconds
_TIMEOUT = 2.0  # seconds that a batch may take
_LINGERING = 0.1  # seconds for the answers of the last batch
_BEHIND = 0.5
"""Seconds of reads that are made up for; what a slow server missed before that is not asked for."""


@dataclass(frozen=True)
class HotKey:
    """A key that is read often.

    Attributes:
        rate: reads in a second.
    """

    key: str
    rate: int


class HotKeys:
    """Reads hot keys, each node's in a thread of its own, from the first key to `close`.

    Args:
        clients: makes clients with each password that may be valid, at the addresses of clients.
    """

    def __init__(self, topology: Topology, clients: Sequence[NodeClients]) -> None:
        self._topology = topology
        self._clients = clients
        self._readers: dict[str, _Reader] = {}

    def read(self, node: str, keys: Sequence[HotKey]) -> None:
        """Read these keys of a node from now on, and no others."""
        if (former := self._readers.pop(node, None)) is not None:
            former.stop()
        if keys:
            service = self._topology.node(node).service
            kind = _RedisKeys if service is Service.REDIS else _MemcachedKeys
            reader = self._readers[node] = _Reader(node, keys, lambda: kind(node, self._clients))
            reader.start()

    def close(self) -> None:
        """Stop all traffic. Repeating it is harmless."""
        for node in tuple(self._readers):
            self.read(node, ())


class _Keys(Protocol):
    """A connection that reads keys."""

    def most(self, key: str) -> int:
        """Return how often a key can be read in one request, at most `BATCH` times."""
        ...

    def read(self, key: str, count: int) -> None:
        """Read a key so many times, in one request."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class _Reader(threading.Thread):
    """Reads keys of a node at their rates."""

    def __init__(self, node: str, keys: Sequence[HotKey], connect: Callable[[], _Keys]) -> None:
        super().__init__(name=f"cachesim-hot-keys-{node}", daemon=True)
        self._keys = keys
        self._connect = connect
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Stop, and wait until it has, unless the node does not answer: no key is read again."""
        self._stopping.set()
        self.join(_LINGERING)

    def run(self) -> None:
        """See `Thread.run`."""
        while not self._stopping.is_set():
            with contextlib.suppress(*errors()), contextlib.closing(self._connect()) as connection:
                self._read(connection)
            self._stopping.wait(_RETRY)

    def _read(self, connection: _Keys) -> None:
        last = time.monotonic()
        due = dict.fromkeys(self._keys, 0.0)
        while not self._stopping.wait(PAUSE):
            last, passed = time.monotonic(), time.monotonic() - last
            for it in self._keys:
                due[it] = min(due[it] + passed * it.rate, _BEHIND * it.rate + 1)
                most = connection.most(it.key)
                while (count := min(most, int(due[it]))) and not self._stopping.is_set():
                    connection.read(it.key, count)
                    due[it] -= count


class _RedisKeys:
    """A connection to a Redis node, as a user of the application."""

    def __init__(self, node: str, clients: Sequence[NodeClients]) -> None:
        self._connection = _logged_in(node, clients)
        request = self._connection.pack_command("READONLY")
        self._connection.send_packed_command(request)
        self._connection.read_response()

    def most(self, key: str) -> int:  # noqa: ARG002
        """See `_Keys.most`."""
        return BATCH

    def read(self, key: str, count: int) -> None:
        """See `_Keys.read`."""
        from redis.exceptions import ResponseError

        request = b"".join(self._connection.pack_command("GET", key))
        self._connection.send_packed_command([request * count])
        for _ in range(count):
            with contextlib.suppress(ResponseError):  # it is no string, or the node lacks the slot
                self._connection.read_response(disable_decoding=True)

    def close(self) -> None:
        """See `_Keys.close`."""
        self._connection.disconnect()


def _logged_in(node: str, clients: Sequence[NodeClients]) -> "ConnectionInterface":
    """Return a connection with the first password that is valid."""
    from redis.exceptions import AuthenticationError

    for maker in clients[:-1]:
        with contextlib.suppress(AuthenticationError):
            return _connected(node, maker)
    return _connected(node, clients[-1])


def _connected(node: str, maker: NodeClients) -> "ConnectionInterface":
    connection = maker.new_redis(node, _TIMEOUT).connection_pool.make_connection()
    connection.connect()
    return connection


class _MemcachedKeys:
    """A connection to a Memcached node."""

    def __init__(self, node: str, clients: Sequence[NodeClients]) -> None:
        self._client: Client = clients[0].new_memcached(node, _TIMEOUT)

    def most(self, key: str) -> int:
        """See `_Keys.most`."""
        return min(BATCH, max(1, _BYTES // len(_request(key))))

    def read(self, key: str, count: int) -> None:
        """See `_Keys.read`."""
        # The answer of `mn` is the last one.
        self._client.raw_command(f"{_request(key) * count}mn", "MN\r\n")

    def close(self) -> None:
        """See `_Keys.close`."""
        self._client.close()


def _request(key: str) -> str:
    return f"mg {key}\r\n"
