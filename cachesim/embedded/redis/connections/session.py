"""A connection: reads requests, runs them in order, and sends the replies in the same order."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from cachesim.aio.scheduler import SLICE
from cachesim.embedded.redis.connections.blocked import Blocked
from cachesim.embedded.redis.connections.client import NO_REPLY, Answer, Client
from cachesim.embedded.redis.connections.client_list import Shown, address_text, line_of
from cachesim.protocols.resp import Error, Push, Raw, encode
from cachesim.protocols.resp_parser import UNAUTHENTICATED, Limits, RequestParser

if TYPE_CHECKING:
    from cachesim.embedded.redis.dispatch.acl import User
    from cachesim.embedded.redis.server import Server

_LIMITS = Limits()
_REPLIES = 256 << 20
"""Bytes of replies that may wait before no more requests are read.

Redis reads on whatever waits, and clients rely on it: many send a whole pipeline before they read.
"""
_MOST = 500  # requests that are parsed at once
_CHUNK = 64 * 1024  # bytes of replies that are sent at once


class Session(Client, asyncio.Protocol):
    """A client with a connection.

    Attributes:
        local_address: the node's `host:port`, to which the client has connected.
        created: when the connection was opened, by the node's clock.
        blocked: the wait that blocks the client, or None.
        is_postponed: whether the next request has to wait, for CLIENT PAUSE or a running script.
        is_closing: whether the connection is closing or closed, so no more requests are served.
        mutes: the number of replies not to send; -1 for all (CLIENT REPLY).
        is_replica: whether it gets the replication stream.
        shown: what it has told about itself.
        last_request: the first two words of the last request.
        active: when something was received last, in seconds since the epoch.
    """

    transport: asyncio.Transport

    def __init__(self, server: "Server") -> None:
        self._parser = RequestParser(UNAUTHENTICATED)
        super().__init__(server, server.acl.everyone)
        self.may_block = True
        self.local_address = ""
        self.created = server.clock()
        self.blocked: Blocked | None = None
        self.is_postponed = False
        self.is_closing = False
        self.mutes = 0
        self.is_replica = False
        self.shown = Shown()
        self.last_request: list[bytes] = []
        self.active = server.wall()
        self._mutes_next = False
        self._late: list[Push | Raw] = []  # messages that come after the present answer
        self._has_rest = False  # whether something follows the present answer
        self._backlog: list[list[bytes]] = []
        self._out: list[bytes] = []
        self._is_processing = False
        self._stays_open = False  # although it is closing, as a reply was left out (CLIENT REPLY)
        self._is_stalled = False  # the client does not read its replies
        self._awaits_turn = False
        self._has_ended = False  # the client sends no more
        self._delay: asyncio.TimerHandle | None = None  # of a fault

    def authenticate_as(self, user: "User | None") -> None:
        """See `Client.authenticate_as`."""
        super().authenticate_as(user)
        self._parser.limits = UNAUTHENTICATED if user is None else _LIMITS

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to serve the client."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(_REPLIES)
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.address, self.local_address = address_text(peer), address_text(own)
        self.server.clients.join(self)

    def data_received(self, data: bytes) -> None:
        """Run the requests that have arrived."""
        self.server.stats.net_input += len(data)
        self._parser.feed(data)
        if not self._awaits_turn:
            self.process_requests()

    def pause_writing(self) -> None:
        """Stop reading requests: the client does not read its replies, or they are encrypted."""
        if not self.is_replica:
            self._is_stalled = True
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Read requests again."""
        if not self.is_replica:
            self._is_stalled = False
            self._yield_turn()

    def eof_received(self) -> bool:
        """Close the connection when all that has come before is run, as Redis does.

        Redis would notice the end after that. It forgets what waits for a key or for CLIENT PAUSE.
        """
        self._has_ended = True
        return self._goes_on

    @property
    def _goes_on(self) -> bool:
        """Whether requests wait for the node alone."""
        if self._awaits_turn or self._is_stalled or self.is_due is False:
            return True
        if self.is_postponed:
            return not self.server.clients.paused_until
        script = self.server.script_runner.running
        return script is not None and script.caller is self

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the client."""
        self.is_closing = True
        if self.blocked is not None:
            self.server.blocked_clients.remove(self.blocked)
            self.blocked = None
        self.server.clients.leave(self)

    # --- requests -----------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether further requests have to wait."""
        return self.blocked is not None or self.is_postponed or self.is_closing or self._is_stalled

    @property
    def waiting_input(self) -> int:
        """The bytes of requests that are not complete."""
        return self._parser.buffered

    def process_requests(self, until: float | None = None) -> None:
        """Run the requests that have arrived, as far as they may run now.

        Args:
            until: when the turn of this client ends, by `Scheduler.now`.
        """
        if self._is_processing:
            return
        server = self.server
        server.update_time()
        now = server.scheduler.now
        execute = server.executor.execute
        self.active = server.store.now
        self._is_processing = True
        size = 0
        arguments: list[bytes] = []
        try:
            while not self.waits:
                if self._backlog:
                    requests, self._backlog = self._backlog, []
                else:
                    requests = self._parser.take(1 if self.user is None else _MOST)
                    if not requests:
                        break
                for number, arguments in enumerate(requests):
                    answer = execute(self, arguments)
                    if self.is_postponed:
                        self._backlog = requests[number:]
                        break
                    self.is_due = None  # not only by the rule, which may have ended meanwhile
                    if answer is not NO_REPLY:
                        if self.mutes:
                            self._mute()
                        elif type(answer) is bytes and len(answer) > _CHUNK:
                            # Large answers are sent without a copy.
                            self._out += (b"$%d\r\n" % len(answer), answer, b"\r\n")
                            self.flush()
                        else:
                            encoded = encode(answer, self.resp)  # type: ignore[arg-type]
                            self._out.append(encoded)
                            size += len(encoded)
                            if size > _CHUNK:
                                # Flush, to notice early if the client does not read.
                                self.flush()
                                size = 0
                    elif self.mutes > 0 and self.blocked is None:
                        self.mutes -= 1
                    if self._has_rest:
                        self._do_rest()
                    if server.blocked_clients.everyone:
                        server.blocked_clients.serve()
                    if self.waits:
                        self._backlog = requests[number + 1 :]
                        break
                    if number:  # each client may run at least one request
                        if until is None:
                            until = now() + SLICE
                        elif now() >= until:
                            self._backlog = requests[number + 1 :]
                            self._yield_turn()
                            break
                if self._awaits_turn:
                    break
            if self._parser.error is not None and not (self.waits or self._awaits_turn):
                if not self.mutes:
                    self._out.append(b"-ERR %b\r\n" % self._parser.error.encode(errors="replace"))
                self.close()
        finally:
            self._is_processing = False
            if arguments:
                self.last_request = arguments[:2]
        if self._has_rest:
            self._do_rest()
        self.flush()
        if (self.is_closing and not self._stays_open) or (self._has_ended and not self._goes_on):
            self.transport.close()

    def _do_rest(self) -> None:
        """Do what follows an answer."""
        self._has_rest = False
        if self._mutes_next:
            self.mutes, self._mutes_next = 1, False
        late, self._late = self._late, []
        for message in late:
            self.push(message)

    def mute_next(self) -> None:
        """Leave out the reply to the next request (CLIENT REPLY SKIP)."""
        self._mutes_next = self._has_rest = True

    def _yield_turn(self) -> None:
        """Stop reading until the next turn of this client."""
        if not self._awaits_turn:
            self._awaits_turn = True
            self.transport.pause_reading()
            self.server.scheduler.add(self._take_turn)

    def _take_turn(self, until: float) -> None:
        self._awaits_turn = False
        if self.transport.is_closing():
            return
        self.process_requests(until)
        if not (self._awaits_turn or self._is_stalled or self.is_closing):
            self.transport.resume_reading()

    def _mute(self) -> None:
        if self.mutes > 0:
            self.mutes -= 1

    def flush(self) -> None:
        """Send the replies so far; close the connection if too much waits to be sent."""
        if self._out:
            out, self._out = self._out, []
            size = sum(map(len, out))
            self.server.stats.net_output += size
            if len(out) > 1 and size <= 2 * _CHUNK:
                out = [b"".join(out)]
            for piece in out:
                self.transport.write(piece)
            self.server.clients.check_output(self)

    def send(self, data: bytes) -> None:
        """Send encoded data after the replies so far."""
        self._out.append(data)
        if not self._is_processing:
            self.flush()

    def push(self, message: Push | Raw) -> None:
        """See `Client.push`."""
        if not self.is_closing:
            self.send(encode(message, self.resp))

    def push_later(self, message: Push) -> None:
        """Send a message after the answer to the request that is running, if it is its own."""
        running = self.server.script_runner.running
        if self._is_processing or (running is not None and running.caller is self):
            self._late.append(message)
            self._has_rest = True
        else:
            self.push(message)

    def show(self, line: bytes) -> None:
        """Send a line of MONITOR, after the answer to the request that is running."""
        if self.mutes:
            return
        if self._is_processing:
            self._late.append(Raw(line))
            self._has_rest = True
        else:
            self.send(line)

    def close(self) -> None:
        """Close the connection when all replies are sent; as in Redis, not if the last is not."""
        self.is_closing = True
        self._stays_open |= bool(self.mutes)
        if not (self._is_processing or self._stays_open):
            self.transport.close()

    def kill(self, by: Client) -> None:
        """Close the connection for a client, whose next request runs without it.

        Its own it closes when it has its reply.
        """
        if self is by:
            self.close()
        else:
            self.connection_lost(None)
            self.transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self.is_closing = True
        self.transport.abort()

    def postpone(self, seconds: float | None = None) -> bool:
        """See `Client.postpone`."""
        self.is_postponed = True
        if seconds is not None:
            self._delay = self.server.loop.call_later(seconds, self._end_delay)
        return True

    def end_delay(self) -> None:
        """Let a request that a fault delays go on, as the fault has ended."""
        if self._delay is not None:
            self._delay.cancel()
            self._end_delay()

    def _end_delay(self) -> None:
        self._delay = None
        self.is_due, self.is_postponed = True, False
        if not self.transport.is_closing():
            self._yield_turn()  # not before the node is resumed, if it is paused

    # --- waiting ------------------------------------------------------------------------------

    def wait(
        self,
        keys: tuple[bytes, ...],
        retry: Callable[[bytes | None], Answer],
        timed_out: Callable[[], Answer],
        seconds: float,
    ) -> Answer:
        """Block the client until a request can be answered.

        Args:
            keys: the keys whose change may end the wait; none to wait for replicas.
            retry: returns the answer, or None if there is none yet. Its argument is the key that
                has changed, or None.
            timed_out: returns the answer when the time is up.
            seconds: the longest wait; 0 for no limit.
        """
        blocked = self.blocked = Blocked(
            keys,
            retry=lambda key: self._retry(retry, key),
            unblock=lambda error: self.unblock(timed_out() if error is None else error),
            disconnect=self._disconnect,
        )
        if seconds:
            blocked.timer = self.server.loop.call_later(seconds, self._time_out, blocked)
        self.server.blocked_clients.add(blocked)
        return NO_REPLY

    def _retry(self, retry: Callable[[bytes | None], Answer], key: bytes | None) -> None:
        executor = self.server.executor
        try:
            if executor.event_source is None or self.blocked is None:
                answer = retry(key)
            else:
                keys = self.blocked.keys
                answer = executor.event_source.retry(self, keys, lambda: retry(key))
        except Error as error:
            answer = executor.count_error(error)
        except Exception as error:  # the client that has changed the key must not suffer
            self.server.log(f"A blocked client's request failed: {error!r}", "#")
            answer = executor.count_error(Error("ERR internal error"))
        if self.server.store.dirty or executor.effects is not None:
            executor.effects = executor.effects or []  # a request that failed has none
            executor.propagate(self, [])
        if answer is not None:
            self.unblock(answer)

    def _disconnect(self, error: Error) -> None:
        self._stays_open = bool(self.mutes)
        self.unblock(error)
        self.flush()
        self.close()

    def unblock(self, answer: Answer) -> None:
        """Answer the request that blocks the client, and go on with the next requests soon."""
        if self.blocked is None:
            return
        self.server.blocked_clients.remove(self.blocked)
        self.blocked = None
        if self.mutes:
            self._mute()
        else:
            self._out.append(encode(answer, self.resp))  # type: ignore[arg-type]
        # Not now: the command that changed the key has not ended yet.
        self.server.loop.call_soon(self.resume_requests)

    def wait_for_script(self) -> None:
        """See `Client.wait_for_script`."""
        self.blocked = Blocked((), lambda _: None, lambda _: None, self._disconnect)

    def answer(self, answer: Answer) -> None:
        """See `Client.answer`. Other clients get a turn before this client's next request."""
        if self.blocked is None:
            self.server.clients.leave(self)  # again, as its transaction may have subscribed
            return
        self.blocked = None
        if self.mutes:
            self._mute()
        else:
            self.send(encode(answer, self.resp))  # type: ignore[arg-type]
        if self._has_rest:
            self._do_rest()
        self.server.script_runner.postpone(self)

    def resume_requests(self) -> None:
        """Run the requests that have waited."""
        if not (self.transport.is_closing() or self._awaits_turn):
            self.process_requests()

    def _time_out(self, blocked: Blocked) -> None:
        if self.server.defer_while_busy(self._time_out, blocked):
            return
        if self.blocked is blocked:
            self.server.update_time()
            blocked.unblock(None)

    def describe(self) -> str:
        """See `Client.describe`."""
        return line_of(self)
