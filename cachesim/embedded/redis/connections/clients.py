"""All connections of a node, and CLIENT PAUSE."""

from typing import TYPE_CHECKING

from cachesim.protocols.resp import Error

if TYPE_CHECKING:
    from cachesim.embedded.redis.connections.session import Session
    from cachesim.embedded.redis.server import Server


class Clients:
    """All connections of a node.

    Attributes:
        sessions: the connections by id.
        paused_until: when CLIENT PAUSE ends, by the node's clock; 0 if no pause is on.
        pauses_all: whether all requests are paused; otherwise only writes are.
        output_limits: the bytes that may wait to be sent, by class; see `limits_of_classes`.
    """

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._next_id = 1
        self.sessions: dict[int, Session] = {}
        self.paused_until = 0.0
        self.pauses_all = False
        self.output_limits = {"normal": (0, 0, 0), "pubsub": (0, 0, 0)}
        self._large: dict[Session, float] = {}  # since when more waits than the soft limit

    def join(self, session: "Session") -> None:
        """Add a connection; refuse it if with the cluster bus there are already `maxclients`."""
        server = self._server
        session.id = self._next_id
        self._next_id += 1
        server.stats.connections += 1
        bus = len(server.bus.outbound) + len(server.bus.inbound)
        if len(self.sessions) + bus >= server.settings.number("maxclients"):
            server.stats.rejected_connections += 1
            session.is_closing = True
            if session.transport.get_extra_info("ssl_object") is None:
                # Redis looks before the TLS handshake, and can't tell then.
                session.transport.write(b"-ERR max number of clients reached\r\n")
            session.transport.close()
            return
        self.sessions[session.id] = session

    def leave(self, session: "Session") -> None:
        """Forget a closed connection and all its subscriptions, watches and the like."""
        server = self._server
        self.sessions.pop(session.id, None)
        self._large.pop(session, None)
        server.monitors.remove(session.id)
        server.pubsub.leave(session)
        server.watched_keys.remove(session)
        server.replicas.leave(session)
        server.tracking.stop(session)

    def check_output(self, session: "Session") -> None:
        """Close the connection of a client that is too far behind with reading."""
        kind = "pubsub" if session.is_subscribed else "normal"
        hard, soft, seconds = self.output_limits[kind]
        if not (hard or soft) or session.is_replica:
            return
        size = session.transport.get_write_buffer_size()
        is_over = 0 < hard <= size
        if 0 < soft <= size:
            now = self._server.clock()
            is_over |= now - self._large.setdefault(session, now) > seconds
        else:
            self._large.pop(session, None)
        if is_over and not session.transport.is_closing():
            self._server.log(
                f"Client {session.describe()} closed for overcoming of output buffer limits.", "#"
            )
            session.abort()

    @property
    def postponed(self) -> int:
        """How many clients have a request that waits for the end of a pause."""
        return sum(session.is_postponed for session in self.sessions.values())

    def pause(self, seconds: float, *, everything: bool) -> None:
        """Pause all requests or only writes: `CLIENT PAUSE`."""
        now = self._server.clock()
        self.pauses_all = everything or (self.pauses_all and self.paused_until > now)
        self.paused_until = max(self.paused_until, now + seconds)
        self._server.expiry.stop()
        if self.paused_until <= now:
            self.unpause()
        self._server.update_guards()

    def unpause(self) -> None:
        """End the pause and run the postponed requests: `CLIENT UNPAUSE`."""
        self.paused_until = 0.0
        self._server.update_guards()
        if self._server.replica_link is not None:
            self._server.replica_link.resume()
        for session in list(self.sessions.values()):
            if session.is_postponed:
                session.is_postponed = False
                self._server.loop.call_soon(session.resume_requests)

    def tick(self) -> None:
        """End the pause when its time is up, and all waits for keys when the cluster is down.

        Close what has been over a soft limit for too long. Called several times a second.
        """
        for session in list(self._large):
            self.check_output(session)
        if not self._server.gossip.is_ok:
            self._server.blocked_clients.unblock_all(Error("CLUSTERDOWN The cluster is down"))
        if self.paused_until and self.paused_until <= self._server.clock():
            self.unpause()
