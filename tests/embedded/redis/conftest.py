"""Fixtures: real Redis servers to compare with."""

import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from cachesim.clock import Deadline
from tests.embedded.redis.differential import Real

_PATIENCE = 30  # seconds
_POLL = 0.01  # seconds
_SPARE = 2
"""How many run before they are asked for: in its first 2 s a server answers no requests."""


@dataclass
class _Server:
    """A server, its ports, and that of its bus."""

    process: "subprocess.Popen[bytes]"
    port: int
    bus_port: int

    @classmethod
    def start(cls, binary: str, folder: Path) -> "_Server":
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
        return cls(server, port, bus_port)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def connect(self) -> Real:
        """Connect as soon as it answers."""
        deadline = Deadline(_PATIENCE)
        while True:
            try:
                return Real(self.port)
            except ConnectionRefusedError:
                assert not deadline.expired
                time.sleep(_POLL)


@pytest.fixture(scope="session")
def _new_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], _Server]]:
    """Give servers that nobody has used, of a binary, with all slots; a new one replaces each."""
    spare: deque[_Server] = deque()

    def new(binary: str) -> _Server:
        while len(spare) <= _SPARE:
            spare.append(_Server.start(binary, tmp_path_factory.mktemp("redis")))
            with closing(spare[-1].connect()) as client:
                client(b"CLUSTER", b"ADDSLOTSRANGE", b"0", b"16383")
        server = spare.popleft()
        deadline = Deadline(_PATIENCE)
        with closing(server.connect()) as client:
            while b"cluster_state:ok" not in client(b"CLUSTER", b"INFO"):
                assert not deadline.expired
                time.sleep(_POLL)
        return server

    yield new
    for server in spare:
        server.end()


@pytest.fixture(scope="module")
def real(
    require_server: Callable[[str, str], str], _new_server: Callable[[str], _Server]
) -> Iterator[int]:
    """The port of a real Redis 7.0."""
    server = _new_server(require_server("redis-server", "v=7.0."))
    yield server.port
    server.end()


@pytest.fixture(scope="module")
def real_shard(
    require_server: Callable[[str, str], str],
    _new_server: Callable[[str], _Server],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[int, int]]:
    """The ports of a primary and its replica, of a real Redis 7.0."""
    binary = require_server("redis-server", "v=7.0.")
    primary = _new_server(binary)
    replica = _Server.start(binary, tmp_path_factory.mktemp("replica"))
    try:
        with closing(primary.connect()) as client, closing(replica.connect()) as other:
            bus = b"%d" % primary.bus_port
            other(b"CLUSTER", b"MEET", b"127.0.0.1", b"%d" % primary.port, bus)
            deadline = Deadline(_PATIENCE)
            while other(b"CLUSTER", b"REPLICATE", client(b"CLUSTER", b"MYID")) != "OK":
                assert not deadline.expired
                time.sleep(_POLL)
            while b"master_link_status:up" not in other(b"INFO", b"replication"):
                assert not deadline.expired
                time.sleep(_POLL)
            yield primary.port, replica.port
    finally:
        primary.end()
        replica.end()
