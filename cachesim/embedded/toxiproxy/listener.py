"""Listening sockets that can let new connections hang, and keep their port while refusing."""

import asyncio
import contextlib
import os
import re
import socket
import sys
from collections.abc import Callable

from cachesim.errors import ToxiproxyError

_BACKLOG = 4096
"""Connections that may wait to be accepted, as with Toxiproxy: Go takes the system's most.

Beyond that, Linux lets a client ask again after 1 s.
"""
_AT_ONCE = 128  # connections that are accepted in one round of the loop
_PAUSE = 0.2  # seconds to wait if no file descriptor is left for a new connection


Accepted = Callable[[socket.socket], None]
"""Called with each new connection, a non-blocking socket."""


class Listener:
    """A listening TCP socket. It needs a selector loop, also on Windows.

    Args:
        address: `host:port`. The host is an IP address or `localhost`, by default 127.0.0.1. With
            port 0 or no port, a free port is chosen.

    Raises:
        ToxiproxyError: it can't listen there; status 500, with Toxiproxy's text.

    Attributes:
        address: the address as `canonical` returns it, with the chosen port.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, address: str, accepted: Accepted) -> None:
        self._loop = loop
        self._filler: socket.socket | None = None
        self._filler_name: object = None
        self._hangs = False
        self._retry: asyncio.TimerHandle | None = None
        try:
            self._family, host, port = _resolve(address)
        except ToxiproxyError as error:
            raise ToxiproxyError(f"listen tcp: {error}", error.status) from None
        self._socket = self._bound(host, port)
        if port == 0:
            # If Linux has chosen the port, it gives it up when the socket is shut down.
            chosen = self._socket
            with chosen:
                self._socket = self._bound(*chosen.getsockname()[:2])
        self.address = _join(*self._socket.getsockname()[:2])
        self.open(accepted)

    def open(self, accepted: Accepted) -> None:
        """Listen again.

        Raises:
            ToxiproxyError: the port is taken. This can't happen on Linux.
        """
        self._accepted = accepted
        if self._socket.fileno() < 0:
            self._socket = self._bound(*split(self.address))
        try:
            if sys.platform == "linux":
                self._share(True)
            self._socket.listen(_BACKLOG)
        except OSError as error:
            self._socket.close()
            raise _refusal(self.address, error) from error
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._accept)

    def shut(self) -> None:
        """Refuse new connections, and keep the port. Accepted connections stay open."""
        self._pause()
        self._drop_filler()
        self._hangs = False
        if sys.platform == "linux":
            self._share(False)
            self._socket.shutdown(socket.SHUT_RDWR)
            return
        # On other systems a socket can't stop listening: a new socket takes the port at once.
        self._socket.close()
        with contextlib.suppress(ToxiproxyError):
            self._socket = self._bound(*split(self.address))

    def hang(self) -> None:
        """Let new connections hang, neither accepted nor refused. Works only on Linux.

        Linux drops connection requests while the accept queue is full. The queue is made so short
        that one connection of cachesim's own, the filler, fills it.
        """
        if self._hangs or sys.platform != "linux":
            return
        self._hangs = True
        self._pause()
        self._socket.listen(0)
        self._filler = socket.socket(self._socket.family, socket.SOCK_STREAM)
        self._filler.setblocking(False)
        # If the queue is already full, the filler gets no answer. That does no harm.
        self._filler.connect_ex(self._socket.getsockname())
        self._filler_name = self._filler.getsockname()

    def resume(self) -> None:
        """Accept again, including connections that clients have requested meanwhile."""
        if self._hangs:
            self._hangs = False
            self._drop_filler()
            self._socket.listen(_BACKLOG)
            self._accept()
            self._filler_name = None
            self._loop.add_reader(self._socket, self._accept)

    def close(self) -> None:
        """Give up the port."""
        self._pause()
        self._drop_filler()
        with contextlib.suppress(OSError):  # it does not listen
            # A forked child may also have the socket.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _bound(self, host: str, port: int | str) -> socket.socket:
        # asyncio turns Nagle's algorithm off only if the protocol is given.
        sock = socket.socket(self._family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            if sys.platform != "win32":  # on Windows it lets other processes take the port
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, int(port)))
        except OSError as error:
            sock.close()
            raise _refusal(_join(host, port), error) from error
        return sock

    def _share(self, shared: bool) -> None:
        """Set whether other sockets with this option can share the port.

        With it, a socket can listen while connections that were accepted before are open. Without
        it, no other socket can take the port while this one does not listen.
        """
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(shared))

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
        for _ in range(_AT_ONCE + 1):
            try:
                connection, peer = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                # Trying again at once is useless: a connection has to end first.
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


class Ports:
    """The ports of one Toxiproxy. It holds kept ports even while nothing listens on them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._kept: set[str] = set()
        self._shut: dict[str, Listener] = {}

    def keep(self, address: str) -> None:
        """Keep the port of a listener's address until `close`."""
        self._kept.add(address)

    def reserve(self) -> str:
        """Keep a free port of 127.0.0.1, on which nothing listens yet; return its address.

        Raises:
            ToxiproxyError: there is none.
        """
        listener = Listener(self._loop, "127.0.0.1:0", lambda sock: sock.close())
        listener.shut()
        self._shut[listener.address] = listener
        self.keep(listener.address)
        return listener.address

    def listen(self, address: str, accepted: Accepted) -> Listener:
        """Return a new listener, or the listener of a kept port. See `Listener`."""
        with contextlib.suppress(ToxiproxyError):  # the listener raises it
            address = canonical(address)
        if (listener := self._shut.pop(address, None)) is None:
            return Listener(self._loop, address, accepted)
        listener.open(accepted)
        return listener

    def leave(self, listener: Listener) -> None:
        """Stop listening."""
        if listener.address in self._kept:
            listener.shut()
            self._shut[listener.address] = listener
        else:
            listener.close()

    def give_up(self, address: str) -> None:
        """Keep the port of an address no more. Nothing may listen there."""
        self._kept.discard(address)
        if (listener := self._shut.pop(address, None)) is not None:
            listener.close()

    def close(self) -> None:
        """Give up the kept ports."""
        for listener in self._shut.values():
            listener.close()
        self._shut.clear()
        self._kept.clear()


def canonical(address: str) -> str:
    """Return an address in the form of `Listener.address`.

    Raises:
        ToxiproxyError: it is no address; status 500, with Toxiproxy's text.
    """
    _, host, port = _resolve(address)
    return _join(host, port)


def split(address: str) -> tuple[str, str]:
    """Split `host:port` or `[host]:port` into host and port.

    Raises:
        ToxiproxyError: it is no address; status 500, with Toxiproxy's text (that of Go's `net`).
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
    """Resolve an address without a name server, for which the loop would wait."""
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


def _refusal(where: str, error: OSError) -> ToxiproxyError:
    reason = os.strerror(error.errno or 0).lower()
    return ToxiproxyError(f"listen tcp {where}: bind: {reason}", 500)


def _join(host: str, port: int | str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
