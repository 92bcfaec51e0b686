"""API answers in Memcached: `api:{service}:{endpoint}:{hash(params)}`, JSON, with a TTL.

If the cache fails, the answer comes from the API itself. A node that fails costs one timeout. Then
it is not used until `dead_timeout` is over.
"""

import hashlib
import json
import logging
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pymemcache.client.hash import HashClient

TIMEOUT = 0.5  # seconds, for connecting and for each answer

_log = logging.getLogger(__name__)


class ApiCache:
    """A cache in front of APIs. Thread-safe."""

    def __init__(self, memcached: HashClient) -> None:
        self._memcached = memcached

    def get(self, key: str, ttl: int, fetch: Callable[[], Any]) -> Any:
        """Return the cached answer, or else the API's.

        Args:
            ttl: seconds for which an answer may be used again.
            fetch: asks the API; its answer must be JSON-serialisable.
        """
        value = self._quietly(lambda: self._memcached.get(key))
        if value is not None:
            return json.loads(value)
        answer = fetch()
        text = json.dumps(answer).encode()
        self._quietly(lambda: self._memcached.set(key, text, expire=ttl))
        return answer

    def close(self) -> None:
        """Close all connections."""
        # HashClient's own method skips nodes that have just failed.
        for node in self._memcached.clients.values():
            node.close()

    def _quietly(self, command: Callable[[], Any]) -> Any:
        try:
            return command()
        # Every exception: besides its own errors and OSError, pymemcache raises RuntimeError when
        # the pool is empty and ValueError when two threads find the same node dead.
        except Exception as error:
            _log.warning("API cache: %r", error)
            return None


def key(service: str, endpoint: str, params: str | Mapping[str, object]) -> str:
    """Return the key of an answer.

    Args:
        params: an id, which is part of the key unchanged, or all parameters, which are hashed.
    """
    if isinstance(params, Mapping):
        text = json.dumps(params, sort_keys=True).encode()
        # 8 bytes: with 4 bytes, two of millions of objects would share a key.
        params = hashlib.blake2b(text, digest_size=8).hexdigest()
    return f"api:{service}:{endpoint}:{params}"


def connect(nodes: Sequence[tuple[str, int]], dead_timeout: float = 60.0) -> ApiCache:
    """Return the API cache on Memcached nodes, over TLS.

    Args:
        dead_timeout: seconds for which a failed node is not used.
    """
    return ApiCache(
        HashClient(
            list(nodes),
            connect_timeout=TIMEOUT,
            timeout=TIMEOUT,
            use_pooling=True,
            max_pool_size=10,
            tls_context=ssl.create_default_context(),
            no_delay=True,
            # With noreply, a write to a dead node seems to succeed.
            default_noreply=False,
            # The first failure removes a node, and its keys go to the other nodes.
            retry_attempts=0,
            dead_timeout=dead_timeout,
        )
    )
