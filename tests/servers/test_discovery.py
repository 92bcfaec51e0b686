"""The answer of Memcached auto discovery."""

from cachesim.servers.discovery import cluster_reply
from cachesim.topology import Endpoint


def test_reply() -> None:
    """The size is that of the payload in bytes, and a blank line comes before END."""
    reply = cluster_reply(12, [Endpoint("cache.example", 17001), Endpoint("127.0.0.1", 17011)])
    payload = b"12\ncache.example|127.0.0.1|17001 127.0.0.1|127.0.0.1|17011\n"
    assert reply == b"CONFIG cluster 0 59\r\n" + payload + b"\r\nEND\r\n"
    assert len(payload) == 59
