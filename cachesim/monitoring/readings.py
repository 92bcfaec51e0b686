"""Reads all servers at once, over connections of its own to their admin addresses."""

import contextlib
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from cachesim.monitoring.metrics import fields
from cachesim.runs.calls import Reading
from cachesim.servers.admin import NodeClients, errors
from cachesim.servers.redis_config import FENCED
from cachesim.topology import Node, Service, Topology

if TYPE_CHECKING:
    from redis.connection import ConnectionInterface

LIMIT = 0.08
"""Seconds that a reading of all nodes may take. Nodes that did not answer by then are left out."""
_TIMEOUT = 1.0  # seconds until a node that does not answer gets another connection
_SECTIONS = ("server", "clients", "memory", "stats", "replication", "keyspace")
_FULL = (*_SECTIONS, "cpu", "persistence", "errorstats")

Values = dict[str, float]


class Readings:
    """Reads all nodes, from its creation to `close`. Thread-safe.

    A node that does not answer does not keep the others waiting.

    Args:
        in_full: read what the metrics are made of, by the servers' own names, and not the samples
            of a history.
    """

    def __init__(self, topology: Topology, admin: NodeClients, *, in_full: bool = False) -> None:
        self._admin = admin
        self._in_full = in_full
        self._pool = ThreadPoolExecutor(len(topology.nodes), thread_name_prefix="cachesim-readings")
        self._lock = threading.Lock()
        self._errors: tuple[type[Exception], ...] = (*errors(), ValueError, KeyError)
        self._under_way: dict[str, Future[Reading | None]] = {}
        self._readers = {node.name: self._reader(node) for node in topology.nodes}

    def read(self) -> dict[str, Reading]:
        """Return a reading of each node that answers at once, by its name.

        In full, a reading that came late is told by the next call, if that has no later one: the
        metrics of a busy server are those that matter.
        """
        late: dict[str, Reading | None] = {}
        with self._lock:
            for node, reader in self._readers.items():
                before = self._under_way.get(node)
                if before is None or before.done():
                    if before is not None and self._in_full:
                        late[node] = before.result()
                    self._under_way[node] = self._pool.submit(self._read, node, reader)
            asked = dict(self._under_way)
            wait(asked.values(), LIMIT)
            found = late | {node: it.result() for node, it in asked.items() if it.done()}
            for node in found:
                if self._under_way[node].done():
                    del self._under_way[node]
        return {node: reading for node, reading in found.items() if reading is not None}

    def add(self, node: Node) -> None:
        """Read one more node."""
        with self._lock:
            self._readers[node.name] = self._reader(node)

    def remove(self, node: str) -> None:
        """Read a node no more."""
        with self._lock:
            reader, under_way = self._readers.pop(node), self._under_way.pop(node, None)
            if under_way is not None:
                wait([under_way])
            reader.close()

    def close(self) -> None:
        """Close the connections. Repeating it is harmless."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for reader in self._readers.values():
            reader.close()

    def _reader(self, node: Node) -> "_RedisReader | _MemcachedReader":
        kind = _RedisReader if node.service is Service.REDIS else _MemcachedReader
        return kind(node.name, self._admin, in_full=self._in_full)

    def _read(self, node: str, reader: "_RedisReader | _MemcachedReader") -> Reading | None:
        begun = time.monotonic()
        try:
            values = reader.read()
        except self._errors:
            with contextlib.suppress(*errors()):
                reader.close()
            return None
        ended = time.monotonic()
        own = self._admin.connected(node)
        return {
            "at": (begun + ended) / 2,
            "took": ended - begun,
            "own_connections": own,
            "values": {**values, "own_connections": own} if self._in_full else values,
        }


class _RedisReader:
    """Reads a Redis node."""

    def __init__(self, node: str, admin: NodeClients, *, in_full: bool) -> None:
        self._client = admin.new_redis(node, _TIMEOUT)
        self._in_full = in_full
        self._connection: ConnectionInterface | None = None

    def read(self) -> Values:
        """Return its values, by the names of samples."""
        if self._connection is None:
            self._connection = self._client.connection_pool.make_connection()
        it = self._connection
        it.connect()
        if self._in_full:
            it.send_packed_command(it.pack_command("INFO", *_FULL))
            return redis_fields(it.read_response())
        commands = [("INFO", *_SECTIONS), ("CONFIG", "GET", "min-replicas-to-write")]
        it.send_packed_command(it.pack_commands(commands))
        text, (_, replicas) = it.read_response(), it.read_response()
        return redis_values(text, int(replicas))

    def close(self) -> None:
        """Close the connection. The next reading opens it again."""
        # redis-py makes no more than 100 of a client, and a node may be dead for longer.
        if self._connection is not None:
            self._connection.disconnect()


class _MemcachedReader:
    """Reads a Memcached node."""

    def __init__(self, node: str, admin: NodeClients, *, in_full: bool) -> None:
        self._client = admin.new_memcached(node, _TIMEOUT)
        self._in_full = in_full

    def read(self) -> Values:
        """Return its values, by the names of samples."""
        found = self._client.stats()
        return memcached_fields(found) if self._in_full else memcached_values(found)

    def close(self) -> None:
        """Close the connection. The next reading opens another."""
        self._client.close()


def redis_values(info: str, min_replicas_to_write: int) -> Values:
    """Return what INFO says, by the names of samples.

    Connections are all of them, cachesim's own included.
    """
    it = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    is_primary = it["role"] == "master"
    return {
        "role": int(is_primary),
        "fenced": int(min_replicas_to_write >= FENCED),
        "offset": int(it["master_repl_offset" if is_primary else "slave_repl_offset"]),
        "evicted_keys": int(it["evicted_keys"]),
        "expired_keys": int(it["expired_keys"]),
        "noeviction": int(it["maxmemory_policy"] == "noeviction"),
        "connections": int(it["connected_clients"]),
        "max_connections": int(it["maxclients"]),
        "connections_received": int(it["total_connections_received"]),
        "used_memory": int(it["used_memory"]),
        "max_memory": int(it["maxmemory"]),
        "keys": int(it.get("db0", "keys=0").partition(",")[0].removeprefix("keys=")),
        "injected_answers": int(it.get("injected_answers", 0)),
        "commands": int(it["total_commands_processed"]),
    }


_OF_MEMCACHED: Mapping[str, str] = {
    "evicted_keys": "evictions",
    "expired_keys": "reclaimed",
    "connections": "curr_connections",
    "connections_received": "total_connections",
    "used_memory": "bytes",
    "max_memory": "limit_maxbytes",
    "keys": "curr_items",
    "commands": "cmd_get",
}


def memcached_values(stats: Mapping[bytes, Any]) -> Values:
    """Return what `stats` says, by the names of samples."""
    values: Values = {name: int(stats[field.encode()]) for name, field in _OF_MEMCACHED.items()}
    # Items that were asked for after their time, besides those whose memory was taken again.
    values["expired_keys"] += int(stats.get(b"get_expired", 0))
    return values | {"injected_answers": int(stats.get(b"injected_answers", 0))}


_OF_REDIS, _ALL_OF_MEMCACHED = fields(Service.REDIS), fields(Service.MEMCACHED)
_COUNT = re.compile(r"(?:count|keys)=(\d+)")


def redis_fields(info: str) -> Values:
    """Return what the metrics of a Redis node are made of.

    Beside INFO's own names: `uptime` in seconds, `keys` over all databases, `is_primary`, `link_up`
    of a replica, `errorstat_<kind>`.
    """
    found: Values = {"keys": 0}
    for line in info.splitlines():
        name, _, value = line.partition(":")
        if name in _OF_REDIS:
            match = _COUNT.match(value)
            found[name] = float(match[1] if match else value)
        elif name.startswith("db") and (match := _COUNT.match(value)):
            found["keys"] += int(match[1])
        elif name == "role":
            found["is_primary"] = int(value == "master")
        elif name == "master_link_status":
            found["link_up"] = int(value == "up")
        elif name == "uptime_in_seconds":
            found["uptime"] = float(value)
    return found


def memcached_fields(stats: Mapping[bytes, Any]) -> Values:
    """Return what the metrics of a Memcached node are made of, by its own names."""
    return {
        name: float(value)
        for key, value in stats.items()
        if (name := key.decode()) in _ALL_OF_MEMCACHED
    }
