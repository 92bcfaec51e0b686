"""What Memcached servers are started with."""

import pytest

from cachesim.servers.memcached_config import megabytes_for, memcached_command
from cachesim.topology import Node, Service, production


def test_memory() -> None:
    """A server has the production node's 12 GB, and never less than a megabyte."""
    assert {megabytes_for(node) for node in production().memcached} == {12 * 1024}
    assert megabytes_for(Node("memcached-a", Service.MEMCACHED, "a", 1000)) == 1


@pytest.mark.parametrize("node", production(0.01).memcached, ids=str)
def test_command(node: Node) -> None:
    """A real server has that memory, TLS, and the certificate of its own folder."""
    assert memcached_command(node, f"/data/{node}") == [
        *("memcached", "-m", "122", "-Z", "-o"),
        f"ssl_chain_cert=/data/{node}/cert.pem,ssl_key=/data/{node}/key.pem",
    ]
