"""A primary's side of replication: those who follow it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cachesim.embedded.redis.replication.backlog import Sink

if TYPE_CHECKING:
    from cachesim.embedded.redis.connections.session import Session
    from cachesim.embedded.redis.server import Server

_OUTPUT_LIMIT = 256 << 20  # bytes that may wait for a replica


@dataclass(eq=False)
class Replica:
    """One that follows.

    Attributes:
        state: `wait_bgsave` until there is the data that it has asked for, `send_bulk` until it has
            that, then `online`; `handshake` before it has asked.
        acknowledged: the offset that it has told last.
        acknowledged_at: when that was.
        sink: what takes the stream to it; None before it has asked for that.
    """

    session: "Session"
    host: str = "127.0.0.1"
    port: int = 0
    state: str = "handshake"
    acknowledged: int = 0
    acknowledged_at: float = 0.0
    sink: Sink | None = None


class Replicas:
    """All that follow a node, in the order in which they came."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._all: dict[Session, Replica] = {}
        self._pinged_at = server.clock()
        self._snapshot: list[bytes] | None = None  # of which some is there, while it is made

    def __iter__(self) -> Iterator[Replica]:
        return (replica for replica in self._all.values() if replica.state != "handshake")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def of(self, session: "Session") -> Replica:
        """What a connection is to replication, if it is or wants to be a replica."""
        if (replica := self._all.get(session)) is None:
            replica = self._all[session] = Replica(session)
        return replica

    def sync(self, session: "Session", history: str, offset: int) -> None:
        """Let a replica go on from an offset, or give it everything.

        Args:
            offset: the last one that it has.
        """
        server, stream, replica = self._server, self._server.stream, self.of(session)
        stream.activate()
        session.become_replica()
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
        replica.acknowledged, replica.acknowledged_at = offset, server.clock()
        server.look()

    def _attach(self, replica: Replica, state: str) -> None:
        """Let one have the stream from now on."""
        replica.state = state
        replica.sink = partial(self._send, replica.session)
        self._server.stream.sinks.append(replica.sink)

    def _prepare(self) -> None:
        """Make a snapshot for all who wait for one, also those who come meanwhile."""
        if self._snapshot is None:
            self._snapshot = []
            self._server.snapshot(self._snapshot.append, partial(self._deliver, self._snapshot))

    def _deliver(self, pieces: list[bytes]) -> None:
        if pieces is not self._snapshot:
            return  # nobody waits for it any more
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
        """A replica says how far it has come."""
        replica = self.of(session)
        if replica.sink is None:
            return
        replica.acknowledged = max(offset, replica.acknowledged)
        replica.acknowledged_at = self._server.clock()
        if replica.state == "send_bulk":
            replica.state = "online"
            self._server.log(
                f"Synchronization with replica {replica.host}:{replica.port} succeeded"
            )
        self._server.acknowledged()

    def with_offset(self, offset: int) -> int:
        """How many have come as far as that."""
        return sum(r.state == "online" and r.acknowledged >= offset for r in self)

    def healthy(self, longest_lag: float) -> int:
        """How many have acknowledged something within some seconds."""
        now = self._server.clock()
        return sum(r.state == "online" and now - r.acknowledged_at <= longest_lag for r in self)

    def tick(self) -> None:
        """To be called several times a second."""
        server, now = self._server, self._server.clock()
        if now - self._pinged_at >= server.settings.number("repl-ping-replica-period"):
            self._pinged_at = now
            if len(self):
                server.stream.append_requests([[b"PING"]])
        timeout = server.settings.number("repl-timeout")
        for replica in list(self):
            if replica.state == "online" and now - replica.acknowledged_at > timeout:
                server.log(f"Disconnecting timedout replica {replica.host}:{replica.port}", "#")
                replica.session.abort()

    def leave(self, session: "Session") -> None:
        """A connection is gone."""
        replica = self._all.pop(session, None)
        if replica is not None and replica.state != "handshake":
            if self._server.is_stopped:
                return
            if replica.sink is not None:
                self._server.stream.sinks.remove(replica.sink)
            self._server.log(f"Connection with replica {replica.host}:{replica.port} lost.", "#")
            self._server.look()

    def drop_all(self) -> None:
        """Close the connections of all, and end what is prepared for them."""
        self._snapshot = None
        for replica in list(self):
            replica.session.abort()


GET_ACK = [b"REPLCONF", b"GETACK", b"*"]
