"""The clients of a pod, configured as in production, and what they asked.

They are the libraries' own. Which node they ask is seen by arguments that they have for such
things: a function that is called with each new connection, and the choice of a node for a key.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cachesim.runs import env as variables
from cachesim.servers import clients
from cachesim.topology import Endpoint, Node, production
from cachesim.workload.calls import Asked
from cachesim.workload.plan import POOL

if TYPE_CHECKING:
    from pymemcache.client.hash import HashClient
    from redis import CredentialProvider
    from redis.cluster import RedisCluster

T = TypeVar("T")
COMMANDS = frozenset({"GET", "SET", "EXPIRE", "DEL"})
"""What the workload sends to Redis."""
TIMEOUT = 0.5
"""Seconds: the architecture's timeouts, to connect and for an answer."""


def redis_cluster(
    env: Mapping[str, str], asked: Asked, names: dict[str, str], *, replicas: bool
) -> "RedisCluster":
    """Return a RedisCluster with its pools open, which was given the configuration endpoint alone.

    Args:
        env: the variables of `cachesim env`.
        asked: is told what it asks.
        names: gets the nodes' names, by address. It may get more later.
        replicas: whether it reads from replicas too.
    """
    endpoint = Endpoint(env[variables.REDIS_HOST], int(env[variables.REDIS_PORT]))
    names |= _named(env[variables.REDIS_NODES], production().redis)

    def watch(connection: Any) -> None:
        if "send_command" in vars(connection):
            return  # it has connected again
        send, pack = connection.send_command, connection.pack_commands
        address = f"{connection.host}:{connection.port}"
        name = f"{connection.port}-{id(connection):x}"

        def note(command: str) -> None:
            if command in COMMANDS:  # the client asks for the slots in between
                asked.node, asked.connection = names.get(address), name
                asked.attempts += 1

        def send_command(*arguments: Any, **options: Any) -> None:
            note(arguments[0])
            send(*arguments, **options)

        def pack_commands(commands: Sequence[Sequence[Any]]) -> Any:
            note(commands[0][0])  # DEL comes in a pipeline of one
            return pack(commands)

        connection.send_command, connection.pack_commands = send_command, pack_commands

    password, ca_file = env[variables.REDIS_PASSWORD], Path(env[variables.CA_FILE])
    options: dict[str, Any] = {"read_from_replicas": True} if replicas else {}
    if token_file := env.get(variables.REDIS_PASSWORD_FILE):
        options["credential_provider"] = _from_file(Path(token_file))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of one version or another
        client = clients.redis_cluster(
            [endpoint], password, ca_file, redis_connect_func=watch, **options
        )
        for node in client.get_nodes() if replicas else client.get_primaries():
            pool = node.redis_connection.connection_pool
            for connection in _opened(partial(pool.get_connection, "PING")):
                pool.release(connection)
    return client


def _from_file(file: Path) -> "CredentialProvider":
    """Return what reads the AUTH token from a file for each login, as it may be rotated."""
    from redis import CredentialProvider

    class FromFile(CredentialProvider):
        def get_credentials(self) -> tuple[str]:
            return (file.read_text(encoding="utf-8").strip(),)

    return FromFile()


class _Hasher:
    """HashClient's own choice of a node for a key, seen by `asked`."""

    def __init__(self, asked: Asked, names: Mapping[str, str]) -> None:
        from pymemcache.client.rendezvous import RendezvousHash

        own = RendezvousHash()
        self.add_node, self.remove_node = own.add_node, own.remove_node
        self._choose = own.get_node
        self._asked = asked
        self._names = names

    def get_node(self, key: str) -> str | None:
        """Return the node of a key."""
        node: str | None = self._choose(key)
        if node is not None:
            self._asked.node = self._names.get(node)
            self._asked.attempts += 1
        return node


def memcached_client(env: Mapping[str, str], asked: Asked, names: dict[str, str]) -> "HashClient":
    """Return a HashClient with its pools open.

    Args:
        env: the variables of `cachesim env`.
        asked: is told what it asks.
        names: gets the nodes' names, by address. It may get more later.
    """
    from cachesim.servers.certificates import client_context

    names |= _named(env[variables.MEMCACHED_NODES], production().memcached)
    nodes = [Endpoint.parse(it) for it in env[variables.MEMCACHED_NODES].split(",")]
    tls = client_context(Path(env[variables.CA_FILE]).read_bytes())
    client = clients.memcached_client(nodes, tls, hasher=lambda: _Hasher(asked, names))
    for node in client.clients.values():
        pool = node.client_pool
        for connection in _opened(partial(_connected, pool)):
            pool.release(connection)
    return client


def _opened(connect: Callable[[], T]) -> list[T]:
    """Return all connections of a pool, opened side by side."""
    with ThreadPoolExecutor(POOL) as threads:
        return list(threads.map(lambda _: connect(), range(POOL)))


def _connected(pool: Any) -> Any:
    """Return a connection of a HashClient's pool, which connects with its first command."""
    connection = pool.get()
    connection.version()
    return connection


def _named(addresses: str, nodes: tuple[Node, ...]) -> dict[str, str]:
    return dict(zip(addresses.split(","), (node.name for node in nodes), strict=True))


def redis_tries() -> int:
    """Return how often a RedisCluster of the installed version tries a command."""
    from redis.cluster import RedisCluster

    retries = inspect.signature(RedisCluster).parameters["cluster_error_retry_attempts"]
    return 1 + int(retries.default)
