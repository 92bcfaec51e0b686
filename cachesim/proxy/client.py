"""A client for Toxiproxy's HTTP API, one object for each server."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import urllib3

from cachesim.errors import ToxiproxyError, ToxiproxyTimeout
from cachesim.toxics import Stream, Toxic


class ToxiproxyClient:
    """One Toxiproxy server. Thread-safe.

    Every error status is a `ToxiproxyError` with the server's own message; an answer that does not
    come in time is a `ToxiproxyTimeout` (a server whose receiver is stuck may never answer).

    Args:
        url: the API's address, such as `http://127.0.0.1:8474`.
        timeout: seconds for each call.
    """

    def __init__(self, url: str, timeout: float = 2.0) -> None:
        self.url = url.rstrip("/")
        self._pool = urllib3.connectionpool.connection_from_url(
            self.url, timeout=urllib3.Timeout(timeout), retries=False, maxsize=4
        )

    def version(self) -> str:
        """The server's version, such as `2.12.0`."""
        return str(self._call("GET", "/version")["version"])

    def proxies(self) -> dict[str, dict[str, Any]]:
        """All proxies with their toxics, by name, as the API gives them."""
        return dict(self._call("GET", "/proxies"))

    def proxy(self, name: str) -> dict[str, Any]:
        """One proxy with its toxics."""
        return dict(self._call("GET", f"/proxies/{quote(name)}"))

    def populate(self, proxies: Sequence[Mapping[str, object]]) -> None:
        """Create or replace proxies, each with `name`, `listen` and `upstream`."""
        self._call("POST", "/populate", list(proxies))

    def set_enabled(self, name: str, enabled: bool) -> None:
        """Let a proxy listen, or close its connections and refuse new ones."""
        self._call("POST", f"/proxies/{quote(name)}", {"enabled": enabled})

    def add_toxic(
        self, proxy: str, name: str, toxic: Toxic, stream: Stream, toxicity: float = 1.0
    ) -> None:
        """Add a toxic at the end of a stream's chain.

        Args:
            toxicity: the share of connections it works on, 0 to 1.
        """
        body = {
            "name": name,
            "type": toxic.type,
            "stream": stream,
            "toxicity": toxicity,
            "attributes": toxic.attributes,
        }
        self._call("POST", f"/proxies/{quote(proxy)}/toxics", body)

    def remove_toxic(self, proxy: str, name: str) -> None:
        """Remove a toxic; what it held back goes on."""
        self._call("DELETE", f"/proxies/{quote(proxy)}/toxics/{quote(name)}")

    def reset(self) -> None:
        """Enable all proxies and remove all toxics."""
        self._call("POST", "/reset")

    def close(self) -> None:
        """Close the connections to the server."""
        self._pool.close()

    def _call(self, method: str, path: str, body: object = None) -> Any:
        where = f"Toxiproxy at {self.url}: {method} {path}"
        try:
            response = self._pool.request(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json", "User-Agent": "cachesim"},
            )
        except urllib3.exceptions.TimeoutError as error:
            raise ToxiproxyTimeout(f"{where}: no answer in time") from error
        except urllib3.exceptions.HTTPError as error:
            raise ToxiproxyError(f"{where}: {error}") from error
        if response.status >= 400:
            raise ToxiproxyError(f"{where}: {_message(response)}", response.status)
        return response.json() if response.data else None


def _message(response: urllib3.BaseHTTPResponse) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        # Its handler limit answers 503 in HTML.
        return f"status {response.status}: {response.data[:200]!r}"
