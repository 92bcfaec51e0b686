"""The options of a Memcached server, real or emulated.

The limit of connections and the largest item are Memcached's own defaults.
"""

from cachesim.topology import Node

MEMCACHED_PORT = 11211


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
