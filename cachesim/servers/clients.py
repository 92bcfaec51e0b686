"""The clients of applications, configured as in production."""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cachesim.topology import Endpoint

if TYPE_CHECKING:
    import ssl

    from pymemcache.client.hash import HashClient
    from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
    from redis.cluster import RedisCluster


def preload() -> None:
    """Import the client libraries. It takes 0.1 s: call it while waiting for something else."""
    for module in ("redis.cluster", "pymemcache.client.hash"):
        importlib.import_module(module)


def redis_cluster(
    nodes: Sequence[Endpoint], password: str, ca_file: Path, **overrides: Any
) -> "RedisCluster":
    """Return a RedisCluster with AUTH, TLS and timeouts of 0.5 s.

    Args:
        nodes: the startup nodes, in the order in which they are asked: the configuration endpoint,
            and the nodes, should it have led to one that has just died.
        overrides: keyword arguments of RedisCluster; they win.
    """
    import redis
    from redis.cluster import ClusterNode, RedisCluster

    options = _options(password, ca_file, overrides)
    if int(redis.__version__.partition(".")[0]) < 6:
        # Later versions retry after timeouts by default, and deprecate the argument.
        options["retry_on_timeout"] = True
    startup = [ClusterNode(node.host, node.port) for node in nodes]
    return RedisCluster(startup_nodes=startup, **(options | overrides))


def async_redis_cluster(
    nodes: Sequence[Endpoint], password: str, ca_file: Path, **overrides: Any
) -> "AsyncRedisCluster":
    """Return the same for asyncio. It connects when it is first used.

    Args:
        overrides: keyword arguments of RedisCluster; they win.
    """
    from redis.asyncio.cluster import ClusterNode, RedisCluster

    options = _options(password, ca_file, overrides)
    startup = [ClusterNode(node.host, node.port) for node in nodes]
    return RedisCluster(startup_nodes=startup, **(options | overrides))


def _options(password: str, ca_file: Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": 0.5,
        "socket_connect_timeout": 0.5,
        "password": password,
        "ssl": True,
        "ssl_ca_certs": str(ca_file),
    }
    if "credential_provider" in overrides:  # redis-py takes one of both
        del options["password"]
    return options


def memcached_client(
    nodes: Sequence[Endpoint], tls: "ssl.SSLContext", **overrides: Any
) -> "HashClient":
    """Return a HashClient with TLS, pools and timeouts of 0.5 s.

    Args:
        overrides: keyword arguments of HashClient; they win.
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


def toxiproxy(zone: str, url: str) -> Any:
    """Return toxiproxy-python's `Toxiproxy` for one server.

    That library keeps the server's address in a class attribute, so one import of it can control
    only one server. Each zone gets an import of its own.

    Raises:
        ImportError: toxiproxy-python is not installed.
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
