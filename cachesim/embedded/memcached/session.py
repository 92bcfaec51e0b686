"""A client's connection: reads and executes requests, and sends the replies."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

from cachesim.aio.scheduler import SLICE
from cachesim.embedded.answers import CUT_OFF, OTHER_REPLY
from cachesim.embedded.memcached.binary_call import refusal
from cachesim.protocols.memcached import PART, Request, RequestParser
from cachesim.protocols.memcached_binary import REQUEST, BinaryRequestParser

if TYPE_CHECKING:
    from cachesim.embedded.memcached.server import Server

_CHUNK = 64 * 1024  # bytes of replies that are sent at once
WITH_KEYS = frozenset((
    "get", "bget", "gets", "gat", "gats", "set", "add", "replace", "append", "prepend", "cas",
    "delete", "touch", "incr", "decr", "mg", "ms", "md", "ma", "me",
))  # fmt: skip
"""The names of commands that have keys."""


class Session(asyncio.Protocol):
    """A client's connection.

    Attributes:
        number: the connection's number, set by the server.
        address: the client's address, for `stats conns`.
        last_used: when the client last sent data, by the server's clock.

    Args:
        is_own: whether it is a connection of cachesim, which the rules of faults leave alone.
    """

    transport: asyncio.Transport

    def __init__(self, server: "Server", *, is_own: bool = False) -> None:
        self._server = server
        self._parser: RequestParser | BinaryRequestParser
        self._parser = RequestParser(server.config.max_item_size)
        self._execute, self._refusal = server.execute, _refusal
        self.number = 0
        self.address = ""
        self.last_used = 0
        # The requests that are not executed yet, in order.
        self._backlog: deque[Request] = deque()
        self._is_new = True
        self._is_closing = self._is_stalled = self._is_processing = self._is_waiting = False
        self._has_ended = False
        self._is_own = is_own
        self._is_due = False
        self._delay: asyncio.TimerHandle | None = None  # of a fault

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to serve the client."""
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = f"tcp:{peer[0]}:{peer[1]}" if peer else "unix:"

    def data_received(self, data: bytes) -> None:
        """Process the requests in received data."""
        if self._is_closing:
            return
        self._server.counters.bytes_read += len(data)
        if self._is_new:
            self._is_new = False
            if data[0] == REQUEST:
                self._parser = BinaryRequestParser(self._server.config.max_item_size)
                self._execute = self._server.execute_binary
                self._refusal = refusal
        self._parser.feed(data)
        self._process_requests()

    def pause_writing(self) -> None:
        """Stop reading requests while the client does not read its replies."""
        self._is_stalled = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read requests again."""
        self._is_stalled = False
        self._continue_later()

    def eof_received(self) -> bool:
        """Note that the client sends no more. It may still wait for replies."""
        self._has_ended = True
        return self._is_waiting or self._is_stalled or self._is_delayed

    def connection_lost(self, _error: Exception | None) -> None:
        """Execute no more."""
        self._is_closing = True
        self._backlog.clear()

    # --- requests -----------------------------------------------------------------------------

    @property
    def _is_delayed(self) -> bool:
        return self._delay is not None

    def _continue_later(self) -> None:
        """Queue the backlog for another time slice."""
        if not self._is_waiting:
            self._is_waiting = True
            self._server.scheduler.add(self._run_slice)

    def _run_slice(self, until: float) -> None:
        self._is_waiting = False
        if self._is_closing or self._server.is_stopped:
            return
        self._process_requests(until)
        if not (self._is_waiting or self._is_stalled or self._is_closing):
            self.transport.resume_reading()

    def _process_requests(self, until: float | None = None) -> None:
        """Execute received requests, as long as the client reads the replies.

        Args:
            until: the end of the time slice; by default a slice begins now.
        """
        server = self._server
        if self._is_processing or self._is_closing or self._is_waiting or self._is_delayed:
            return
        self._is_processing = True
        self.last_used = server.tick()
        now = server.scheduler.now
        if until is None:
            until = now() + SLICE
        has_rules = server.answers.is_active and not self._is_own
        if not has_rules:
            self._is_due = False  # what has delayed a request has ended meanwhile
        execute = self._execute_by_rules if has_rules else self._execute
        backlog = self._backlog
        out: list[bytes] = []
        size = 0
        try:
            while not (self._is_stalled or self._is_closing or self._is_delayed):
                if now() >= until:
                    self.transport.pause_reading()
                    self._continue_later()
                    break
                if not backlog:
                    backlog.extend(self._parser.take())
                    if not backlog:
                        break
                reply = execute(*backlog.popleft())
                if reply is None:
                    self._is_closing = True
                elif reply:
                    out.append(reply)
                    size += len(reply)
                    if size > _CHUNK:
                        # Send in parts, so that work stops if the client does not read.
                        self._send(out)
                        size = 0
        finally:
            self._is_processing = False
        self._send(out)
        is_idle = not (self._is_waiting or self._is_stalled or self._is_delayed)
        if self._is_closing or (is_idle and (self._parser.is_broken or self._has_ended)):
            self._close()

    def _execute_by_rules(self, words: list[bytes], value: bytes | None) -> bytes | None:
        """Execute a request as the rules of faults have it."""
        answers, loop = self._server.answers, self._server.loop
        if not words or value is PART:
            return self._execute(words, value)
        name = words[0].decode("latin-1")
        has_keys = name in WITH_KEYS
        if not self._is_due:
            seconds = answers.wait(name, has_keys=has_keys, now=loop.time())
            if seconds:
                self._backlog.appendleft((words, value))
                self._delay = loop.call_later(seconds, self._end_delay)
                return b""
        self._is_due = False
        rule = answers.rule_for(name, has_keys=has_keys)
        if rule is not None and rule.answer not in (CUT_OFF, OTHER_REPLY):
            return self._refusal(words, rule.answer)
        reply = self._execute(words, value)
        if rule is not None and reply:
            if rule.answer == OTHER_REPLY:
                return self._server.last_reply or reply
            self._is_closing = True
            return reply[: len(reply) // 2]
        if reply:
            self._server.last_reply = reply
        return reply

    def end_delay(self) -> None:
        """Let a request that a fault delays go on, as the fault has ended."""
        if self._delay is not None:
            self._delay.cancel()
            self._end_delay()

    def _end_delay(self) -> None:
        self._delay, self._is_due = None, True
        if not self._is_closing:
            self._continue_later()  # not before the node is resumed, if it is paused

    def _send(self, out: list[bytes]) -> None:
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self._server.counters.bytes_written += len(data)
            self.transport.write(data)

    def _close(self) -> None:
        """Close the connection when all replies are sent."""
        self._is_closing = True
        self.transport.close()


def _refusal(words: list[bytes], text: str) -> bytes:
    """Return a request's reply with an error."""
    return b"" if words[-1] == b"noreply" else text.encode() + b"\r\n"


class Entrance(asyncio.Protocol):
    """Counts a connection before its TLS, as Memcached does, or refuses it in plain text.

    Args:
        protocol: the protocol that serves it: the session, or TLS around that.
    """

    def __init__(self, server: "Server", session: Session, protocol: asyncio.Protocol) -> None:
        self._server = server
        self._session = session
        self._protocol = protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the client in unless there are too many."""
        self._session.transport = cast(asyncio.Transport, transport)  # until TLS gives it another
        if not self._server.join(self._session):
            self._protocol = asyncio.Protocol()
            self._session.transport.write(b"ERROR Too many open connections\r\n")
            self._session.transport.close()
            return
        protocol = self._protocol
        self.data_received = protocol.data_received  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]
        protocol.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Remove the client."""
        self._server.leave(self._session)
        self._protocol.connection_lost(error)
