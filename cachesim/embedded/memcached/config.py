"""The settings of a Memcached node."""

import ssl
from dataclasses import dataclass

MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class MemcachedNodeConfig:
    """The settings of a node.

    Attributes:
        max_memory: bytes for items (`-m`).
        server_tls: for connections to the node; None for plain connections.
        max_item_size: bytes of an item, with its key and header (`-I`).
        max_connections: as `-c`; some of them are for the process itself.
        version: the version that it reports.
        port: the port that it reports.
    """

    name: str
    max_memory: int = 64 * MEGABYTE
    server_tls: ssl.SSLContext | None = None
    max_item_size: int = MEGABYTE
    max_connections: int = 1024
    version: str = "1.6.18"
    port: int = 11211
