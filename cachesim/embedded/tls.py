"""TLS inside a connection, on either side: a protocol that wraps another.

asyncio's own TLS begins at sockets. Here a connection may be a pipe within the process, and TLS
ends at the node all the same.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from cachesim.tls import Certificate

_READ = 256 * 1024  # bytes at once; more than a record has
_WRITE = 16 * 1024  # bytes, a record


def server_context(certificate: Certificate, directory: Path) -> ssl.SSLContext:
    """A context for a server, TLS 1.2 and later.

    Args:
        directory: where the key is put for a moment, as Python reads keys from files only.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Nobody resumes a session here, and making tickets is a third of a handshake.
    context.num_tickets = 0
    file = directory / "certificate.pem"
    file.touch(mode=0o600)
    try:
        file.write_bytes(certificate.key + certificate.chain)
        context.load_cert_chain(file)
    finally:
        file.unlink()
    return context


class TlsProtocol(asyncio.Protocol):
    """Speaks TLS on its transport, and gives what is inside to an application's protocol.

    The application gets its `connection_made` when the handshake is done. Where it fails, the
    application never hears of the connection.

    Args:
        server_hostname: whose certificate is wanted; given on the client's side alone.
        failed: called with the reason when there will be no connection.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        application: asyncio.Protocol,
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
        self._failed = failed
        self._is_open = False
        self._inner: _TlsTransport | None = None
        self._transport: asyncio.Transport | None = None

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; a client says hello."""
        self._transport = cast(asyncio.Transport, transport)
        if not self._tls.server_side:
            self._shake_hands()

    def data_received(self, data: bytes) -> None:
        """Take what the other side has sent."""
        self._incoming.write(data)
        if not self._is_open:
            self._shake_hands()
            if not self._is_open:
                return
        receive, read = self._application.data_received, self._tls.read
        try:
            # Asking for more than there is would raise, which takes as long as the rest.
            while self._incoming.pending or self._tls.pending():
                inside = read(_READ)
                if not inside:
                    self._inner_eof()
                    break
                receive(inside)
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

    def eof_received(self) -> None:
        """The other side has closed; TLS has no half-closed connections."""
        if self._is_open:
            self._application.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        if self._is_open:
            self._is_open = False
            self._application.connection_lost(error)
        else:
            self._fail(error or ConnectionResetError("closed during the TLS handshake"))
        self._transport = None

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self._is_open:
            self._application.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self._is_open:
            self._application.resume_writing()

    # --- the handshake ------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._flush()  # an alert
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
        self._application.eof_received()
        if self._transport is not None:
            self._transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- the application's side -----------------------------------------------------------------

    @property
    def tls(self) -> ssl.SSLObject:
        """What the TLS connection knows of itself."""
        return self._tls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send something."""
        # asyncio complains of what is written to a broken connection.
        if self._transport is None or not data or self._transport.is_closing():
            return
        write = self._tls.write
        if len(data) <= _WRITE:
            write(data)
        else:
            view = memoryview(data)
            at = 0
            while at < len(view):
                at += write(view[at:])
        self._transport.write(self._outgoing.read())

    def close(self) -> None:
        """Say that nothing follows, and close when all is sent."""
        if self._transport is None or self._transport.is_closing():
            return
        with contextlib.suppress(ssl.SSLError):  # the other side's answer is not waited for
            self._tls.unwrap()
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._outgoing.pending and self._transport is not None:
            self._transport.write(self._outgoing.read())


class _TlsTransport(asyncio.Transport):
    """What the application writes to."""

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
        return self._outer.is_closing()

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._protocol.tls
        return self._outer.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._outer.pause_reading()

    def resume_reading(self) -> None:
        self._outer.resume_reading()

    def is_reading(self) -> bool:
        return self._outer.is_reading()

    def get_write_buffer_size(self) -> int:
        return self._outer.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._outer.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._outer.set_write_buffer_limits(high, low)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol
