"""Clients for single nodes, mostly at their admin addresses."""

import select
import socket
import ssl
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cachesim.topology import Endpoint

if TYPE_CHECKING:
    from pymemcache.client.base import Client
    from redis import Redis


TIMEOUT = 3.0
"""Seconds that a call waits for an answer. On a busy machine, one second or more is normal."""


class NodeClients:
    """Makes clients for single nodes, at their admin addresses or through links. Thread-safe.

    They do not retry, so that the caller sees every error.

    Args:
        address: returns the address of a node.
    """

    def __init__(
        self,
        address: Callable[[str], Endpoint],
        username: str,
        password: str,
        tls: ssl.SSLContext,
    ) -> None:
        self._address = address
        self._username = username
        self._password = password
        self._tls = tls
        self._redis: dict[tuple[str, float], Redis] = {}
        self._lock = threading.Lock()
        # Of each node: the sockets to Redis, and the clients of Memcached.
        self._sockets: dict[str, weakref.WeakSet[socket.socket]] = {}
        self._memcached: dict[str, weakref.WeakSet[Client]] = {}

    def connected(self, node: str) -> int:
        """Return how many connections to a node are open that were made here."""
        with self._lock:
            sockets = list(self._sockets.get(node, ()))
            clients = self._memcached.get(node, ())
            sockets += [sock for it in clients if (sock := it.sock) is not None]
        return sum(map(_is_open, sockets))

    def redis(self, node: str, timeout: float = TIMEOUT) -> "Redis":
        """Return the client of a Redis node. All callers share it.

        Args:
            timeout: as for `new_redis`; there is a client for each.
        """
        if (client := self._redis.get((node, timeout))) is None:
            client = self._redis.setdefault((node, timeout), self.new_redis(node, timeout))
        return client

    def new_redis(self, node: str, timeout: float = TIMEOUT) -> "Redis":
        """Return a new client for a Redis node.

        Args:
            timeout: seconds for connecting and for each answer.
        """
        from redis import ConnectionPool, Redis
        from redis.backoff import NoBackoff
        from redis.connection import Connection
        from redis.retry import Retry

        endpoint, context, made = self._address(node), self._tls, self._made

        class TLSConnection(Connection):
            # redis-py's own class makes a new context for each connection and loads the system's
            # certificates into it: 40 ms each, six times in every start.
            def _connect(self) -> socket.socket:
                plain = super()._connect()  # type: ignore[no-untyped-call]  # not annotated there
                try:
                    secured = context.wrap_socket(plain, server_hostname=endpoint.host)
                except OSError:
                    plain.close()
                    raise
                made(node, secured)
                return secured

        pool = ConnectionPool(
            connection_class=TLSConnection,
            host=endpoint.host,
            port=endpoint.port,
            username=self._username,
            password=self._password,
            decode_responses=True,
            protocol=2,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
        )
        return Redis.from_pool(pool)

    def new_memcached(self, node: str, timeout: float = TIMEOUT) -> "Client":
        """Return a new client for a Memcached node. It is not thread-safe.

        Args:
            timeout: seconds for connecting and for each answer.
        """
        from pymemcache.client.base import Client

        endpoint = self._address(node)
        client = Client(
            (endpoint.host, endpoint.port),
            tls_context=self._tls,
            connect_timeout=timeout,
            timeout=timeout,
            no_delay=True,
            default_noreply=False,
        )
        with self._lock:
            self._memcached.setdefault(node, weakref.WeakSet()).add(client)
        return client

    def _made(self, node: str, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.setdefault(node, weakref.WeakSet()).add(connection)

    def close(self) -> None:
        """Close the clients that `redis` has opened."""
        for client in self._redis.values():
            client.close()
        self._redis.clear()


def _is_open(connection: socket.socket) -> bool:
    """Return whether neither side has closed a connection. A server does when its process ends."""
    number = connection.fileno()
    if number < 0 or sys.platform != "linux":
        return number >= 0
    waiting = select.poll()
    waiting.register(number, select.POLLRDHUP)
    return not waiting.poll(0)


def stored(client: "Redis", keys: Sequence[str], length: int) -> list[str | None]:
    """Return the first bytes of the strings that a node has, primary or replica.

    Args:
        length: how many bytes.

    Returns:
        For each key its text; None: there is none, or it is no string.

    Raises:
        Exception: one of `errors`; the node does not answer.
    """
    with client.pipeline(transaction=False) as pipeline:
        pipeline.execute_command("READONLY")  # else a replica redirects
        for key in keys:
            pipeline.execute_command("GETRANGE", key, 0, length - 1)
        _, *found = pipeline.execute(raise_on_error=False)
    return [it if isinstance(it, str) and it else None for it in found]


def errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that a client raises when a node or the way to it fails."""
    from pymemcache.exceptions import MemcacheError
    from redis.exceptions import RedisError

    return RedisError, MemcacheError, OSError
