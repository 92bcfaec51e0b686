"""In-process connections: pairs of connected asyncio transports."""

import asyncio
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import Any

Address = tuple[str, int]

_SLICE = 0.003  # seconds of deliveries in one round of the loop
_HIGH = 64 * 1024  # bytes; the default of asyncio's socket transports


def pipe(
    loop: asyncio.AbstractEventLoop,
    left: asyncio.Protocol,
    right: asyncio.Protocol,
    *,
    left_address: Address | None = None,
    right_address: Address | None = None,
) -> tuple["PipeTransport", "PipeTransport"]:
    """Connect two protocols, and call `connection_made` of both.

    Data is delivered in the loop's next round, so that no protocol is called within another's
    `write()`. A protocol with a true attribute `reentrant` gets its data at once.

    Args:
        left_address: the `sockname` of `left` and the `peername` of `right`.
        right_address: the `sockname` of `right` and the `peername` of `left`.

    Returns:
        The transport of `left` and that of `right`.
    """
    transports = (
        PipeTransport(loop, {"sockname": left_address, "peername": right_address}),
        PipeTransport(loop, {"sockname": right_address, "peername": left_address}),
    )
    transports[0].join(transports[1])
    for transport, protocol in zip(transports, (left, right), strict=True):
        transport.begin(protocol)
    return transports


class PipeTransport(asyncio.Transport):
    """One end of a pipe, made by `pipe()`."""

    _peer: "PipeTransport"
    _protocol: asyncio.Protocol

    def __init__(self, loop: asyncio.AbstractEventLoop, extra: dict[str, Any]) -> None:
        super().__init__({key: value for key, value in extra.items() if value is not None})
        self._loop = loop
        # Data that is not delivered to the protocol yet, and how it ends.
        self._inbox: deque[bytes] = deque()
        self._waiting = 0  # bytes in the inbox
        self._eof_in = False
        self._reset_in = False
        self._ready = False  # the protocol reads, and no data waits for it
        self._direct = False  # the protocol is reentrant
        self._scheduled = False
        self._paused = False
        # The protocol's own output.
        self._eof_out = False
        self._closing = False
        self._lost = False
        self._high, self._low = _HIGH, _HIGH // 4
        self._held = False  # the protocol has been told to pause writing

    def join(self, peer: "PipeTransport") -> None:
        """Connect this transport to its other end."""
        self._peer = peer
        peer._peer = self

    def begin(self, protocol: asyncio.Protocol) -> None:
        """Set the protocol, and call its `connection_made`."""
        self.set_protocol(protocol)
        protocol.connection_made(self)
        self._wake()

    # Sending.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send data: at once to a reentrant receiver, in the loop's next round to any other."""
        if not isinstance(data, bytes):
            data = bytes(data)
        peer = self._peer
        if peer._direct and peer._ready and not peer._inbox and not self._eof_out and data:
            peer._hand_over(data)
        else:
            self._send(data)

    def deliver(self, data: bytes) -> None:
        """Send data, and deliver it at once to any receiver.

        Only for callers that the loop has called directly, as then the receiver is not running. It
        saves a round of the loop.
        """
        peer = self._peer
        if peer._ready and not peer._inbox and not self._eof_out:
            peer._hand_over(data)
        else:
            self._send(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several pieces of data as one."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Send the end. The other direction stays open."""
        if not self._eof_out:
            self._eof_out = True
            self._peer._eof_in = True
            self._peer._wake()

    def can_write_eof(self) -> bool:
        """Return True."""
        return True

    def _send(self, data: bytes) -> None:
        if self._closing or not data:
            return
        if self._eof_out:
            raise RuntimeError("Cannot call write() after write_eof()")
        peer = self._peer
        if peer._closing:
            # The other end has closed. A network would answer with a reset.
            self._reset_in = True
            self._wake()
            return
        peer._inbox.append(data)
        peer._waiting += len(data)
        peer._wake()
        if peer._waiting > self._high and not self._held:
            self._held = True
            self._protocol.pause_writing()

    # Receiving.

    def pause_reading(self) -> None:
        """Deliver nothing for now, not even the loss of the connection."""
        self._paused = True
        self._ready = False

    def resume_reading(self) -> None:
        """Deliver again."""
        self._paused = False
        self._wake()

    @property
    def is_left(self) -> bool:
        """Whether the other end has closed its side, so that nobody waits for an answer."""
        return self._eof_in or self._reset_in

    def is_reading(self) -> bool:
        """Return whether data is delivered."""
        return not self._paused and not self._closing

    def _wake(self) -> None:
        """Deliver waiting data in the loop's next round."""
        if self._scheduled or self._paused or self._lost:
            return
        self._ready = not (self._inbox or self._eof_in or self._reset_in or self._closing)
        if not self._ready:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        if self._lost:
            return
        inbox = self._inbox
        # Only data that waits now: two ends that keep answering each other must not block the loop.
        until = monotonic() + _SLICE
        for _ in range(len(inbox)):
            if self._paused or self._closing or monotonic() >= until:
                break
            data = inbox.popleft()
            self._waiting -= len(data)
            self._hand_over(data)
        peer = self._peer
        if peer._held and self._waiting <= peer._low:
            peer._resume_writing()
        if self._paused and not self._closing:
            return
        if self._reset_in and not inbox and not self._closing:
            self._lose(ConnectionResetError("the other end has reset the connection"))
        elif self._eof_in and not inbox and not self._closing:
            self._eof_in = False
            if not self._protocol.eof_received():
                self.close()
        elif not self._closing:
            self._wake()

    def _hand_over(self, data: bytes) -> None:
        try:
            self._protocol.data_received(data)
        except Exception as error:
            # As with a socket transport, the error must not reach the sender.
            self._loop.call_exception_handler(
                {
                    "message": "Fatal error: protocol.data_received() call failed.",
                    "exception": error,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )
            self._cut(error)

    # Ending.

    def close(self) -> None:
        """Send all written data, then the end. Receive nothing more."""
        if not self._closing:
            self.write_eof()
            self._stop()
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        """Close at once. The other end loses its connection with a `ConnectionResetError`."""
        self._cut(None)

    def is_closing(self) -> bool:
        """Return whether the transport is closed or closing."""
        return self._closing

    def _cut(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._eof_out = True
        self._stop()
        peer = self._peer
        peer._reset_in = True
        peer._inbox.clear()
        peer._waiting = 0
        peer._wake()
        self._loop.call_soon(self._lose, error)

    def _stop(self) -> None:
        self._closing = True
        self._ready = False
        self._inbox.clear()
        self._waiting = 0
        if self._peer._held:
            self._loop.call_soon(self._peer._resume_writing)

    def _resume_writing(self) -> None:
        if self._held and not self._lost:
            self._held = False
            self._protocol.resume_writing()

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._eof_out = True
        self._stop()
        self._protocol.connection_lost(error)

    # The rest of asyncio's interface.

    def get_protocol(self) -> asyncio.Protocol:
        """Return the protocol."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the protocol."""
        if not isinstance(protocol, asyncio.Protocol):
            raise TypeError(f"a pipe needs an asyncio.Protocol, not {protocol!r}")
        self._protocol = protocol
        self._direct = bool(getattr(protocol, "reentrant", False))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set at how many unreceived bytes the protocol's writing is paused and resumed."""
        self._high = high if high is not None else 4 * low if low is not None else _HIGH
        self._low = low if low is not None else self._high // 4

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high mark, in bytes."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that the other end has not received yet."""
        return self._peer._waiting
