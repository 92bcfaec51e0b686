"""The primary's side of replication: the connected replicas."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cachesim.embedded.redis.replication.backlog import Sink

if TYPE_CHECKING:
    from cachesim.embedded.redis.connections.session import Session
    from cachesim.embedded.redis.server import Server

_OUTPUT_LIMIT = 256 << 20  # bytes that may wait to be sent to a replica
_KEEPALIVE = 1.0
"""Seconds between empty lines to replicas whose snapshot is taken, which count the time too."""
GET_ACK = [b"REPLCONF", b"GETACK", b"*"]
"""The request in the stream that asks all replicas for an acknowledgement."""


@dataclass(eq=False)
class Replica:
    """A replica that is connected to this node.

    Attributes:
        state: `handshake` before it has sent PSYNC, `wait_bgsave` while its snapshot is taken,
            `send_bulk` until it has loaded the snapshot, then `online`.
        acknowledged: the last offset that it has acknowledged.
        acknowledged_at: the time of the last acknowledgement, by the node's clock.
        sink: sends it the stream; None before it gets the stream.
    """

    session: "Session"
    host: str = "127.0.0.1"
    port: int = 0
    state: str = "handshake"
    acknowledged: int = 0
    acknowledged_at: float = 0.0
    sink: Sink | None = None


class Replicas:
    """All connected replicas of a node, in the order in which they connected."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._all: dict[Session, Replica] = {}
        self._pinged_at = self._kept_alive_at = server.clock()
        self._snapshot: list[bytes] | None = None  # its pieces so far; None: none is being taken
        self._news = asyncio.Event()  # a replica has acknowledged something, or has left

    def __iter__(self) -> Iterator[Replica]:
        return (replica for replica in self._all.values() if replica.state != "handshake")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def of(self, session: "Session") -> Replica:
        """Return the replica of a connection; add it if it is new."""
        if (replica := self._all.get(session)) is None:
            replica = self._all[session] = Replica(session)
        return replica

    def sync(self, session: "Session", history: str, offset: int) -> None:
        """Send a replica the stream from an offset, or a snapshot if that is not possible.

        Args:
            history: the id of the replica's history, or `?`.
            offset: the last offset that the replica has.
        """
        server, stream, replica = self._server, self._server.stream, self.of(session)
        stream.activate()
        session.is_replica = True
        tail = stream.since(history, offset)
        if tail is not None:
            server.stats.sync_partial_ok += 1
            server.log(
                f"Partial resynchronization request from {replica.host}:{replica.port} accepted. "
                f"Sending {len(tail)} bytes of backlog starting from offset {offset + 1}."
            )
            session.send(b"+CONTINUE %b\r\n" % stream.id.encode())
            session.send(tail)
            self._attach(replica, "online")
        else:
            server.stats.sync_full += 1
            if history != "?":
                server.stats.sync_partial_err += 1
            server.log(f"Replica {replica.host}:{replica.port} asks for synchronization")
            replica.state = "wait_bgsave"
            self._prepare()
            offset = 0  # what it has is of another history
        replica.acknowledged, replica.acknowledged_at = offset, server.clock()
        server.update_guards()

    def _attach(self, replica: Replica, state: str) -> None:
        """Send a replica the stream from now on."""
        replica.state = state
        replica.sink = partial(self._send, replica.session)
        self._server.stream.sinks.append(replica.sink)

    def _prepare(self) -> None:
        """Take a snapshot for all replicas that wait for one when it is complete."""
        if self._snapshot is None:
            self._snapshot = []
            self._server.snapshots.take(
                self._snapshot.append, partial(self._deliver, self._snapshot)
            )

    def _deliver(self, pieces: list[bytes]) -> None:
        if pieces is not self._snapshot:
            return  # the snapshot was dropped
        self._snapshot = None
        stream = self._server.stream
        head = b"+FULLRESYNC %b %d\r\n$%d\r\n" % (
            stream.id.encode(), stream.offset, sum(map(len, pieces)),
        )  # fmt: skip
        for replica in self:
            if replica.state == "wait_bgsave" and not replica.session.is_closing:
                for piece in (head, *pieces):
                    replica.session.send(piece)
                self._attach(replica, "send_bulk")

    def _send(self, session: "Session", data: bytes) -> None:
        self._server.stats.repl_output += len(data)
        session.transport.write(data)
        if session.transport.get_write_buffer_size() > _OUTPUT_LIMIT:
            self._server.log("Client (replica) closed for overcoming of output buffer limits.", "#")
            session.abort()

    def acknowledge(self, session: "Session", offset: int) -> None:
        """Note the offset that a replica acknowledges."""
        replica = self.of(session)
        if replica.sink is None:
            return
        self._news.set()
        replica.acknowledged = max(offset, replica.acknowledged)
        replica.acknowledged_at = self._server.clock()
        if replica.state == "send_bulk":
            replica.state = "online"
            self._server.log(
                f"Synchronization with replica {replica.host}:{replica.port} succeeded"
            )
        self._server.blocked_clients.replicas_acknowledged()

    def are_behind(self, offset: int) -> bool:
        """Whether any replica has not acknowledged an offset."""
        return any(replica.acknowledged < offset for replica in self)

    async def catch_up(self, seconds: float) -> None:
        """Wait until all replicas have acknowledged all changes, at most so long."""
        stream = self._server.stream
        if not self.are_behind(stream.offset):
            return
        self._server.log("Waiting for replicas before shutting down.")
        stream.append_requests([GET_ACK])  # else they would tell after a second
        offset = stream.offset
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.are_behind(offset):
                    self._news.clear()
                    await self._news.wait()
        in_sync = sum(replica.acknowledged >= offset for replica in self)
        self._server.log(f"{in_sync} of {len(self)} replicas are in sync when shutting down.")

    def with_offset(self, offset: int) -> int:
        """Return how many replicas have acknowledged an offset."""
        return sum(r.state == "online" and r.acknowledged >= offset for r in self)

    def healthy(self, longest_lag: float) -> int:
        """Return how many replicas have acknowledged within the last `longest_lag` seconds."""
        now = self._server.clock()
        return sum(r.state == "online" and now - r.acknowledged_at <= longest_lag for r in self)

    @property
    def are_enough(self) -> bool:
        """Whether `min-replicas-to-write` allows writes."""
        wanted = self._server.settings.number("min-replicas-to-write")
        if not wanted or self._server.is_replica:
            return True
        return self.healthy(self._server.settings.number("min-replicas-max-lag")) >= wanted

    def tick(self) -> None:
        """Ping the replicas and drop the silent ones. Called several times a second."""
        server, now = self._server, self._server.clock()
        if now - self._pinged_at >= server.settings.number("repl-ping-replica-period"):
            self._pinged_at = now
            if len(self):
                server.stream.append_requests([[b"PING"]])
        if now - self._kept_alive_at >= _KEEPALIVE:
            self._kept_alive_at = now
            for replica in self:
                if replica.state == "wait_bgsave":
                    replica.session.send(b"\r\n")
        timeout = server.settings.number("repl-timeout")
        for replica in list(self):
            if replica.state == "online" and now - replica.acknowledged_at > timeout:
                server.log(f"Disconnecting timedout replica {replica.host}:{replica.port}", "#")
                replica.session.abort()

    def leave(self, session: "Session") -> None:
        """Forget the replica of a closed connection, if it was a replica's."""
        replica = self._all.pop(session, None)
        self._news.set()
        if replica is not None and replica.state != "handshake":
            if self._server.is_stopped:
                return
            if replica.sink is not None:
                self._server.stream.sinks.remove(replica.sink)
            self._server.log(f"Connection with replica {replica.host}:{replica.port} lost.", "#")
            self._server.update_guards()

    def drop_all(self) -> None:
        """Close the connections of all replicas, and drop the snapshot for them."""
        self._snapshot = None
        for replica in list(self):
            replica.session.abort()
