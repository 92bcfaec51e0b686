"""The replica's side of replication: the link to the primary."""

import asyncio
import re
from typing import TYPE_CHECKING, cast

from cachesim.embedded.redis.cluster.nodes import Member
from cachesim.embedded.redis.connections.client import Client
from cachesim.embedded.redis.replication.aof import Draft, requests_in
from cachesim.protocols.resp import request
from cachesim.protocols.resp_parser import Limits, RequestParser

if TYPE_CHECKING:
    from cachesim.embedded.redis.server import Server

_LIMITS = Limits(bulk=512 << 20, query=1 << 40)
_LONGEST_LINE = 64 * 1024
_RETRY = 1.0  # seconds
_HARMLESS = frozenset({b"PING", b"REPLCONF", b"SELECT"})
"""What a replica obeys although its append-only file can't be written."""
_ACKNOWLEDGE = 1.0  # seconds


class _Connection(asyncio.Protocol):
    """A connection to the primary: the handshake, a full resync if needed, then the stream.

    Attributes:
        state: `handshake`, `sync` while the data is received, `loading`, or `connected`.
    """

    transport: asyncio.Transport

    def __init__(self, link: "ReplicaLink") -> None:
        self._link = link
        self._server = link.server
        self._head = b""
        self._awaited_oks = 0
        self._payload: Draft | None = None
        self._payload_missing = 0
        self._resume_at = "", 0
        self._parser = RequestParser(_LIMITS)
        self._raw: list[bytes] = []
        self._transaction: list[list[bytes]] | None = None
        self._client = Client(self._server, None, is_replaying=True)
        self._paused: list[bytes] = []
        self.state = "handshake"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._link.is_stopped:  # stopped while connecting
            self.transport.abort()
            return
        self._link.connection = self
        # Else a link that was cut for longer than the timeout would have none left to answer.
        self._link.last_heard = self._server.clock()
        server, config = self._server, self._server.config
        me = config.nodes[config.name]
        user = config.replication_user.encode()
        hello = [
            [b"REPLCONF", b"listening-port", b"%d" % me.port],
            [b"REPLCONF", b"ip-address", me.host.encode()],
            [b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"],
        ]
        if config.replication_password:
            hello.insert(0, [b"AUTH", user, config.replication_password.encode()])
        self._awaited_oks = len(hello)
        stream = server.stream
        stream.flush()
        sync = [b"PSYNC", stream.id.encode(), b"%d" % (stream.offset + 1)]
        if not stream.is_active:
            sync = [b"PSYNC", b"?", b"-1"]
        else:
            server.log(
                f"Trying a partial resynchronization (request {stream.id}:{stream.offset + 1})."
            )
        # All requests at once: one round trip instead of five.
        self.transport.write(b"".join(map(request, [*hello, sync])))
        server.log(f"MASTER <-> REPLICA sync started: {self._link.primary.name}")

    def data_received(self, data: bytes) -> None:
        if self._server.script_runner.defer(self._take_late, data):
            self.transport.pause_reading()
            return
        self._link.last_heard = self._server.clock()
        self._server.stats.repl_input += len(data)
        if self.state == "connected":
            if self._server.clients.paused_until:
                self._paused.append(data)
            else:
                self._apply(data)
            return
        if self._payload is not None:
            self._take_payload(data)
            return
        self._head += data
        while self.state == "handshake" and b"\r\n" in self._head:
            line, _, self._head = self._head.partition(b"\r\n")
            self._take_line(line)
            if self.transport.is_closing():
                return
        if self.state == "sync":
            self._begin_payload()
        elif self.state == "connected":
            rest, self._head = self._head, b""
            self._apply(rest)
        elif len(self._head) > _LONGEST_LINE:
            self.transport.abort()

    def _take_late(self, data: bytes) -> None:
        """Handle data that has arrived while a script was running."""
        if not self.transport.is_closing():
            self.transport.resume_reading()
            self.data_received(data)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._payload is not None and self.state == "sync":
            self._payload.discard()
        self._link.lost(self)

    # --- handshake --------------------------------------------------------------------------

    def _take_line(self, line: bytes) -> None:
        server = self._server
        if not line:  # a primary that takes a snapshot sends empty lines as keepalives
            return
        if self._awaited_oks:
            self._awaited_oks -= 1
            if line.startswith(b"-") and not line.startswith(b"-ERR Unrecognized REPLCONF"):
                server.log(f"Unable to AUTH to MASTER: {line.decode(errors='replace')}", "#")
                self.transport.abort()
            return
        if full := re.fullmatch(rb"\+FULLRESYNC ([0-9a-f]{40}) (\d+)", line):
            server.log(f"Full resync from master: {line[12:].decode()}")
            self._resume_at = full[1].decode(), int(full[2])
            self.state = "sync"
            server.gossip.note_synced(is_synced=False)
        elif same := re.fullmatch(rb"\+CONTINUE ?([0-9a-f]{40})?", line):
            server.log("Successful partial resynchronization with master.")
            if same[1]:
                server.stream.adopt(same[1].decode())
            self._connected()
        else:
            server.log(
                f"Master is currently unable to PSYNC but should be in the future: "
                f"{line.decode(errors='replace')}",
                "#",
            )
            self.transport.abort()

    def _begin_payload(self) -> None:
        line, end, rest = self._head.partition(b"\r\n")
        if not end:
            return
        if not re.fullmatch(rb"\$\d{1,18}", line):
            self._server.log("Bad protocol from MASTER, the first byte is not '$'", "#")
            self.transport.abort()
            return
        self._head = b""
        self._payload = self._server.aof.draft()
        self._payload_missing = int(line[1:])
        self._take_payload(rest)

    def _take_payload(self, data: bytes) -> None:
        """Write the snapshot to a file; keep the stream after it until the snapshot is loaded."""
        payload = self._payload
        if payload is None:
            return
        if self._payload_missing:
            payload.write(data[: self._payload_missing])
        self._head += data[self._payload_missing :]
        self._payload_missing -= min(self._payload_missing, len(data))
        if not self._payload_missing and self.state == "sync":
            self.state = "loading"
            self.transport.pause_reading()
            self._load(payload)

    def _load(self, payload: Draft) -> None:
        """Replace all data of this node with the primary's."""
        server = self._server
        server.log("MASTER <-> REPLICA sync: Loading DB in memory")
        server.cancel_snapshots()
        server.clear()
        server.functions.clear()
        payload.end()

        def loaded() -> None:
            server.stream.restart(*self._resume_at)
            server.aof.replace(payload)
            server.log("MASTER <-> REPLICA sync: Finished with success")
            self._loaded()

        server.loader.load(requests_in(payload.path), loaded)

    def _loaded(self) -> None:
        self._payload = None
        if self._link.connection is not self or self.transport.is_closing():
            return
        self._link.last_heard = self._server.clock()
        self._connected()
        rest, self._head = self._head, b""
        if rest:
            self._apply(rest)
        self.transport.resume_reading()

    def _connected(self) -> None:
        self.state = "connected"
        self._link.down_since = None
        self._server.gossip.note_synced(is_synced=True)
        self.acknowledge()

    # --- the stream -------------------------------------------------------------------------

    def resume(self) -> None:
        """Apply what has arrived during CLIENT PAUSE."""
        paused, self._paused = self._paused, []
        if paused:
            self._apply(b"".join(paused))

    def _apply(self, data: bytes) -> None:
        server = self._server
        self._parser.feed(data)
        self._raw.append(data)
        requests = self._parser.take()
        if self._parser.error is not None:
            server.log(f"Protocol error from the primary: {self._parser.error}", "#")
            self.transport.abort()
            return
        if not requests:
            return
        asked = False
        for arguments in requests:
            name = arguments[0].upper()
            if server.aof.has_failed and name not in _HARMLESS:
                server.log("Replica was unable to write command to disk.", "#")
                server.loop.call_soon(server.aof.on_panic)
                return
            if name == b"MULTI":
                self._transaction = []
            elif name == b"EXEC":
                for queued in self._transaction or ():
                    server.executor.replay(self._client, queued)
                self._transaction = None
                server.blocked_clients.serve()
            elif name == b"REPLCONF":
                asked = True
            elif self._transaction is not None:
                self._transaction.append(arguments)
            else:
                server.executor.replay(self._client, arguments)
                server.blocked_clients.serve()
        if self._transaction is None:
            # All but the beginning of the next request, which arrived with the last one's end.
            raw, left = self._raw, self._parser.buffered
            last = raw.pop()
            for piece in raw:
                server.stream.append(piece)
            server.stream.append(last[: len(last) - left] if left else last)
            self._raw = [last[len(last) - left :]] if left else []
        if asked:
            self.acknowledge()
        server.stream.flush()

    def acknowledge(self) -> None:
        """Send the primary the offset that this replica has reached."""
        offset = b"%d" % self._server.stream.offset
        self.transport.write(request([b"REPLCONF", b"ACK", offset]))


class ReplicaLink:
    """A replica's link to its primary: connects and reconnects until `stop`.

    Attributes:
        connection: the present connection, or None.
        down_since: when the link went down, by the node's clock; None: it is up.
        last_heard: when the last data came from the primary, by the node's clock.
        is_stopped: whether `stop` was called, as the node now replicates another primary or none.
    """

    def __init__(self, server: "Server", primary: Member) -> None:
        self.server = server
        self.primary = primary
        self.connection: _Connection | None = None
        self.down_since: float | None = server.clock()
        self.last_heard = server.clock()
        self._task: asyncio.Task[None] | None = None
        self._tried_at = float("-inf")
        self._acknowledged_at = server.clock()
        self.is_stopped = False

    @property
    def state(self) -> str:
        """The link's state, as ROLE reports it."""
        if self.connection is not None:
            return "sync" if self.connection.state == "loading" else self.connection.state
        return "connecting" if self._task is not None else "connect"

    @property
    def is_up(self) -> bool:
        """Whether the replica receives the stream, with all data loaded."""
        return self.state == "connected"

    def tick(self) -> None:
        """Connect, time out, or acknowledge, when due. Called several times a second."""
        now = self.server.clock()
        if self.connection is None:
            if self._task is None and now - self._tried_at >= _RETRY:
                self.connect()
            return
        if now - self.last_heard > self.server.settings.number("repl-timeout"):
            self.server.log("MASTER timeout: no data nor PING received...", "#")
            self.connection.transport.abort()
        elif self.is_up and now - self._acknowledged_at >= _ACKNOWLEDGE:
            self._acknowledged_at = now
            self.connection.acknowledge()

    def resume(self) -> None:
        """Apply what has arrived during CLIENT PAUSE."""
        if self.connection is not None:
            self.connection.resume()

    def connect(self) -> None:
        """Try to connect, unless data is still being loaded."""
        if self.server.loader.is_loading:
            return
        self._tried_at = self.server.clock()
        self.server.log(f"Connecting to MASTER {self.primary.host}:{self.primary.port}")
        self._task = self.server.spawn(self._dial())

    async def _dial(self) -> None:
        try:
            await self.server.connect(lambda: _Connection(self), self.primary.name, "redis")
        except OSError as error:
            self.server.log(f"Error condition on socket for SYNC: {error}", "#")
        finally:
            self._task = None

    def lost(self, connection: _Connection) -> None:
        """Forget a lost connection. Reconnect at once if the link was up."""
        if self.connection is not connection:
            return
        self.connection = None
        if self.down_since is None:
            self.down_since = self.server.clock()
            self.server.log("Connection with master lost.", "#")
            if not self.is_stopped and not self.server.is_stopped:
                self.connect()

    def stop(self) -> None:
        """Close the connection, and do not reconnect."""
        self.is_stopped = True
        if self._task is not None:
            self._task.cancel()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.transport.abort()
