"""A connection through a proxy: two transports, and a toxic chain for each direction."""

import asyncio
import contextlib
import math
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import cast

from cachesim.embedded.toxiproxy.chain import AppliedToxic, Chain
from cachesim.embedded.toxiproxy.stages import Ending

HELD_MAX = 4 * 1024 * 1024
"""Bytes that a stream holds before it stops reading, like a TCP window."""

_RESET_ON_CLOSE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Connection:
    """One client's connection.

    Both sides are protocols that are not connected yet. Nothing is read before `start`.

    Args:
        rng: the source of the toxics' random draws.
        on_end: called when both sides are lost.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rng: Random,
        on_end: Callable[["Connection"], None],
    ) -> None:
        self.client = Side(loop, self)
        self.server = Side(loop, self)
        self._rng = rng
        self._on_end = on_end
        self._gone = False

    @property
    def passed(self) -> int:
        """The bytes that it has handed on, in both directions."""
        return self.client.passed + self.server.passed

    def start(self, upstream: Sequence[AppliedToxic], downstream: Sequence[AppliedToxic]) -> None:
        """Let data flow, once both sides are connected."""
        if self.client.is_lost or self.server.is_lost:
            self.drop()
            return
        self.client.join(self.server)
        self.server.join(self.client)
        self.set_toxics(upstream, downstream)
        for side in (self.client, self.server):
            side.transport.resume_reading()

    def set_toxics(
        self, upstream: Sequence[AppliedToxic], downstream: Sequence[AppliedToxic]
    ) -> None:
        """Replace the toxics. Released data flows in the loop's next round."""
        for side, toxics in ((self.client, upstream), (self.server, downstream)):
            side.set_toxics(toxics, self._rng)

    def drop(self) -> None:
        """Close both sides at once. Data in transit is lost."""
        for side in (self.client, self.server):
            side.stop()
            if side.is_socket:
                # `close` would wait until the receiver reads.
                side.transport.abort()
            else:
                side.transport.close()

    def reset(self) -> None:
        """Reset both sides, with a RST if they are sockets."""
        for side in (self.client, self.server):
            side.stop()
            if (sock := side.transport.get_extra_info("socket")) is not None:
                with contextlib.suppress(OSError):  # it is closed already
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            side.transport.abort()

    def side_lost(self) -> None:
        """Note that a side is lost; end the connection if both are."""
        if self.client.is_lost and self.server.is_lost and not self._gone:
            self._gone = True
            # The timer of a stall would keep the connection in memory for days.
            self.client.stop()
            self.server.stop()
            self._on_end(self)


class Side(asyncio.Protocol):
    """One side of a connection. It sends received data through its chain to the other side.

    Without toxics there is no chain, and data goes straight from transport to transport.
    """

    reentrant = True  # for pipes

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        self.transport: asyncio.Transport = _Nowhere()
        self.is_lost = True  # False once it is connected
        self.is_socket = False
        self._loop = loop
        self._connection = connection
        self._other = self
        self._send: Callable[[bytes], None] = _discard
        self._chain: Chain | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self.passed = 0  # bytes that the other side was given
        self._opening: Callable[[], None] | None = None  # called when it was given the first ones
        self._stopped = False
        self._blocked = False  # the other side's transport has paused writing
        self._input_ended = False
        self._was_reset = False  # the input ended with a reset
        self._output_ended = False  # the end was sent to the other side

    def join(self, other: "Side") -> None:
        """Use another side as the receiver."""
        self._other = other
        # The loop itself delivers a socket's data, so a pipe can pass it on at once. A pipe's data
        # may come while the receiver is running.
        deliver = getattr(other.transport, "deliver", None) if self.is_socket else None
        self._send = deliver or partial(_write, other.transport)
        self._opening = partial(_acknowledge_soon, other.transport) if other.is_socket else None

    def set_toxics(self, toxics: Sequence[AppliedToxic], rng: Random) -> None:
        """Replace the toxics of the chain."""
        if self._stopped or self._output_ended or not (toxics or self._chain):
            return
        if self._chain is None:
            self._chain = Chain(rng)
        self._chain.set(self._loop.time(), toxics)
        self._loop.call_soon(self._pump)

    def stop(self) -> None:
        """Stop receiving and sending."""
        self._stopped = True
        self._send = _discard
        self._chain = None
        self._arm(math.inf)

    # Called by its transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the other side."""
        self.transport = cast(asyncio.Transport, transport)
        self.is_lost = False
        self.is_socket = transport.get_extra_info("socket") is not None
        if self._stopped:
            self.transport.abort()
        else:
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Send data on, now or when the chain releases it."""
        if self._chain is None:
            self._pass_on(data)
        else:
            self._chain.feed(self._loop.time(), data)
            self._pump()

    def eof_received(self) -> bool:
        """Send the end on. The other direction stays open."""
        self._end_input()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Take no more data from the other side, and send the end through the chain."""
        self.is_lost = True
        if not self._stopped and self._other is not self:
            self._was_reset = exc is not None
            self._other.receiver_lost()
            if self._output_ended:
                self._other.transport.close()
            self._end_input()
        self._connection.side_lost()

    def pause_writing(self) -> None:
        """Block the other side."""
        self._other.block()

    def resume_writing(self) -> None:
        """Unblock the other side."""
        self._other.unblock()

    # Called by the other side.

    def block(self) -> None:
        """Send nothing for now."""
        self._blocked = True
        self._throttle()

    def unblock(self) -> None:
        """Send again."""
        self._blocked = False
        # Later, as the receiver may be running.
        self._loop.call_soon(self._pump)

    def receiver_lost(self) -> None:
        """Read on, but drop the data. The source is closed when the end has passed the chain."""
        self._send = _discard
        self.unblock()

    # The stream to the other side.

    def _end_input(self) -> None:
        if self._input_ended or self._stopped:
            return
        self._input_ended = True
        if self._chain is None:
            self._end_output(Ending.EOF)
        else:
            self._chain.end(self._loop.time())
            self._pump()

    def _pump(self) -> None:
        """Send what the chain releases, and set a timer for its deadline."""
        chain = self._chain
        if chain is not None and not self._blocked:
            now = self._loop.time()
            for data in chain.poll(now):
                self._pass_on(data)
            if chain is not self._chain:
                return  # sending ended the connection
            if chain.ending is not None:
                self._chain = None
                self._end_output(chain.ending)
            elif chain.is_idle:
                self._chain = None
            self._arm(math.inf if self._chain is None else chain.deadline)
        self._throttle()

    def _pass_on(self, data: bytes) -> None:
        if self._send is not _discard:
            self.passed += len(data)
        self._send(data)
        if self._opening is not None:
            self._opening()
            self._opening = None

    def _arm(self, at: float) -> None:
        if at == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at < math.inf:
            self._timer = self._loop.call_at(at, self._fire)
        self._timer_at = at

    def _fire(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        self._pump()

    def _throttle(self) -> None:
        """Stop reading while data can't be sent or held."""
        full = self._blocked if self._chain is None else self._chain.held > HELD_MAX
        if full:
            self.transport.pause_reading()
        elif not self._input_ended:
            self.transport.resume_reading()

    def _end_output(self, ending: Ending) -> None:
        if self._output_ended:
            return
        self._output_ended = True
        other = self._other
        if ending is Ending.RESET or (ending is Ending.EOF and self._was_reset):
            self._connection.reset()
        elif ending is Ending.CLOSE or self.is_lost or other._output_ended:
            self._send = _discard
            other.transport.close()
            if other._output_ended:
                self.transport.close()
        elif not other.is_lost:
            with contextlib.suppress(OSError):  # it was reset; `connection_lost` follows
                other.transport.write_eof()


class _Nowhere(asyncio.Transport):
    """A placeholder until there is a transport."""

    def abort(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _write(transport: asyncio.Transport, data: bytes) -> None:
    """Send data, unless the connection is already broken, which asyncio would warn about."""
    if not transport.is_closing():
        transport.write(data)


def _discard(data: bytes) -> None:
    """Drop data."""


def _acknowledge_soon(transport: asyncio.Transport) -> None:
    """Let the kernel acknowledge what comes next at once.

    That is the end of a client's TLS handshake, to which a server without session tickets answers
    nothing. A client without TCP_NODELAY waits for that ACK with its first request, and the kernel
    with the ACK for 40 ms.
    """
    if hasattr(socket, "TCP_QUICKACK"):  # only Linux has it
        with contextlib.suppress(OSError):  # the connection has ended
            transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1
            )
