"""Toxiproxies to compare: an embedded one on a port, and a real one in a separate process."""

import io
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from typing import NamedTuple

from cachesim.aio.loop import LoopThread
from cachesim.clock import Deadline
from cachesim.embedded.toxiproxy.proxies import Proxies
from cachesim.embedded.toxiproxy.server import ProxyServer
from cachesim.settings import Settings

_PATIENCE = 20.0  # seconds


class Embedded(NamedTuple):
    """An embedded Toxiproxy whose loop runs in another thread."""

    url: str
    server: ProxyServer
    thread: LoopThread


@contextmanager
def embedded() -> Iterator[Embedded]:
    """An embedded Toxiproxy."""
    thread = LoopThread("toxiproxy")
    loop = thread.start()
    try:
        server = ProxyServer(loop, Proxies(loop, rng=Random(0)))
        yield Embedded(thread.call(server.start), server, thread)
        thread.call(server.close)
    finally:
        thread.stop()


class Response(NamedTuple):
    """The API's response."""

    status: int
    body: bytes


class Api:
    """A raw client of the API, for wrong requests too.

    Attributes:
        headers: the headers of the last response.
    """

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(url.removeprefix("http://"), timeout=_PATIENCE)
        self._connection.connect()
        self.headers: dict[str, str] = {}
        sock: socket.socket = self._connection.sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __call__(self, method: str, path: str, body: bytes = b"", agent: str = "test") -> Response:
        """Make a request over the connection."""
        self._connection.request(method, path, body, {"User-Agent": agent})
        response = self._connection.getresponse()
        self.headers = dict(response.getheaders())
        return Response(response.status, response.read())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def binary(folder: Path) -> Path:
    """Extract the program from the image of the real Toxiproxy. It needs nothing else to run.

    Args:
        folder: where to put it.
    """
    from docker.errors import ImageNotFound

    from cachesim.backends.containers.engine import connect

    program = folder / "toxiproxy"
    image = Settings().toxiproxy_image
    engine = connect().client
    try:
        try:
            container = engine.containers.create(image)
        except ImageNotFound:
            engine.images.pull(image)
            container = engine.containers.create(image)
        try:
            chunks, _ = container.get_archive("/toxiproxy")
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
                found = archive.extractfile("toxiproxy")
                assert found
                program.write_bytes(found.read())
        finally:
            container.remove(v=True)
    finally:
        engine.close()
    program.chmod(0o755)
    return program


@contextmanager
def real(program: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """Run a real Toxiproxy; yield its API's URL."""
    port = free_port(host)
    with subprocess.Popen(
        [program, "-host", host, "-port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            deadline = Deadline(_PATIENCE)
            while not deadline.expired and process.poll() is None:
                with suppress(ConnectionRefusedError), socket.create_connection((host, port)):
                    break
            assert process.poll() is None, "the real Toxiproxy has ended"
            yield f"http://{host}:{port}"
        finally:
            process.kill()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is free now."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])
