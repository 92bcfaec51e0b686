"""A client of an embedded Toxiproxy in this process, without HTTP."""

from collections.abc import Callable, Sequence
from typing import Any

from cachesim.aio.http import Request, Response
from cachesim.embedded.toxiproxy.server import ProxyServer
from cachesim.toxiproxy.client import ToxiproxyClient

Call = Callable[..., Any]
"""Calls a function with arguments in the loop's thread, and returns its result."""


class LocalToxiproxy(ToxiproxyClient):
    """A client of one embedded Toxiproxy.

    Args:
        call: `LoopThread.call` of the loop that the Toxiproxy runs on.
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
                except Exception as error:  # returned to the caller
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
