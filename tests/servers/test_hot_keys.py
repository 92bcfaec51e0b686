"""Traffic on hot keys, and its end."""

import socket
import ssl
import threading

from cachesim.servers.admin import NodeClients
from cachesim.servers.hot_keys import HotKey, HotKeys
from cachesim.topology import Endpoint, production


def test_a_node_that_does_not_answer_holds_up_nobody() -> None:
    """The end of the traffic does not wait for its answer, as others would have to wait too."""
    tls = ssl.create_default_context()
    with socket.create_server(("127.0.0.1", 0)) as node:
        at = Endpoint("127.0.0.1", node.getsockname()[1])
        hot_keys = HotKeys(production(), [NodeClients(lambda _: at, "user", "password", tls)])
        hot_keys.read("redis-a", [HotKey("k", 5)])
        connection, _ = node.accept()
        with connection:
            (reader,) = (it for it in threading.enumerate() if it.name.endswith("keys-redis-a"))
            hot_keys.close()
            assert reader.is_alive()
    reader.join(10)
    assert not reader.is_alive()
