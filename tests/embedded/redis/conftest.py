"""Fixtures: real Redis servers to compare with."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cachesim.clock import Deadline
from tests.embedded.redis.differential import Real

_PATIENCE = 30  # seconds


@contextmanager
def _server(binary: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Run a server. Yield its port and that of its bus."""
    with socket.socket() as free, socket.socket() as another:
        free.bind(("127.0.0.1", 0))
        another.bind(("127.0.0.1", 0))
        port, bus_port = free.getsockname()[1], another.getsockname()[1]
    options = {
        "bind": "127.0.0.1",
        "port": port,
        "cluster-enabled": "yes",
        # By default it is 10,000 above the port: in use, or more than 65535.
        "cluster-port": bus_port,
        "save": "",
        "dir": folder,
        "hz": 100,
        "repl-diskless-sync-delay": 0,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    server = subprocess.Popen([binary, *words], stdout=subprocess.DEVNULL)
    try:
        deadline = Deadline(_PATIENCE)
        while True:
            try:
                Real(port).close()
                break
            except ConnectionRefusedError:
                assert not deadline.expired
        yield port, bus_port
    finally:
        server.kill()
        server.wait()


def _give_slots(port: int) -> None:
    deadline = Deadline(_PATIENCE)
    with closing(Real(port)) as client:
        client(b"CLUSTER", b"ADDSLOTSRANGE", b"0", b"16383")
        while b"cluster_state:ok" not in client(b"CLUSTER", b"INFO"):
            assert not deadline.expired


@pytest.fixture(scope="module")
def real(
    require_server: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of a real Redis 7.0."""
    binary = require_server("redis-server", "v=7.0.")
    with _server(binary, tmp_path_factory.mktemp("redis")) as (port, _):
        _give_slots(port)
        yield port


@pytest.fixture(scope="module")
def real_shard(
    require_server: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, int]]:
    """The ports of a primary and its replica, of a real Redis 7.0."""
    binary = require_server("redis-server", "v=7.0.")
    folders = (tmp_path_factory.mktemp("primary"), tmp_path_factory.mktemp("replica"))
    with (
        _server(binary, folders[0]) as (primary, bus_port),
        _server(binary, folders[1]) as (replica, _),
        closing(Real(primary)) as client,
        closing(Real(replica)) as other,
    ):
        _give_slots(primary)
        other(b"CLUSTER", b"MEET", b"127.0.0.1", b"%d" % primary, b"%d" % bus_port)
        deadline = Deadline(_PATIENCE)
        while other(b"CLUSTER", b"REPLICATE", client(b"CLUSTER", b"MYID")) != "OK":
            assert not deadline.expired
        while b"master_link_status:up" not in other(b"INFO", b"replication"):
            assert not deadline.expired
        yield primary, replica
