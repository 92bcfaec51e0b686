"""The Docker engine: connecting to it, and helpers for its API."""

import contextlib
import io
import socket
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cachesim.errors import BackendUnavailable, FaultError, ToxiproxyError

if TYPE_CHECKING:
    from testcontainers.core.docker_client import DockerClient

_CONNECT_TIMEOUT = 5.0  # seconds


def connect(timeout: float | None = None) -> "DockerClient":
    """Connect to the Docker engine that the environment or the current Docker context names.

    Args:
        timeout: seconds for each of its answers, now and later; None: the Docker SDK's default.

    Raises:
        BackendUnavailable: no Docker engine answers.
    """
    from docker.errors import DockerException

    try:
        from testcontainers.core.docker_client import DockerClient, get_docker_host
    except RuntimeError as error:  # it looks for its file there when it is imported
        raise BackendUnavailable(
            f"testcontainers needs a home folder: {error} Set HOME to a folder."
        ) from None

    host = get_docker_host() or "unix:///var/run/docker.sock"
    try:
        _check_listening(host, timeout or _CONNECT_TIMEOUT)
        if timeout is None:
            return DockerClient()
        client = DockerClient(timeout=timeout)
        client.client.ping()
        return client
    except (DockerException, OSError, ValueError) as error:  # ValueError: it is no address
        raise BackendUnavailable(
            f"no Docker engine answers at {host}: {error}. Start Docker, or point DOCKER_HOST or "
            "`docker context use` to a running engine."
        ) from error


def explained(error: BaseException) -> str:
    """Return what an engine says of an error, without the request that it was the answer to."""
    return str(getattr(error, "explanation", None) or error)


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Raise a BackendUnavailable where an engine that had answered does not answer any more."""
    try:
        yield
    except OSError as error:
        if (it := lost(error)) is not None:
            raise it from error
        raise


def lost(error: BaseException) -> BackendUnavailable | None:
    """Return the error for an engine that had answered and does not any more, if that it is."""
    from docker.errors import APIError
    from requests import RequestException

    if not isinstance(error, RequestException) or isinstance(error, APIError):  # an answer is one
        return None
    return BackendUnavailable(
        f"the Docker engine does not answer any more: {error}. Start Docker again; then "
        "`cachesim gc` removes what may be left."
    )


@contextlib.contextmanager
def as_fault_error(what: str = "") -> Iterator[None]:
    """Raise a FaultError where the engine or a Toxiproxy refuses or does not answer.

    Args:
        what: what failed by that, for the beginning of the message.
    """
    from docker.errors import APIError, DockerException

    begin = f"{what}: " if what else ""
    try:
        yield
    except (DockerException, OSError) as error:
        did = "refused" if isinstance(error, APIError) else "does not answer"
        raise FaultError(
            f"{begin}the Docker engine {did}: {explained(error)}. `cachesim doctor` checks it."
        ) from error
    except ToxiproxyError as error:
        raise FaultError(f"{begin}{error}") from error


def _check_listening(host: str, timeout: float) -> None:
    """Connect once to the socket: if nobody listens, the Docker SDK would leak its own.

    Raises:
        OSError: nobody listens there.
    """
    address = urlsplit(host)
    if address.scheme == "unix" and hasattr(socket, "AF_UNIX"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(address.path)
    elif address.scheme in ("tcp", "http", "https") and address.hostname:
        port = address.port or (2376 if address.scheme == "https" else 2375)
        socket.create_connection((address.hostname, port), timeout).close()


def published_host(client: "DockerClient") -> str:
    """Return the host that a Docker engine publishes ports on: 127.0.0.1 if it is local."""
    host = client.host()
    return "127.0.0.1" if host in ("localhost", "127.0.0.1", "::1") else host


def in_parallel(verb: Callable[[Any], None], items: Iterable[Any]) -> None:
    """Call a function with each item, all at once, and wait for all calls."""
    todo = list(items)
    try:
        with ThreadPoolExecutor(max(1, len(todo))) as pool:
            list(pool.map(verb, todo))
    except RuntimeError:
        # Python starts no more threads when it shuts down.
        for item in todo:
            verb(item)


def tar_archive(files: Mapping[str, tuple[int, str | bytes]]) -> bytes:
    """Return a tar archive of files, as (uid, content) by path, and of their folders.

    Only their owners may read them.
    """
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
