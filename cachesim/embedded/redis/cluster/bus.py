"""The cluster bus: a node's links to all others, and theirs to it.

Messages are lines of JSON. Questions go out on a node's own links, and answers come back on them;
so what a node hears of another needs both directions of one link.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from cachesim.embedded.redis.cluster.gossip import Member, Message

if TYPE_CHECKING:
    from cachesim.embedded.redis.server import Server

_LONGEST = 64 << 20  # bytes of a message
_BUFFERED = 64 << 20  # bytes that may wait for a peer that reads nothing

Connect = Callable[[Callable[[], asyncio.Protocol], str, str], Awaitable[None]]
"""Connects a protocol to a peer's `redis` or `bus`. Raises OSError."""


def secret(password: str, node: str) -> str:
    """What a node proves with that it belongs to the cluster."""
    return hmac.new(password.encode(), node.encode(), hashlib.sha256).hexdigest()


class _Lines(asyncio.Protocol):
    """Cuts what arrives into messages."""

    transport: asyncio.Transport

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._pieces: list[bytes] = []
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The link is up."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if b"\n" not in data:
            self._pieces.append(data)
            self._size += len(data)
            if self._size > _LONGEST:
                self.transport.abort()
            return
        *lines, rest = b"".join([*self._pieces, data]).split(b"\n")
        self._pieces, self._size = [rest] if rest else [], len(rest)
        for line in lines:
            try:
                self.receive(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self._server.log(f"Bad message on the cluster bus: {error!r}", "#")
                self.transport.abort()
                return

    def receive(self, message: Message) -> None:
        """Take a message."""
        raise NotImplementedError

    def write(self, message: Message) -> None:
        """Send a message."""
        self.transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")


class Inbound(_Lines):
    """What another node has opened."""

    def __init__(self, server: "Server") -> None:
        super().__init__(server)
        self.peer: Member | None = None
        self.opened_at = server.clock()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The link is up."""
        super().connection_made(transport)
        self._server.bus.inbound.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """The link is gone."""
        self._server.bus.inbound.discard(self)

    def receive(self, message: Message) -> None:
        """Take a message."""
        server = self._server
        if self.peer is None:
            expected = secret(server.config.replication_password, message["from"])
            if message["t"] != "hello" or not hmac.compare_digest(message["secret"], expected):
                self.transport.abort()
                return
            self.peer = server.view.members.get(message["from"])
            return
        answer = server.bus.take(message)
        if answer is not None:
            self.write(answer)


class Outbound(_Lines):
    """What this node has opened to another."""

    def __init__(self, server: "Server", peer: Member) -> None:
        super().__init__(server)
        self._peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The link is up."""
        super().connection_made(transport)
        me = self._server.view.me.id
        proof = secret(self._server.config.replication_password, me)
        self.write({"t": "hello", "from": me, "secret": proof})
        self._server.bus.opened(self._peer, self)

    def connection_lost(self, _error: Exception | None) -> None:
        """The link is gone."""
        self._server.bus.lost(self._peer, self)

    def receive(self, message: Message) -> None:
        """Take a message."""
        self._server.bus.take(message)


class Bus:
    """All links of a node.

    Attributes:
        outbound: those that are up, by the peer's id.
    """

    def __init__(self, server: "Server", connect: Connect) -> None:
        self._server = server
        self._connect = connect
        self._dialing: dict[str, asyncio.Task[None]] = {}
        self.inbound: set[Inbound] = set()
        self.outbound: dict[str, Outbound] = {}
        self.opened_at: dict[str, float] = {}

    def tick(self) -> None:
        """Open the links that are missing, and give up on those that have gone silent."""
        view = self._server.view
        now = self._server.clock()
        half = self._server.node_timeout / 2
        for member in view.others:
            link = self.outbound.get(member.id)
            if link is None:
                if member.id not in self._dialing:
                    self._dialing[member.id] = self._server.spawn(self._dial(member))
                continue
            is_old = now - self.opened_at[member.id] > self._server.node_timeout
            waits = member.ping_sent and now - member.ping_sent > half
            if is_old and waits and now - member.heard > half:
                # Perhaps it is the connection that is broken.
                link.transport.abort()

    async def _dial(self, member: Member) -> None:
        try:
            await self._connect(lambda: Outbound(self._server, member), member.name, "bus")
        except OSError:
            self._server.view.unlinked(member)
        finally:
            self._dialing.pop(member.id, None)

    def opened(self, member: Member, link: Outbound) -> None:
        """A link has come up."""
        self.outbound[member.id] = link
        self.opened_at[member.id] = self._server.clock()
        self._server.view.linked(member)

    def lost(self, member: Member, link: Outbound) -> None:
        """A link is gone."""
        if self.outbound.get(member.id) is link:
            del self.outbound[member.id]
            self._server.view.unlinked(member)

    def send(self, node: str, message: Message) -> None:
        """Send a message, if there is a link."""
        link = self.outbound.get(node)
        if link is None:
            return
        if link.transport.get_write_buffer_size() > _BUFFERED:
            link.transport.abort()
            return
        link.write(message)

    def take(self, message: Message) -> Message | None:
        """Take a message; gives the answer."""
        if message["t"] == "publish":
            self._server.view.receive(message)
            channel = message["channel"].encode("latin-1")
            text = message["message"].encode("latin-1")
            pubsub = self._server.pubsub
            (pubsub.publish_in_shard if message["shard"] else pubsub.publish)(channel, text)
            return None
        return self._server.view.receive(message)

    def publish(self, channel: bytes, message: bytes, *, shard: bool) -> None:
        """Let the listeners at the other nodes have a message."""
        if not self.outbound:
            return
        view = self._server.view
        view.broadcast(
            {
                "t": "publish",
                "from": view.me.id,
                "channel": channel.decode("latin-1"),
                "message": message.decode("latin-1"),
                "shard": shard,
            }
        )

    def close(self) -> None:
        """Close all links at once."""
        for task in list(self._dialing.values()):
            task.cancel()
        for link in [*self.outbound.values(), *self.inbound]:
            with contextlib.suppress(OSError):
                link.transport.abort()
        self.outbound.clear()
        self.inbound.clear()
