"""A listening socket whose new connections can be let hang."""

import asyncio
import os
import re
import socket
import sys
from collections.abc import Callable

from cachesim.errors import ToxiproxyError

_BACKLOG = 128
_PAUSE = 0.2  # seconds to wait when the process has no file left for a new connection


class Listener:
    """Listens on a TCP address from the start.

    Needs a loop with `add_reader`, as asyncio's selector loops are, also on Windows.

    Args:
        address: `host:port`. Host is an IP address or `localhost`, and this machine alone
            (127.0.0.1) if there is none; port 0 or none is a free one.
        accepted: is given each new connection, non-blocking.

    Raises:
        ToxiproxyError: it can't be listened there; status 500, in Toxiproxy's words.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: str,
        accepted: Callable[[socket.socket], None],
    ) -> None:
        self._loop = loop
        self._accepted = accepted
        self._filler: socket.socket | None = None
        self._filler_name: object = None
        self._hangs = False
        self._retry: asyncio.TimerHandle | None = None
        try:
            family, host, port = _resolve(address)
        except ToxiproxyError as error:
            raise ToxiproxyError(f"listen tcp: {error}", error.status) from None
        # asyncio turns Nagle's algorithm off only where the protocol is named.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if sys.platform != "win32":  # where it lets others take the port
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
            self._socket.listen(_BACKLOG)
        except OSError as error:
            self._socket.close()
            where = _join(host, port)
            reason = os.strerror(error.errno or 0).lower()
            raise ToxiproxyError(f"listen tcp {where}: bind: {reason}", 500) from error
        self._socket.setblocking(False)
        self.address = _join(*self._socket.getsockname()[:2])
        loop.add_reader(self._socket, self._accept)

    def hang(self) -> None:
        """Let new connections hang: neither accepted nor refused.

        Linux drops what asks for a connection while the queue of those to be accepted is full, and
        a queue can be so short that one fills it. Elsewhere they are accepted as ever.
        """
        if self._hangs or sys.platform != "linux":
            return
        self._hangs = True
        self._pause()
        self._socket.listen(0)
        self._filler = socket.socket(self._socket.family, socket.SOCK_STREAM)
        self._filler.setblocking(False)
        # It gets no answer if there is one in the queue already, which is as good.
        self._filler.connect_ex(self._socket.getsockname())
        self._filler_name = self._filler.getsockname()

    def resume(self) -> None:
        """Accept again, also those that have asked meanwhile and ask again."""
        if self._hangs:
            self._hangs = False
            self._drop_filler()
            self._socket.listen(_BACKLOG)
            self._accept()
            self._filler_name = None
            self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Listen no more."""
        self._pause()
        self._drop_filler()
        self._socket.close()

    def _pause(self) -> None:
        self._loop.remove_reader(self._socket)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _drop_filler(self) -> None:
        if self._filler is not None:
            self._filler.close()
            self._filler = None

    def _accept(self) -> None:
        self._retry = None
        for _ in range(_BACKLOG + 1):
            try:
                connection, peer = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # Of no use to ask again at once: some connection has to end first.
                self._loop.remove_reader(self._socket)
                self._retry = self._loop.call_later(_PAUSE, self._accept_again)
                return
            if peer == self._filler_name:
                connection.close()
                continue
            connection.setblocking(False)
            self._accepted(connection)

    def _accept_again(self) -> None:
        self._loop.add_reader(self._socket, self._accept)


def canonical(address: str) -> str:
    """An address as a listener on it tells it.

    Raises:
        ToxiproxyError: it is none; status 500, in Toxiproxy's words.
    """
    _, host, port = _resolve(address)
    return _join(host, port)


def split(address: str) -> tuple[str, str]:
    """Host and port of `host:port` or `[host]:port`.

    Raises:
        ToxiproxyError: it is none; status 500, in Toxiproxy's words (those of Go's `net`).
    """

    def wrong(reason: str) -> ToxiproxyError:
        return ToxiproxyError(f"address {address}: {reason}", 500)

    before, colon, port = address.rpartition(":")
    if not colon:
        raise wrong("missing port in address")
    host, rest = before, address
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket:
            raise wrong("missing ']' in address")
        if rest != f":{port}":
            many = rest.startswith(":")
            raise wrong("too many colons in address" if many else "missing port in address")
    elif ":" in host:
        raise wrong("too many colons in address")
    if "[" in host or "[" in rest:
        raise wrong("unexpected '[' in address")
    if "]" in rest:
        raise wrong("unexpected ']' in address")
    return host, port


def _resolve(address: str) -> tuple[socket.AddressFamily, str, int]:
    """Without asking anybody: the loop must not wait for a name server."""
    host, port_text = split(address) if address else ("", "")
    if not re.fullmatch("[+-]?[0-9]+|", port_text):
        raise ToxiproxyError(f"lookup tcp/{port_text}: unknown port", 500)
    port = int(port_text or "0") if len(port_text) < 10 else -1
    if not 0 <= port <= 65535:
        raise ToxiproxyError(f"address {port_text}: invalid port", 500)
    if host in ("", "localhost"):
        host = "127.0.0.1"
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            packed = socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return family, socket.inet_ntop(family, packed), port
    raise ToxiproxyError(f"lookup {host}: no such host", 500)


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
