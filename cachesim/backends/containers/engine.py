"""The container engine: finding it, and what is done with it from several sides."""

import io
import socket
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cachesim.errors import BackendUnavailable

if TYPE_CHECKING:
    from testcontainers.core.docker_client import DockerClient


_KNOCK_TIMEOUT = 5.0  # seconds


def connect(patience: float | None = None) -> "DockerClient":
    """The engine that the environment or the present Docker context names.

    Args:
        patience: seconds for each of its answers, now and later; None: as the Docker SDK has it.

    Raises:
        BackendUnavailable: none answers.
    """
    from docker.errors import DockerException
    from testcontainers.core.docker_client import DockerClient, get_docker_host

    where = get_docker_host() or "unix:///var/run/docker.sock"
    try:
        _knock(where, patience or _KNOCK_TIMEOUT)
        if patience is None:
            return DockerClient()
        client = DockerClient(timeout=patience)
        client.client.ping()
        return client
    except (DockerException, OSError) as error:
        raise BackendUnavailable(
            f"no Docker engine answers at {where}: {error}. Start Docker, or point DOCKER_HOST or "
            "`docker context use` to a running engine."
        ) from error


def _knock(host: str, patience: float) -> None:
    """Try the engine's socket first: where nothing listens, the Docker SDK leaves its own open."""
    address = urlsplit(host)
    if address.scheme == "unix" and hasattr(socket, "AF_UNIX"):
        with socket.socket(socket.AF_UNIX) as knocker:
            knocker.settimeout(patience)
            knocker.connect(address.path)
    elif address.scheme in ("tcp", "http", "https") and address.hostname:
        port = address.port or (2376 if address.scheme == "https" else 2375)
        socket.create_connection((address.hostname, port), patience).close()


def host_of(client: "DockerClient") -> str:
    """Where an engine publishes ports: 127.0.0.1 if it is local."""
    host = client.host()
    return "127.0.0.1" if host in ("localhost", "127.0.0.1", "::1") else host


def side_by_side(verb: Callable[[Any], None], items: Iterable[Any]) -> None:
    """Do the same to all items at once, and wait for all."""
    todo = list(items)
    try:
        with ThreadPoolExecutor(max(1, len(todo))) as pool:
            list(pool.map(verb, todo))
    except RuntimeError:
        # An interpreter that is ending starts no threads any more.
        for item in todo:
            verb(item)


def archive_of(files: Mapping[str, tuple[int, str | bytes]]) -> bytes:
    """A tar archive of files (uid, content) and their folders, for their owners alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:

        def add(name: str, uid: int, mode: int, content: bytes | None) -> None:
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            entry.mode, entry.uid, entry.gid, entry.mtime = mode, uid, uid, int(time.time())
            entry.size = len(content or b"")
            archive.addfile(entry, io.BytesIO(content or b""))

        for name, uid in {name.rpartition("/")[0]: uid for name, (uid, _) in files.items()}.items():
            add(name, uid, 0o700, None)
        for name, (uid, content) in files.items():
            add(name, uid, 0o600, content.encode() if isinstance(content, str) else content)
    return buffer.getvalue()
