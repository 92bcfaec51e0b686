"""A client for Toxiproxy's HTTP API, one object for each server."""

import json
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote, urlsplit

from cachesim.errors import ToxiproxyError, ToxiproxyTimeout
from cachesim.toxiproxy.toxics import Stream, Toxic

PORT = 8474
"""The port of Toxiproxy's API by default."""


class ToxiproxyClient:
    """One Toxiproxy server. Thread-safe.

    Every error status is raised as a `ToxiproxyError` with the server's own message, and a missing
    answer as a `ToxiproxyTimeout` (a server with a receiver that is stuck may never answer).

    Args:
        url: the API's address, such as `http://127.0.0.1:8474`.
        timeout: seconds for each call.

    Attributes:
        may_block: whether a change may wait until the data on the link is read.
    """

    may_block = True

    def __init__(self, url: str, timeout: float = 2.0) -> None:
        self.url = url.rstrip("/")
        address = urlsplit(self.url)
        self._address = address.hostname or "", address.port or 80
        self._timeout = timeout
        self._idle: deque[HTTPConnection] = deque()

    def version(self) -> str:
        """Return the server's version, such as `2.12.0`."""
        return str(self._object("/version")["version"])

    def proxies(self) -> dict[str, dict[str, Any]]:
        """Return all proxies with their toxics, by name, as the API gives them."""
        return self._object("/proxies")

    def proxy(self, name: str) -> dict[str, Any]:
        """Return one proxy with its toxics, as the API gives it."""
        return self._object(f"/proxies/{_part(name)}")

    def populate(self, proxies: Sequence[Mapping[str, object]]) -> None:
        """Create or replace proxies, each with `name`, `listen` and `upstream`."""
        self._call("POST", "/populate", list(proxies))

    def set_enabled(self, name: str, enabled: bool) -> None:
        """Make a proxy listen, or close its connections and refuse new ones."""
        self._call("POST", f"/proxies/{_part(name)}", {"enabled": enabled})

    def set_listen(self, name: str, address: str) -> None:
        """Make a proxy listen elsewhere. Its connections are closed, its toxics stay."""
        self._call("POST", f"/proxies/{_part(name)}", {"listen": address})

    def delete(self, name: str) -> None:
        """Remove a proxy and close its connections."""
        self._call("DELETE", f"/proxies/{_part(name)}")

    def is_stuck(self, name: str) -> bool:
        """Return whether a proxy does not answer although the server itself does.

        Raises:
            ToxiproxyTimeout: the server does not answer either.
        """
        try:
            self.proxy(name)
        except ToxiproxyTimeout:
            self.version()
            return True
        except ToxiproxyError:
            return False
        return False

    def reset(self) -> None:
        """Enable all proxies and remove all toxics."""
        self._call("POST", "/reset")

    def add_toxic(
        self, proxy: str, name: str, toxic: Toxic, stream: Stream, toxicity: float = 1.0
    ) -> None:
        """Add a toxic at the end of a stream's chain.

        Args:
            toxicity: the share of connections that it works on, 0 to 1.
        """
        body = {
            "name": name,
            "type": toxic.type,
            "stream": stream,
            "toxicity": toxicity,
            "attributes": toxic.attributes,
        }
        self._call("POST", f"/proxies/{_part(proxy)}/toxics", body)

    def update_toxic(self, proxy: str, name: str, toxic: Toxic) -> None:
        """Change the attributes of a toxic; connections stay."""
        path = f"/proxies/{_part(proxy)}/toxics/{_part(name)}"
        self._call("POST", path, {"attributes": toxic.attributes})

    def remove_toxic(self, proxy: str, name: str) -> None:
        """Remove a toxic; data that it held back goes on."""
        self._call("DELETE", f"/proxies/{_part(proxy)}/toxics/{_part(name)}")

    def at_once(self, changes: Sequence[Callable[[], None]]) -> list[Exception | None] | None:
        """Make changes to this server, and to others of its kind, at the same moment.

        Returns:
            The error of each change. None if that is not possible; then nothing was done.
        """

    def close(self) -> None:
        """Close the connections to the server."""
        while self._idle:
            self._idle.pop().close()

    def _call(self, method: str, path: str, body: object = None) -> Any:
        where = f"Toxiproxy at {self.url}: {method} {path}"
        try:
            status, data = self._exchange(method, path, None if body is None else json.dumps(body))
        except TimeoutError as error:
            raise ToxiproxyTimeout(f"{where}: no answer within {self._timeout:g} s") from error
        except (OSError, HTTPException) as error:
            raise ToxiproxyError(f"{where}: {error or type(error).__name__}") from error
        if status >= 400:
            raise ToxiproxyError(f"{where}: {_message(status, data)}", status)
        try:
            return json.loads(data) if data else None
        except ValueError as error:
            raise ToxiproxyError(f"{where}: no JSON: {data[:200]!r}", status) from error

    def _object(self, path: str) -> dict[str, Any]:
        answer = self._call("GET", path)
        if not isinstance(answer, dict):
            raise ToxiproxyError(f"Toxiproxy at {self.url}: GET {path}: no object: {answer!r}")
        return answer

    def _exchange(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        # A partition takes two dozen calls: http.client needs half of urllib3's time for them.
        try:
            connection, kept = self._idle.pop(), True
        except IndexError:
            connection, kept = self._connect(), False
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.status, response.read()
        except ConnectionError:
            connection.close()
            if not kept:
                raise
            # The server closes a connection that was idle for a minute.
            return self._exchange(method, path, body)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer

    def _connect(self) -> HTTPConnection:
        connection = HTTPConnection(*self._address, timeout=self._timeout)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def _part(name: str) -> str:
    return quote(name, safe="")


def _message(status: int, data: bytes) -> str:
    try:
        return str(json.loads(data)["error"])
    except (ValueError, KeyError, TypeError):
        # Beyond its limit of handlers, Toxiproxy answers 503 in HTML.
        return f"status {status}: {data[:200]!r}"
