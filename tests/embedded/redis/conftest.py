"""Fixtures: a real Redis to compare with."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cachesim.clock import Deadline
from tests.embedded.redis.differential import Real


@pytest.fixture(scope="module")
def real(
    require_server: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of a real Redis 7.0."""
    binary = require_server("redis-server", "v=7.0.")
    with socket.socket() as free, socket.socket() as another:
        free.bind(("127.0.0.1", 0))
        another.bind(("127.0.0.1", 0))
        port, bus_port = free.getsockname()[1], another.getsockname()[1]
    folder: Path = tmp_path_factory.mktemp("redis")
    options = {
        "bind": "127.0.0.1",
        "port": port,
        "cluster-enabled": "yes",
        # By default it is 10,000 above the port: in use, or more than 65535.
        "cluster-port": bus_port,
        "save": "",
        "dir": folder,
        "hz": 100,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    server = subprocess.Popen([binary, *words], stdout=subprocess.DEVNULL)
    try:
        deadline = Deadline(10)
        while True:
            try:
                client = Real(port)
                break
            except ConnectionRefusedError:
                assert not deadline.expired
        with closing(client):
            client(b"CLUSTER", b"ADDSLOTSRANGE", b"0", b"16383")
            while b"cluster_state:ok" not in client(b"CLUSTER", b"INFO"):
                assert not deadline.expired
        yield port
    finally:
        server.kill()
        server.wait()
