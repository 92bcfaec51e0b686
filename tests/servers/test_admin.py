"""The connections of cachesim itself."""

import socket
import ssl

import pytest

from cachesim.servers.admin import NodeClients
from cachesim.topology import Endpoint


@pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux tells it")
def test_connections_that_the_server_has_closed() -> None:
    """They are none of the node's any more, though their client has not noticed yet."""
    admin = NodeClients(lambda _: Endpoint("127.0.0.1", 1), "u", "p", ssl.create_default_context())
    ours, theirs = zip(*(socket.socketpair() for _ in range(3)), strict=True)
    clients = [admin.new_memcached("memcached-a") for _ in ours]
    assert admin.connected("memcached-a") == 0
    for client, it in zip(clients, ours, strict=True):
        client.sock = it
    assert admin.connected("memcached-a") == 3
    theirs[0].sendall(b"not read yet")
    theirs[0].close()
    ours[1].close()
    assert admin.connected("memcached-a") == 1
    assert admin.connected("memcached-b") == 0
    for it in (*ours, *theirs):
        it.close()
