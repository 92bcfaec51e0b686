"""Toxiproxy's API without HTTP, for a server in this process."""

from collections.abc import Callable, Sequence
from typing import Any

from cachesim.aio.http import Request, Response
from cachesim.embedded.toxiproxy.server import ProxyServer
from cachesim.toxiproxy.client import ToxiproxyClient

Call = Callable[..., Any]
"""Calls a function with arguments in the loop's thread, and returns what it returns."""


class LocalToxiproxy(ToxiproxyClient):
    """One embedded Toxiproxy, as its HTTP clients see it.

    Args:
        call: of the one loop that all of a topology's servers run on.
    """

    may_block = False

    def __init__(self, url: str, server: ProxyServer, call: Call) -> None:
        super().__init__(url)
        self._server = server
        self._in_loop = call

    def at_once(self, changes: Sequence[Callable[[], None]]) -> list[Exception | None]:
        """See `ToxiproxyClient.at_once`."""

        def make() -> list[Exception | None]:
            errors: list[Exception | None] = []
            for change in changes:
                try:
                    change()
                except Exception as error:  # the caller's
                    errors.append(error)
                else:
                    errors.append(None)
            return errors

        made: list[Exception | None] = self._in_loop(make)
        return made

    def _exchange(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        request = Request(method, path, {}, (body or "").encode())
        response: Response = self._in_loop(self._server.handle, request)
        return response.status, response.body
