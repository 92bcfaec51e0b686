"""The options of a Memcached server, real or emulated.

The limit of connections and the largest item are Memcached's own defaults.
"""

from typing import TYPE_CHECKING

from cachesim.topology import Node

if TYPE_CHECKING:
    from pymemcache.client.base import Client

MEMCACHED_PORT = 11211
_FLUSHED = b"STAT oldest "
"""The one setting that a server tells and that is none: when it was flushed."""


def megabytes_for(node: Node) -> int:
    """Return the memory for items as `-m` takes it: in whole megabytes of 2**20 bytes."""
    return max(1, node.max_memory // 2**20)


def memcached_command(node: Node, directory: str, port: int = MEMCACHED_PORT) -> list[str]:
    """Return the command line of a real server.

    Args:
        directory: where the certificate is.
        port: the one that it listens on.
    """
    # The limit of connections is left alone: if it exceeds the container's limit of open files,
    # the server does not start.
    tls = f"ssl_chain_cert={directory}/cert.pem,ssl_key={directory}/key.pem"
    where = [] if port == MEMCACHED_PORT else ["-p", str(port)]
    return ["memcached", "-m", str(megabytes_for(node)), *where, "-Z", "-o", tls]


def tuning_of(client: "Client", *, flush: bool = False) -> list[bytes]:
    """Return what any client can change of a running server, as by `cache_memlimit` or `lru`.

    Args:
        flush: whether the server deletes its items first, in the same request.
    """
    # pymemcache's own method takes twice as long to parse what is only compared.
    command = "flush_all\r\nstats settings" if flush else "stats settings"
    told: bytes = client.raw_command(command, end_tokens="END\r\n")
    lines = told.splitlines()
    return [it for it in lines if it.startswith(b"STAT ") and not it.startswith(_FLUSHED)]
