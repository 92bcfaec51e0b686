"""The settings of a Memcached node."""

import ssl
from dataclasses import dataclass

MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class MemcachedNodeConfig:
    """The settings of a node.

    Attributes:
        max_memory: the bytes for items (`-m`).
        server_tls: the TLS of connections to the node; None: plain TCP.
        max_item_size: the most bytes of an item, including key and header (`-I`).
        max_connections: as `-c`, including some for the process's own files.
        version: the version that the node reports.
        port: the port that the node reports.
    """

    name: str
    max_memory: int = 64 * MEGABYTE
    server_tls: ssl.SSLContext | None = None
    max_item_size: int = MEGABYTE
    max_connections: int = 1024
    version: str = "1.6.18"
    port: int = 11211
