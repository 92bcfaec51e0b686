"""Clients for single nodes, and those that the architecture prescribes for applications."""

import importlib.util
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cachesim.topology import Endpoint

if TYPE_CHECKING:
    from pymemcache.client.base import Client
    from pymemcache.client.hash import HashClient
    from redis import Redis
    from redis.cluster import RedisCluster

TIMEOUT = 3.0
"""Seconds that a call to a single node waits for an answer. A busy machine takes one, and more."""
DEFAULT_USER = "default"


def preload() -> None:
    """Import what all clients need, which takes 0.1 s: while something else is waited for."""
    for module in ("redis.cluster", "pymemcache.client.hash"):
        importlib.import_module(module)


class NodeClients:
    """Clients for single nodes: at their admin addresses, or through the links. Thread-safe.

    Errors are not retried: they are what the caller wants to know.

    Args:
        address: gives the address of a node.
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
        self._redis: dict[str, Redis] = {}

    def redis(self, node: str) -> "Redis":
        """The client of a Redis node, one for all callers."""
        if (client := self._redis.get(node)) is None:
            client = self._redis.setdefault(node, self.new_redis(node))
        return client

    def new_redis(self, node: str, timeout: float = TIMEOUT) -> "Redis":
        """A client of its own for a Redis node.

        Args:
            timeout: seconds for connecting and for each answer.
        """
        from redis import ConnectionPool, Redis
        from redis.backoff import NoBackoff
        from redis.connection import Connection
        from redis.retry import Retry

        endpoint, context = self._address(node), self._tls

        class TLSConnection(Connection):
            # redis-py's own makes a new context for each connection and loads the system's
            # certificates into it: 40 ms each, six times in every start.
            def _connect(self) -> socket.socket:
                plain = super()._connect()  # type: ignore[no-untyped-call]  # not annotated there
                try:
                    return context.wrap_socket(plain, server_hostname=endpoint.host)
                except OSError:
                    plain.close()
                    raise

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
        """A client of its own for a Memcached node. It is not thread-safe.

        Args:
            timeout: seconds for connecting and for each answer.
        """
        from pymemcache.client.base import Client

        endpoint = self._address(node)
        return Client(
            (endpoint.host, endpoint.port),
            tls_context=self._tls,
            connect_timeout=timeout,
            timeout=timeout,
            no_delay=True,
            default_noreply=False,
        )

    def close(self) -> None:
        """Close what was opened by `redis`."""
        for client in self._redis.values():
            client.close()
        self._redis.clear()


def redis_cluster(
    nodes: Sequence[Endpoint], password: str, ca_file: Path, **overrides: Any
) -> "RedisCluster":
    """A RedisCluster as the architecture configures it.

    The configuration endpoint of production resolves to any node; here all are startup nodes.

    Args:
        overrides: further keyword arguments of RedisCluster, or others than the architecture's.
    """
    import redis
    from redis.cluster import ClusterNode, RedisCluster

    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": 0.5,
        "socket_connect_timeout": 0.5,
        "password": password,
        "ssl": True,
        "ssl_ca_certs": str(ca_file),
    }
    if int(redis.__version__.partition(".")[0]) < 6:
        # Later versions retry timeouts by themselves, and deprecate the argument.
        options["retry_on_timeout"] = True
    startup = [ClusterNode(node.host, node.port) for node in nodes]
    return RedisCluster(startup_nodes=startup, **(options | overrides))


def memcached_client(
    nodes: Sequence[Endpoint], tls: ssl.SSLContext, **overrides: Any
) -> "HashClient":
    """A HashClient as the architecture configures it.

    Args:
        overrides: further keyword arguments of HashClient, or others than the architecture's.
    """
    from pymemcache.client.hash import HashClient

    options: dict[str, Any] = {
        "connect_timeout": 0.5,
        "timeout": 0.5,
        "use_pooling": True,
        "max_pool_size": 10,
        "tls_context": tls,
    }
    return HashClient([(node.host, node.port) for node in nodes], **(options | overrides))


def errors() -> tuple[type[Exception], ...]:
    """What a call to a node raises when the node or the way to it fails."""
    from pymemcache.exceptions import MemcacheError
    from redis.exceptions import RedisError

    return RedisError, MemcacheError, OSError


def toxiproxy(zone: str, url: str) -> Any:
    """toxiproxy-python's `Toxiproxy` for one server.

    It keeps its server's address in a class attribute, so one import of it drives one server: each
    zone gets an import of its own.
    """
    original = importlib.util.find_spec("toxiproxy")
    if original is None or original.origin is None:
        raise ImportError("toxiproxy-python is not installed")
    name = f"_cachesim_toxiproxy_{zone}_{url.rpartition(':')[2]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, original.origin, submodule_search_locations=original.submodule_search_locations
        )
        if spec is None or spec.loader is None:
            raise ImportError(f"toxiproxy-python can't be loaded from {original.origin}")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    server = sys.modules[name].Toxiproxy()
    address = urlsplit(url)
    server.update_api_consumer(address.hostname, address.port)
    return server
