"""The limits of servers, real or emulated: their memory, and their connections.

Memory is not filled by gigabytes of data. A server's limit is lowered to what it holds, which is
the same to its clients, and is done and undone at once. Both limits are those of the process: a new
one has the configured ones again.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import TYPE_CHECKING

from cachesim.elasticache import ROTATE
from cachesim.errors import FaultError
from cachesim.servers.admin import NodeClients
from cachesim.servers.connections import clients_of
from cachesim.servers.credentials import DEFAULT_USER, Credentials, acl_hash
from cachesim.servers.disks import overflow, recover, spare
from cachesim.servers.hot_keys import HotKeys
from cachesim.servers.memcached_config import megabytes_for
from cachesim.servers.memcached_expiry import expire
from cachesim.topology import Service, Topology

if TYPE_CHECKING:
    from pymemcache.client.base import Client

_MEGABYTE = 2**20
_LEAST_MEGABYTES = 8
"""Memcached takes no lower limit of its memory."""
_FILLER = "cachesim:filler:"
_BATCH = 100
_COMMON_CHUNK = 2048
"""Bytes of a chunk, if a Memcached server holds nothing yet."""
_ITEM_OVERHEAD = 100
"""Bytes of an item besides its value: header, key, and the end of a line."""


class Servers:
    """Reads and changes the limits of servers, at their admin addresses.

    Args:
        publish: writes the AUTH token that clients shall use into the token file.
        hot_keys: reads hot keys, as clients do.

    Each method raises one of `cachesim.servers.admin.errors` if the node does not do it.
    """

    def __init__(
        self,
        topology: Topology,
        admin: NodeClients,
        credentials: Credentials,
        publish: Callable[[str], None],
        hot_keys: HotKeys,
    ) -> None:
        self._topology = topology
        self._admin = admin
        self._credentials = credentials
        self._publish = publish
        self.read_hot_keys = hot_keys.read
        self._fillers: dict[str, int] = {}
        self._spares: dict[str, Client] = {}
        # What Redis nodes had at first. It is less than configured where the system has no more.
        self._max_clients: dict[str, int] = {}

    def fill_memory(self, node: str, share: float) -> None:
        """Make what a node holds a share of its memory."""
        if self._topology.node(node).service is Service.REDIS:
            client = self._admin.redis(node)
            memory = client.info("memory")
            # What waits for replicas and for the disk does not count against the limit.
            used = int(memory["used_memory"]) - int(memory.get("mem_not_counted_for_evict", 0))
            most = self._topology.node(node).max_memory  # what it holds may be more of that already
            client.config_set("maxmemory", max(1, min(most, math.floor(used / share))))
            return
        with closing(self._admin.new_memcached(node)) as client:
            fillers = _fill(client, megabytes_for(self._topology.node(node)), share)
            self._fillers[node] = max(fillers, self._fillers.get(node, 0))

    def restore_memory(self, node: str) -> None:
        """Give a node the memory that it is configured with."""
        if self._topology.node(node).service is Service.REDIS:
            self._admin.redis(node).config_set("maxmemory", self._topology.node(node).max_memory)
            return
        with closing(self._admin.new_memcached(node)) as client:
            _set_limit(client, megabytes_for(self._topology.node(node)))
            for first in range(0, self._fillers.pop(node, 0), _BATCH):
                client.delete_many(_names(first), noreply=False)

    def clients_of(self, node: str) -> int:
        """Return how many connections of clients a Memcached node has, besides those of cachesim.

        One of cachesim's is kept for `restore_connections`.
        """
        spare = self._spares[node] = self._spares.get(node) or self._admin.new_memcached(node)
        return clients_of(spare, lambda: self._admin.connected(node))

    def limit_connections(self, node: str, most: int) -> None:
        """Limit the connections of clients to a Redis node, besides those of cachesim."""
        client = self._admin.redis(node)
        if node not in self._max_clients:
            self._max_clients[node] = int(client.info("clients")["maxclients"])
        own = [it for it in client.client_list() if it["user"] != "default"]
        bus = int(client.info("clients")["cluster_connections"])
        client.config_set("maxclients", min(most + len(own) + bus, self._max_clients[node]))

    def restore_connections(self, node: str) -> None:
        """Give a node the limit of connections that it had at first.

        A Memcached node that did not accept any more begins again when one is closed.
        """
        if (spare := self._spares.pop(node, None)) is not None:
            spare.close()
        if node in self._max_clients:
            self._admin.redis(node).config_set("maxclients", self._max_clients[node])

    def tokens(self, strategy: str | None) -> list[str]:
        """Return the AUTH tokens that are valid.

        Args:
            strategy: `ROTATE` or `SET` of `cachesim.elasticache`: the new one besides the old one,
                or instead of it. None: the old one alone.
        """
        it = self._credentials
        valid = {None: [it.token], ROTATE: [it.token, it.next_token]}
        return valid.get(strategy, [it.next_token])

    def set_tokens(self, node: str, tokens: Iterable[str]) -> None:
        """Make a Redis node take these AUTH tokens."""
        words = ("SETUSER", DEFAULT_USER, "resetpass", *map(acl_hash, tokens))
        self._admin.redis(node).execute_command("ACL", *words)

    def publish_token(self, *, is_new: bool) -> None:
        """Write the new AUTH token into the token file, or the old one."""
        it = self._credentials
        self._publish(it.next_token if is_new else it.token)

    def load_certificate(self, node: str, paths: tuple[str, str]) -> None:
        """Make a node load a certificate and its key, for new connections."""
        if self._topology.node(node).service is Service.REDIS:
            settings = ("tls-cert-file", paths[0], "tls-key-file", paths[1])
            self._admin.redis(node).execute_command("CONFIG", "SET", *settings)
            return
        with closing(self._admin.new_memcached(node)) as client:
            if (said := client.raw_command("refresh_certs")) != b"OK":
                raise FaultError(f"{node} did not load its certificate: {said.decode()}")

    def spare_of_disk(self, node: str) -> int:
        """Return how many bytes a full disk of a Redis node shall still take."""
        return spare(self._admin.redis(node))

    def overflow_disk(self, node: str) -> None:
        """Write more than the full disk of a Redis node takes."""
        overflow(self._admin.redis(node))

    def recover_disk(self, node: str) -> None:
        """Wait until a Redis node has written what its full disk did not take; see `recover`."""
        recover(self._admin.redis(node))

    def expire(self, node: str, pattern: str, keep: Callable[[], bool]) -> int:
        """Let keys of a Redis primary or of a Memcached node expire, as if their time were up.

        Args:
            pattern: of the keys, such as `session:*`.
            keep: tells of each key whether it stays.

        Returns:
            How many expired.

        Raises:
            FaultError: the node is a replica.
        """
        from redis.exceptions import MovedError  # slow to import

        if self._topology.node(node).service is Service.MEMCACHED:
            with closing(self._admin.new_memcached(node)) as memcached:
                return expire(memcached, pattern, keep)
        client, count = self._admin.redis(node), 0
        try:
            for key in client.scan_iter(match=pattern, count=_BATCH):
                if not keep():
                    count += int(client.pexpire(key, 1))
        except MovedError as error:  # whose text is a slot and an address alone
            raise FaultError(
                f"can't expire keys of {node}: it is a replica. Name the primary"
            ) from error
        return count

    def flush(self, node: str) -> None:
        """Delete all that a node has."""
        if self._topology.node(node).service is Service.REDIS:
            self._admin.redis(node).flushall()
            return
        with closing(self._admin.new_memcached(node)) as client:
            client.flush_all(noreply=False)


def _names(first: int) -> list[str]:
    return [f"{_FILLER}{number}" for number in range(first, first + _BATCH)]


def _fill(client: "Client", configured: int, share: float) -> int:
    """Lower the memory of a Memcached server, and fill what is left.

    The fillers are as large as most of what it holds, as each size has memory of its own.

    Args:
        configured: its memory, in megabytes.

    Returns:
        How many fillers were written.
    """
    stats = client.stats()
    used, evicted = int(stats[b"bytes"]), int(stats[b"evictions"])
    megabytes = max(_LEAST_MEGABYTES, math.ceil(used / share / _MEGABYTE))
    megabytes = min(megabytes, configured)
    _set_limit(client, megabytes)
    limit, chunk = megabytes * _MEGABYTE, _common_chunk(client)
    overflow = max(1, (share - 1) * limit / chunk)
    value = bytes(chunk - _ITEM_OVERHEAD)
    for first in range(0, math.ceil((share + 1) * limit / chunk), _BATCH):
        if used >= share * limit or int(stats[b"evictions"]) - evicted >= overflow:
            return first
        for name in _names(first):
            # One by one: Memcached 1.6.18 with TLS hangs if more than 16 KB come at once.
            client.set(name, value, noreply=True)
        stats = client.stats()
        used = int(stats[b"bytes"])
    return first + _BATCH


def _set_limit(client: "Client", megabytes: int) -> None:
    # pymemcache's own method waits for an END that never comes.
    client.raw_command(f"cache_memlimit {megabytes}")


def _common_chunk(client: "Client") -> int:
    """Return the size of the chunks of which a Memcached server uses the most, in bytes."""
    slabs = client.stats("slabs")
    used = {
        name.partition(b":")[0]: count
        for name, count in slabs.items()
        if name.endswith(b":used_chunks")
    }
    most = max(used, key=lambda number: int(used[number]), default=None)
    if most is None or not int(used[most]):
        return _COMMON_CHUNK
    return max(int(slabs[most + b":chunk_size"]), 2 * _ITEM_OVERHEAD)
