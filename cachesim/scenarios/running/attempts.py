"""Witnesses that try what a fault spoils, over connections of their own through client links."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cachesim.topology import Endpoint, Service, Topology

TIMEOUT = 2.0
"""Seconds for a connection and for each answer."""
_PAUSE = 0.1  # seconds between two attempts
_LONGEST = 30.0  # seconds for which something is tried
_MOVES = 0.2  # seconds that a transfer should take
_MOST = 1_000_000  # bytes of a transfer
TOLD = 0.8
"""The share of the time a transfer has to take at least."""


class Attempts:
    """Tries something at some nodes, in a thread of its own, until it is as it should be.

    Args:
        what: what it looks at, for people.
        attempt: returns whether the effect is there at a node, by its name.
        longest: seconds for which that is tried.
    """

    def __init__(
        self,
        what: str,
        nodes: Sequence[str],
        attempt: Callable[[str], bool],
        longest: float = _LONGEST,
    ) -> None:
        self.what = what
        self._longest = longest
        self._nodes = nodes
        self._attempt = attempt
        self._found: dict[bool, float | None] = {}
        self._until = float("inf")

    def seen(self, since: float, until: float) -> float | None:
        """See `Witness.seen`."""
        self._until = until
        return self._look(since, wanted=True)

    def gone(self, since: float) -> float | None:
        """See `Witness.gone`."""
        return self._look(since, wanted=False)

    def _look(self, since: float, *, wanted: bool) -> float | None:
        if wanted not in self._found:
            self._found[wanted] = None
            threading.Thread(
                target=self._try, args=(since, wanted), name="cachesim-attempts", daemon=True
            ).start()
        return self._found[wanted]

    def _try(self, since: float, wanted: bool) -> None:  # of a thread
        while (now := time.monotonic()) < since + self._longest and not (
            wanted and now > self._until
        ):
            if all(self._attempt(node) is wanted for node in self._nodes):
                if not (wanted and time.monotonic() > self._until):
                    self._found[wanted] = now
                return
            time.sleep(_PAUSE)


@dataclass(frozen=True)
class Access:
    """How clients reach nodes.

    Attributes:
        endpoints: by node.
        token: the AUTH token at first.
        token_file: the file with the present one.
        tls: the context of connections.
    """

    topology: Topology
    endpoints: Mapping[str, Endpoint]
    token: str
    token_file: Path
    tls: ssl.SSLContext

    def refuses_certificate(self, node: str) -> bool:
        """Return whether clients refuse a node's certificate."""
        try:
            self._connect(node).close()
        except ssl.SSLCertVerificationError:
            return True
        except OSError:
            return False
        return False

    def has_new_token(self, node: str, *, alone: bool) -> bool:
        """Return whether a node takes a new token, and whether it is the only one."""
        try:
            new = self.token_file.read_text(encoding="utf-8")
            return (
                new != self.token
                and self._logs_in(node, new)
                and self._logs_in(node, self.token) is not alone
            )
        except OSError:
            return False

    def keeps_waiting(self, node: str) -> bool:
        """Return whether a node does not take a connection for now."""
        try:
            self._connect(node).close()
        except TimeoutError:
            return True
        except OSError:
            return False
        return False

    def refuses_writes(self, node: str) -> bool:
        """Return whether a node can't write its disk: it says so, or has ended itself."""
        try:
            with contextlib.closing(self._connect(node)) as connection:
                token = self.token_file.read_text(encoding="utf-8")
                self._say(connection, b"AUTH", token.encode())
                return self._say(connection, b"PING").startswith(b"-MISCONF")
        except OSError:
            return True

    def takes_time(self, node: str, kb_s: int) -> bool:
        """Return whether data moves as slowly as a bandwidth allows, there and back."""
        size = min(_MOST, max(1000, int(kb_s * 1000 * _MOVES)))
        try:
            with contextlib.closing(self._connect(node)) as connection:
                begun = time.monotonic()
                self._move(connection, node, size)
                return time.monotonic() - begun >= TOLD * size / (kb_s * 1000)
        except TimeoutError:
            return True
        except OSError:
            return False

    def is_cut(self, node: str, limit: int) -> bool:
        """Return whether a connection ends after some bytes."""
        try:
            with contextlib.closing(self._connect(node)) as connection:
                self._move(connection, node, min(_MOST, limit + 1000))
        except (ssl.SSLError, ConnectionError):
            return True
        except OSError:
            return False
        return False

    def _move(self, connection: ssl.SSLSocket, node: str, size: int) -> None:
        """Send bytes, and receive as many."""
        if self.topology.node(node).service is Service.REDIS:
            self._say(connection, b"AUTH", self.token.encode())
            data = b"x" * size
            connection.sendall(_request(b"ECHO", data))
            left = size
        else:
            connection.sendall(b"mn\r\n" * (size // 4))
            left = size // 4 * 4
        while left > 0:
            received = connection.recv(65536)
            if not received:
                raise ConnectionResetError("the connection ended")
            left -= len(received)

    def _logs_in(self, node: str, token: str) -> bool:
        with contextlib.closing(self._connect(node)) as connection:
            return self._say(connection, b"AUTH", token.encode()).startswith(b"+OK")

    def _say(self, connection: ssl.SSLSocket, *words: bytes) -> bytes:
        connection.sendall(_request(*words))
        return connection.recv(200)

    def _connect(self, node: str) -> ssl.SSLSocket:
        endpoint = self.endpoints[node]
        plain = socket.create_connection((endpoint.host, endpoint.port), TIMEOUT)
        try:
            return self.tls.wrap_socket(plain, server_hostname=endpoint.host)
        except BaseException:
            plain.close()
            raise


def _request(*words: bytes) -> bytes:
    return b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)])
