"""Memcached auto discovery: what ElastiCache's nodes answer to `config get cluster`.

The form is that of "Adding auto discovery to your client library" in ElastiCache's user guide.
"""

from collections.abc import Iterable

from cachesim.topology import Endpoint

REQUEST = (b"config", b"get", b"cluster")
"""The words of the request."""


def cluster_reply(version: int, nodes: Iterable[Endpoint], ip: str = "127.0.0.1") -> bytes:
    """Return the answer of a cluster.

    Args:
        version: it grows with each change of the nodes.
        nodes: their addresses for clients.
        ip: the IP address of their hosts.
    """
    words = " ".join(f"{node.host}|{ip}|{node.port}" for node in nodes)
    payload = f"{version}\n{words}\n".encode()
    return b"CONFIG cluster 0 %d\r\n%b\r\nEND\r\n" % (len(payload), payload)
