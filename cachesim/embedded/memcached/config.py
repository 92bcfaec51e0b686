"""What a Memcached node is started with."""

import ssl
from dataclasses import dataclass

MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class MemcachedNodeConfig:
    """A node, as it is at every start: it keeps nothing.

    Attributes:
        max_memory: bytes for items (`-m`).
        server_tls: for connections to the node; None for plain ones.
        max_item_size: bytes of an item with its key and all else (`-I`).
        max_connections: as `-c`; some of them are for the process itself.
        version: what it says of itself.
        port: what it says of itself.
    """

    name: str
    max_memory: int = 64 * MEGABYTE
    server_tls: ssl.SSLContext | None = None
    max_item_size: int = MEGABYTE
    max_connections: int = 1024
    version: str = "1.6.18"
    port: int = 11211
