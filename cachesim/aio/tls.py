"""TLS for either side of a connection: a protocol that wraps another.

asyncio's own TLS needs sockets. Here a connection may be an in-process pipe.
"""

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

from cachesim.aio.scheduler import SLICE, Scheduler

_READ = 256 * 1024  # bytes to read at once; more than a record has
_RECORD = 16 * 1024  # bytes
_WRITE = 256 * 1024  # bytes that are encrypted at once


class TlsProtocol(asyncio.Protocol):
    """Speaks TLS on a transport, and passes the plain data to an application's protocol.

    The application's `connection_made` is called after the handshake. If the handshake fails, the
    application is not called.

    Both directions work in time slices. While received data waits for the application, nothing is
    read from the transport; while the transport has paused writing, nothing is encrypted.

    Args:
        scheduler: the scheduler of the application's process.
        server_hostname: the name that the certificate must have; only on the client's side.
        failed: called with the reason when the handshake fails.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        application: asyncio.Protocol,
        scheduler: Scheduler,
        *,
        server_hostname: str | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        self._application = application
        self._scheduler = scheduler
        self._now = scheduler.now
        self._failed = failed
        self._is_open = False
        # Receiving: whether the application has paused reading; whether data waits for a slice.
        self._is_paused = self._is_behind = False
        # Sending: data that is not encrypted yet, and its bytes; whether the transport has paused
        # writing; the application's writing is paused; the application has closed with unsent data.
        self._unsent: deque[memoryview] = deque()
        self._unsent_size = 0
        self._is_blocked = self._is_writing_paused = self.is_ending = False
        self._inner: _TlsTransport | None = None
        self._transport: asyncio.Transport | None = None

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake on the client's side."""
        self._transport = cast(asyncio.Transport, transport)
        if not self._tls.server_side:
            self._shake_hands()

    def data_received(self, data: bytes) -> None:
        """Decrypt received data."""
        self._incoming.write(data)
        if not self._is_open:
            self._shake_hands()
            if not self._is_open:
                return
        # Other work has waited longer.
        if self._is_behind or (self._incoming.pending > _RECORD and self._scheduler.is_busy):
            self._fall_behind()
        else:
            self._receive()

    def _receive(self, until: float | None = None) -> None:
        """Pass received data to the application until the time slice ends."""
        receive, read, incoming = self._application.data_received, self._tls.read, self._incoming
        try:
            # Reading when nothing is left would raise, which takes as long as all other work.
            while (incoming.pending or self._tls.pending()) and not self._is_paused:
                inside = read(_READ)
                if not inside:
                    self._inner_eof()
                    break
                receive(inside)
                if incoming.pending:
                    if until is None:
                        until = self._now() + SLICE
                    elif self._now() >= until:
                        self._fall_behind()
                        break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._inner_eof()
        except ssl.SSLError:
            self._flush()
            self._abort()
            return
        if self._outgoing.pending:
            self._flush()

    def _fall_behind(self) -> None:
        """Leave the rest for another slice, and stop reading from the transport until then."""
        if not self._is_behind and self._transport is not None:
            self._is_behind = True
            self._transport.pause_reading()
            self._scheduler.add(self._catch_up)

    def _catch_up(self, until: float) -> None:
        self._is_behind = False
        if self._transport is None:
            return
        self._receive(until)
        if not (self._is_behind or self._is_paused) and self._transport is not None:
            self._transport.resume_reading()

    def pause_reading(self) -> None:
        """Pass nothing to the application for now."""
        self._is_paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Pass data to the application again."""
        self._is_paused = False
        if self._is_behind or self._transport is None:
            return
        if self._incoming.pending or self._tls.pending():
            self._is_behind = True
            self._scheduler.add(self._catch_up)
        else:
            self._transport.resume_reading()

    def eof_received(self) -> bool | None:
        """Tell the application. The connection stays open if it has requests to run yet."""
        return self._application.eof_received() if self._is_open else None

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the application, or during the handshake call `failed`."""
        if self._is_open:
            self._is_open = False
            self._application.connection_lost(error)
        else:
            self._fail(error or ConnectionResetError("closed during the TLS handshake"))
        self._transport = None
        self._unsent.clear()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_blocked = True
        self._update_writing()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_blocked = False
        if self._unsent:
            self._scheduler.add(self._send)
        self._update_writing()

    def _update_writing(self) -> None:
        """Pause or resume the application's writing."""
        pause = self._is_blocked or bool(self._unsent)
        if pause is not self._is_writing_paused and self._is_open:
            self._is_writing_paused = pause
            (self._application.pause_writing if pause else self._application.resume_writing)()

    # --- the handshake ------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._flush()  # send the alert
            self._fail(error)
            if self._transport is not None:
                self._transport.close()
            return
        self._flush()
        if self._transport is not None:
            self._is_open = True
            self._failed = None
            self._inner = _TlsTransport(self, self._transport)
            self._application.connection_made(self._inner)

    def _fail(self, error: Exception) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            failed(error)

    def _inner_eof(self) -> None:
        if not self._application.eof_received() and self._transport is not None:
            self._transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- the application's side -----------------------------------------------------------------

    @property
    def tls(self) -> ssl.SSLObject:
        """The `ssl` object of the connection."""
        return self._tls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send plain data."""
        # asyncio warns when data is written to a broken connection.
        if self._transport is None or not data or self._transport.is_closing() or self.is_ending:
            return
        if self._unsent or self._is_blocked or len(data) > _WRITE:
            if not (self._unsent or self._is_blocked):
                self._scheduler.add(self._send)
            self._unsent.append(memoryview(bytes(data)))
            self._unsent_size += len(data)
            self._update_writing()
        else:
            self._encrypt(memoryview(data))

    def _encrypt(self, data: memoryview) -> None:
        write = self._tls.write
        at = 0
        while at < len(data):
            at += write(data[at:] if at else data)
        self._transport.write(self._outgoing.read())  # type: ignore[union-attr]

    def _send(self, until: float) -> None:
        """Send waiting data until the transport pauses writing or the time slice ends."""
        unsent = self._unsent
        while unsent and self._transport is not None and not self._transport.is_closing():
            if self._is_blocked:
                return
            if self._now() >= until:
                self._scheduler.add(self._send)
                return
            data = unsent.popleft()
            if len(data) > _WRITE:
                unsent.appendleft(data[_WRITE:])
            self._unsent_size -= min(_WRITE, len(data))
            self._encrypt(data[:_WRITE])
        self._unsent.clear()
        self._unsent_size = 0
        if self.is_ending:
            self.close()
        self._update_writing()

    @property
    def write_buffer_size(self) -> int:
        """The number of bytes that are not sent yet."""
        there = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return there + self._unsent_size

    def close(self) -> None:
        """Close the connection when all data and a TLS close notification are sent."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._unsent:
            self.is_ending = True
            return
        with contextlib.suppress(ssl.SSLError):  # raised, as the other side has not answered yet
            self._tls.unwrap()
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._outgoing.pending and self._transport is not None:
            self._transport.write(self._outgoing.read())


class _TlsTransport(asyncio.Transport):
    """The transport that the application uses."""

    def __init__(self, protocol: TlsProtocol, outer: asyncio.Transport) -> None:
        super().__init__()
        self._protocol = protocol
        self._outer = outer
        self.write = protocol.write  # type: ignore[method-assign]  # one call less for each

    def writelines(self, data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(data))

    def close(self) -> None:
        self._protocol.close()

    def abort(self) -> None:
        self._outer.abort()

    def is_closing(self) -> bool:
        return self._protocol.is_ending or self._outer.is_closing()

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._protocol.tls
        return self._outer.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._protocol.pause_reading()

    def resume_reading(self) -> None:
        self._protocol.resume_reading()

    def is_reading(self) -> bool:
        return self._outer.is_reading()

    def get_write_buffer_size(self) -> int:
        return self._protocol.write_buffer_size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._outer.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._outer.set_write_buffer_limits(high, low)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol
