"""Auto discovery: a HashClient that follows what Memcached's configuration endpoint tells.

pymemcache's own client for ElastiCache does it this way, but is in no release yet. As Amazon's
clients do, it asks from time to time, and keeps what it has while it gets no answer.
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cachesim.runs import env as variables
from cachesim.workload.clients import TIMEOUT

if TYPE_CHECKING:
    import ssl

    from pymemcache.client.hash import HashClient

Address = tuple[str, int]
_END = b"\n\r\nEND\r\n"


class Discovery:
    """Changes the nodes of a HashClient to those that the endpoint tells.

    Args:
        env: the variables of `cachesim env`.
    """

    def __init__(self, client: "HashClient", env: Mapping[str, str]) -> None:
        from cachesim.servers.certificates import client_context

        self._client = client
        self._endpoint = (env[variables.MEMCACHED_HOST], int(env[variables.MEMCACHED_PORT]))
        self._tls = client_context(Path(env[variables.CA_FILE]).read_bytes())
        self._left: list[str] = []

    def start(self, interval: float) -> None:
        """Ask at once, and then every so many seconds, until the process ends."""
        threading.Thread(
            target=self._poll, args=(interval,), name="cachesim-discovery", daemon=True
        ).start()

    def _poll(self, interval: float) -> None:
        while True:
            self.ask()
            time.sleep(interval)

    def ask(self) -> None:
        """Ask once. Without an answer nothing changes."""
        from pymemcache.exceptions import MemcacheError

        with contextlib.suppress(OSError, MemcacheError, ValueError):
            self.follow(discovered(self._endpoint, self._tls))

    def follow(self, nodes: Iterable[Address]) -> None:
        """Use these nodes and no others. Those that stay keep their connections."""
        client = self._client
        for key in self._left:  # no call is about to use them any more
            client.clients.pop(key).close()
        self._left = []
        wanted = {f"{host}:{port}": (host, port) for host, port in nodes}
        for key, address in wanted.items():
            if key not in client.clients:
                client.add_server(address)
        for key in client.clients.keys() - wanted.keys():
            with contextlib.suppress(ValueError):  # it was held for dead
                client.hasher.remove_node(key)
            address = client.clients[key].server
            client._failed_clients.pop(address, None)
            client._dead_clients.pop(address, None)
            self._left.append(key)


def discovered(endpoint: Address, tls: "ssl.SSLContext") -> list[Address]:
    """Return the nodes that an endpoint or a node tells.

    Raises:
        OSError, MemcacheError: there was no answer.
        ValueError: it is none to `config get cluster`.
    """
    from pymemcache.client.base import Client

    with contextlib.closing(
        Client(endpoint, connect_timeout=TIMEOUT, timeout=TIMEOUT, tls_context=tls)
    ) as client:
        return nodes_in(client.raw_command(b"config get cluster", end_tokens=_END))


def nodes_in(answer: bytes) -> list[Address]:
    """Return the nodes of an answer to `config get cluster`, which is read up to its end.

    Raises:
        ValueError: it is another answer.
    """
    _, _version, nodes = answer.splitlines()
    found = []
    for node in nodes.decode().split():
        host, ip, port = node.split("|")
        found.append((host or ip, int(port)))
    return found
