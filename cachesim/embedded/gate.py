"""Holds the events of a node's connections while its process is paused."""

import asyncio
from collections.abc import Callable
from typing import Any, cast


class Gate:
    """All connections of a node, incoming and outgoing. Holds their events while it is shut."""

    def __init__(self) -> None:
        self.is_shut = self.is_over = False
        self._all: set[_Held] = set()

    def wrap(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        """Wrap a protocol, so that its events are held while the gate is shut."""
        return _Held(self, protocol)

    def shut(self) -> None:
        """Hold all events from now on."""
        self.is_shut = True
        for held in self._all:
            held.hold()

    def open(self) -> None:
        """Pass on all held events, and hold no more events.

        Connections that were made and given up meanwhile are left out. There can be thousands, and
        the TLS handshakes of all of them would keep the other nodes from answering for seconds. A
        real server has its backlog of 511, and is alone in its process.
        """
        self.is_shut = False
        for held in list(self._all):
            held.release()

    def end(self) -> None:
        """Pass on all held events, then reset the open connections, as the process has ended.

        The process does not know connections that are being made or in their TLS handshake, so it
        has not closed them. If they stayed open, they would be answered.
        """
        self.is_over = True
        self.open()
        for held in list(self._all):
            if not held.is_closing:
                held.abort()

    def abort(self) -> None:
        """Reset all connections, and from now on each new one."""
        self.is_over = True
        for held in list(self._all):
            held.abort()


class _Held(asyncio.Protocol):
    """One connection. Held events are kept as calls.

    Reading is paused for two reasons, the gate and the protocol, and goes on when there is neither.
    If the gate alone decided, the end of a connection could overtake the requests before it.
    """

    def __init__(self, gate: Gate, protocol: asyncio.Protocol) -> None:
        self._gate = gate
        self._protocol = protocol
        self._is_paused = False  # by the protocol
        self._transport: asyncio.Transport | None = None
        self._kept: list[Callable[[], object]] = []
        self._is_new = False  # it was made while the gate was shut

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._gate.is_over:
            self._protocol = asyncio.Protocol()  # the wrapped protocol is not told
            self._transport.abort()
            return
        self._gate._all.add(self)
        given = cast(asyncio.Transport, _Given(self, self._transport))
        if self._gate.is_shut:
            self.hold()
            self._is_new = True
            self._kept.append(lambda: self._protocol.connection_made(given))
        else:
            self._protocol.connection_made(given)

    def data_received(self, data: bytes) -> None:
        if self._gate.is_shut:
            self._kept.append(lambda: self._protocol.data_received(data))
        else:
            self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        if self._gate.is_shut:
            self._kept.append(self._late_eof)
            return True  # a paused process does not close it
        return self._protocol.eof_received()

    def _late_eof(self) -> None:
        if not self._protocol.eof_received() and self._transport is not None:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._gate._all.discard(self)
        if self._gate.is_shut or self._kept:
            self._kept.append(lambda: self._protocol.connection_lost(error))
            self._gate._all.add(self)
        else:
            self._protocol.connection_lost(error)
        self._transport = None

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def hold(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def release(self) -> None:
        kept, self._kept = self._kept, []
        is_new, self._is_new = self._is_new, False
        if is_new and self._transport is not None and getattr(self._transport, "is_left", False):
            self._gate._all.discard(self)
            self._protocol = asyncio.Protocol()  # the wrapped protocol is not told
            self._transport.abort()
            return
        for act in kept:
            act()
        if self._transport is None:
            self._gate._all.discard(self)
        elif not (self._is_paused or self._transport.is_closing()):
            self._transport.resume_reading()

    def pause(self) -> None:
        """Read nothing for the protocol."""
        self._is_paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read for the protocol again, once the gate is open."""
        self._is_paused = False
        if self._transport is not None and not self._gate.is_shut:
            self._transport.resume_reading()

    @property
    def is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class _Given:
    """The transport as the protocol has it, which pauses reading for a reason of its own."""

    def __init__(self, held: _Held, transport: asyncio.Transport) -> None:
        self.pause_reading = held.pause
        self.resume_reading = held.resume
        self.write = transport.write  # without `__getattr__`, as it is called for each reply
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
