"""A client's connection: bytes in, replies out, and the order of both."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from cachesim.aio.turns import SLICE
from cachesim.embedded.redis.connections.blocked import Blocked
from cachesim.embedded.redis.connections.client import NO_REPLY, Answer, Client
from cachesim.embedded.redis.connections.tracking import Tracked
from cachesim.protocols.resp import (
    UNAUTHENTICATED,
    Error,
    Limits,
    Push,
    RequestParser,
    encode,
)

if TYPE_CHECKING:
    from cachesim.embedded.redis.dispatch.acl import User
    from cachesim.embedded.redis.server import Server

_LIMITS = Limits()
_PUSH_LIMIT = 32 << 20  # bytes that may wait for one who does not read what it listens to


class Session(Client, asyncio.Protocol):
    """A client with a connection.

    Attributes:
        address: where it comes from, as CLIENT LIST tells it.
        replica: what it is to replication, if it has asked to follow.
    """

    transport: asyncio.Transport

    def __init__(self, server: "Server") -> None:
        self._parser = RequestParser(UNAUTHENTICATED)
        super().__init__(server, server.acl.everyone)
        self.may_block = True
        self.address = self.local_address = ""
        self.created = self.last_used = server.clock()
        self.last_command = "NULL"
        self.blocked: Blocked | None = None
        self.is_postponed = False
        self.is_closing = False
        self.mutes: int = 0  # replies to leave out; -1 for all
        self.mutes_next = False
        self.monitors = False
        self.is_replica = False
        self.tracking: Tracked | None = None
        self._backlog: list[list[bytes]] = []
        self._out: list[bytes] = []
        self._is_pumping = False
        self._is_stalled = False
        self._is_behind = False  # it waits for its turn

    def be(self, user: "User | None") -> None:
        """See `Client.be`."""
        super().be(user)
        self._parser.limits = UNAUTHENTICATED if user is None else _LIMITS

    # --- asyncio's side -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve the client."""
        self.transport = cast(asyncio.Transport, transport)
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.address, self.local_address = _shown(peer), _shown(own)
        self.server.join(self)

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent."""
        self.server.stats.net_input += len(data)
        self._parser.feed(data)
        if not self._is_behind:
            self.pump()

    def pause_writing(self) -> None:
        """The client does not read: take nothing more from it."""
        if not self.is_replica:
            self._is_stalled = True
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        if not self.is_replica:
            self._is_stalled = False
            self._fall_behind()

    def eof_received(self) -> None:
        """The client has said all; as Redis, the connection is closed."""

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the client."""
        self.is_closing = True
        if self.blocked is not None:
            self.server.waiting.remove(self.blocked)
            self.blocked = None
        self.server.leave(self)

    # --- requests -----------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether further requests have to wait."""
        return self.blocked is not None or self.is_postponed or self.is_closing or self._is_stalled

    def pump(self, until: float | None = None) -> None:
        """Run the requests that have come, as far as they may run now.

        Args:
            until: when it is others' turn.
        """
        if self._is_pumping:
            return
        server = self.server
        server.begin()
        now = server.turns.now
        execute = server.executor.execute
        self._is_pumping = True
        size = 0
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
                    if answer is not NO_REPLY:
                        if self.mutes:
                            self._mute()
                        elif type(answer) is bytes and len(answer) > _CHUNK:
                            # As it is, and no copy of it.
                            self._out += (b"$%d\r\n" % len(answer), answer, b"\r\n")
                            self.flush()
                        else:
                            encoded = encode(answer, self.resp)  # type: ignore[arg-type]
                            self._out.append(encoded)
                            size += len(encoded)
                            if size > _CHUNK:
                                # Not more than a client reads: it may ask for much at once.
                                self.flush()
                                size = 0
                    elif self.mutes > 0 and self.blocked is None:
                        self.mutes -= 1
                    if self.mutes_next:
                        self.mutes, self.mutes_next = 1, False
                    if server.waiting.everyone:
                        server.waiting.serve()
                    if self.waits:
                        self._backlog = requests[number + 1 :]
                        break
                    if number:  # one request at least is for everybody at any time
                        if until is None:
                            until = now() + SLICE
                        elif now() >= until:
                            self._backlog = requests[number + 1 :]
                            self._fall_behind()
                            break
                if self._is_behind:
                    break
            if self._parser.error is not None and not (self.waits or self._is_behind):
                self._out.append(b"-ERR %b\r\n" % self._parser.error.encode(errors="replace"))
                self.is_closing = True
        finally:
            self._is_pumping = False
        self.flush()
        if self.is_closing:
            self.transport.close()

    def _fall_behind(self) -> None:
        """Go on when it is this client's turn, and take nothing more from it before."""
        if not self._is_behind:
            self._is_behind = True
            self.transport.pause_reading()
            self.server.turns.add(self._catch_up)

    def _catch_up(self, until: float) -> None:
        self._is_behind = False
        if self.transport.is_closing():
            return
        self.pump(until)
        if not (self._is_behind or self._is_stalled or self.is_closing):
            self.transport.resume_reading()

    def _mute(self) -> None:
        if self.mutes > 0:
            self.mutes -= 1

    def flush(self) -> None:
        """Send what was answered."""
        if self._out:
            out, self._out = self._out, []
            size = sum(map(len, out))
            self.server.stats.net_output += size
            if len(out) > 1 and size <= 2 * _CHUNK:
                out = [b"".join(out)]
            for piece in out:
                self.transport.write(piece)

    def send(self, data: bytes) -> None:
        """Send something encoded, after what was answered before."""
        self._out.append(data)
        if not self._is_pumping:
            self.flush()

    def push(self, message: Push) -> None:
        """Tell the client something that it did not ask for."""
        if self.is_closing:
            return
        self.send(encode(message, self.resp))
        if self.transport.get_write_buffer_size() > _PUSH_LIMIT:
            self.server.log(
                f"Client {self.describe()} closed for overcoming of output buffer limits.", "#"
            )
            self.abort()

    def close(self) -> None:
        """Close the connection when everything that was answered is sent."""
        self.is_closing = True
        if not self._is_pumping:
            self.transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self.is_closing = True
        self.transport.abort()

    def postpone(self) -> bool:
        """See `Client.postpone`."""
        self.is_postponed = True
        return True

    def become_replica(self) -> None:
        """Take the stream from now on, however slowly."""
        self.is_replica = True

    # --- waiting ------------------------------------------------------------------------------

    def wait(
        self,
        keys: tuple[bytes, ...],
        retry: Callable[[], Answer],
        timed_out: Callable[[], Answer],
        seconds: float,
    ) -> Answer:
        """Answer later.

        Args:
            keys: those whose change may let it be answered.
            retry: gives the answer, or None while there is none.
            timed_out: gives the answer when time is up.
            seconds: until then; 0 for ever.
        """
        self.blocked = Blocked(self, keys, retry, timed_out)
        if seconds:
            self.blocked.timer = self.server.loop.call_later(
                seconds, self._time_is_up, self.blocked
            )
        self.server.waiting.add(self.blocked)
        return NO_REPLY

    def try_again(self, blocked: Blocked) -> None:
        """See whether there is an answer now."""
        try:
            answer = blocked.retry()
        except Error as error:
            answer = self.server.executor.failed(error)
        if self.server.store.dirty or self.server.executor.effects is not None:
            self.server.executor.written(self, [])
        if answer is not None:
            self.unblock(answer)

    def unblock(self, answer: Answer) -> None:
        """Answer what was waited with, and go on with the next requests soon."""
        if self.blocked is None:
            return
        self.server.waiting.remove(self.blocked)
        self.blocked = None
        if self.mutes:
            self._mute()
        else:
            self._out.append(encode(answer, self.resp))  # type: ignore[arg-type]
        # Not at once: whoever changed the key is not done with it.
        self.server.loop.call_soon(self.go_on)

    def wait_for_script(self) -> None:
        """See `Client.wait_for_script`. No key lets it be answered, and nobody may unblock it."""
        self.blocked = Blocked(self, (), lambda: None, lambda: None)

    def answer(self, answer: Answer) -> None:
        """Answer what was waited for with a script; others have their turn before the next one."""
        if self.blocked is None:
            self.server.leave(self)  # once more: a transaction may have made it subscribe
            return
        self.blocked = None
        if self.mutes:
            self._mute()
        else:
            self.send(encode(answer, self.resp))  # type: ignore[arg-type]
        self.server.scripts.postpone(self)

    def go_on(self) -> None:
        """Run what has had to wait."""
        if not (self.transport.is_closing() or self._is_behind):
            self.pump()

    def _time_is_up(self, blocked: Blocked) -> None:
        if self.server.put_off(self._time_is_up, blocked):
            return
        if self.blocked is blocked:
            self.server.begin()
            self.unblock(blocked.timed_out())

    # --- what others see ------------------------------------------------------------------------

    def describe(self) -> str:
        """It as a line of CLIENT LIST."""
        now = self.server.clock()
        flags = "".join(
            sign
            for sign, is_set in (
                ("S", self.is_replica),
                ("O", self.monitors),
                ("P", bool(self.subscriptions or self.shard_channels)),
                ("x", self.transaction is not None),
                ("b", self.blocked is not None),
                ("d", self.watch_failed),
                ("r", self.follows),
                ("t", self.tracking is not None),
            )
            if is_set
        )
        queued = -1 if self.transaction is None else len(self.transaction.queue)
        user = self.user.name.decode(errors="replace") if self.user is not None else "default"
        fields = {
            "id": self.id,
            "addr": self.address,
            "laddr": self.local_address,
            "fd": 8 + self.id,
            "name": self.name.decode(errors="replace"),
            "age": int(now - self.created),
            "idle": int(now - self.last_used),
            "flags": flags or "N",
            "db": 0,
            "sub": len(self.channels),
            "psub": len(self.patterns),
            "ssub": len(self.shard_channels),
            "multi": queued,
            "qbuf": self._parser.buffered,
            "qbuf-free": 20474,
            "argv-mem": 0,
            "multi-mem": 0,
            "rbs": 1024,
            "rbp": 0,
            "obl": 0,
            "oll": 0,
            "omem": 0,
            "tot-mem": 22400,
            "events": "r",
            "cmd": self.last_command,
            "user": user,
            "redir": -1,
            "resp": self.resp,
        }
        return " ".join(f"{name}={value}" for name, value in fields.items())


_MOST = 500  # requests that are taken apart at once
_CHUNK = 64 * 1024  # bytes of replies that are sent at once


def _shown(address: object) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        return f"{address[0]}:{address[1]}"
    return "127.0.0.1:0"
