"""The cluster bus: a node's links to all other nodes, and their links to this node.

Messages are lines of JSON. A node sends on the links that it has opened, and gets the answers on
the same link. So both directions of one link must work for an answer.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from cachesim.embedded.redis.cluster.gossip import Message
from cachesim.embedded.redis.cluster.nodes import Member

if TYPE_CHECKING:
    from cachesim.embedded.redis.server import Server

_LONGEST = 64 << 20  # the most bytes of a message
_BUFFERED = 64 << 20  # bytes that may wait for a peer that does not read

Connect = Callable[[Callable[[], asyncio.Protocol], str, str], Awaitable[None]]
"""Connects a protocol, made by the factory, to a peer's `redis` or `bus` port. Raises OSError."""


def secret(password: str, node: str) -> str:
    """Return the secret that proves that a node belongs to the cluster."""
    return hmac.new(password.encode(), node.encode(), hashlib.sha256).hexdigest()


class _Lines(asyncio.Protocol):
    """A link: splits the received bytes into messages, and sends messages."""

    transport: asyncio.Transport

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._pieces: list[bytes] = []
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to use the link."""
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
        """Handle a message."""
        raise NotImplementedError

    def write(self, message: Message) -> None:
        """Send a message."""
        self.transport.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")


class Inbound(_Lines):
    """A link that another node has opened.

    Attributes:
        peer: the node that opened it; None until it has proved that it belongs to the cluster.
    """

    def __init__(self, server: "Server") -> None:
        super().__init__(server)
        self.peer: Member | None = None
        self.opened_at = server.clock()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to use the link."""
        super().connection_made(transport)
        self._server.bus.inbound.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the link."""
        self._server.bus.inbound.discard(self)

    def receive(self, message: Message) -> None:
        """Handle a message."""
        server = self._server
        if self.peer is None:
            expected = secret(server.config.replication_password, message["from"])
            if message["t"] != "hello" or not hmac.compare_digest(message["secret"], expected):
                self.transport.abort()
                return
            self.peer = server.nodes.members.get(message["from"])
            return
        answer = server.bus.receive(message)
        if answer is not None:
            self.write(answer)


class Outbound(_Lines):
    """A link that this node has opened to another one."""

    def __init__(self, server: "Server", peer: Member) -> None:
        super().__init__(server)
        self._peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to use the link."""
        super().connection_made(transport)
        me = self._server.nodes.me.id
        proof = secret(self._server.config.replication_password, me)
        self.write({"t": "hello", "from": me, "secret": proof})
        self._server.bus.opened(self._peer, self)

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the link."""
        self._server.bus.lost(self._peer, self)

    def receive(self, message: Message) -> None:
        """Handle a message."""
        self._server.bus.receive(message)


@dataclass
class _Dial:
    """A link that is being opened.

    Attributes:
        waiting: what was published meanwhile. As in Redis, it is sent once the link is open.
        size: the bytes of that.
    """

    task: asyncio.Task[None]
    waiting: list[Message] = field(default_factory=list)
    size: int = 0


class Bus:
    """All links of a node.

    Attributes:
        inbound: the links that other nodes have opened.
        outbound: the links that this node has opened and that are up, by the peer's id.
        opened_at: when this node began to open each outbound link, by the peer's id.
    """

    def __init__(self, server: "Server", connect: Connect) -> None:
        self._server = server
        self._connect = connect
        self._dialing: dict[str, _Dial] = {}
        self.inbound: set[Inbound] = set()
        self.outbound: dict[str, Outbound] = {}
        self.opened_at: dict[str, float] = {}

    def tick(self) -> None:
        """Open the missing links, and close the silent ones."""
        now = self._server.clock()
        half = self._server.node_timeout / 2
        for member in self._server.nodes.others:
            link, dial = self.outbound.get(member.id), self._dialing.get(member.id)
            if link is None and dial is None:
                self.opened_at[member.id] = now
                member.dialing = True
                self._dialing[member.id] = _Dial(self._server.spawn(self._dial(member)))
                continue
            is_old = now - self.opened_at[member.id] > self._server.node_timeout
            waits = member.ping_sent and now - member.ping_sent > half
            if is_old and waits and now - member.heard > half:
                # The connection may be broken: open another one. What this one has yet arrives.
                if link is not None:
                    self.lost(member, link)
                    link.transport.close()
                elif dial is not None:
                    dial.task.cancel()

    async def _dial(self, member: Member) -> None:
        try:
            await self._connect(lambda: Outbound(self._server, member), member.name, "bus")
        except OSError:
            self._server.gossip.link_down(member)
        finally:
            member.dialing = False
            self._dialing.pop(member.id, None)

    def opened(self, member: Member, link: Outbound) -> None:
        """Use a link that has come up."""
        if member.id in self.outbound:  # this one was given up during its TLS handshake
            link.transport.abort()
            return
        self.outbound[member.id] = link
        if (dial := self._dialing.get(member.id)) is not None:
            for message in dial.waiting:
                link.write(message)
            dial.waiting.clear()
        self._server.gossip.link_up(member)

    def lost(self, member: Member, link: Outbound) -> None:
        """Forget a lost link."""
        if self.outbound.get(member.id) is link:
            del self.outbound[member.id]
            self._server.gossip.link_down(member)

    def send(self, node: str, message: Message) -> None:
        """Send a message to a node, given by its id, if a link is up."""
        link = self.outbound.get(node)
        if link is None:
            dial = self._dialing.get(node)
            if dial is not None and message["t"] == "publish" and dial.size < _BUFFERED:
                dial.waiting.append(message)
                dial.size += len(message["message"])
            return
        if link.transport.get_write_buffer_size() > _BUFFERED:
            link.transport.abort()
            return
        link.write(message)

    def receive(self, message: Message) -> Message | None:
        """Handle a message; return the answer, or None."""
        answer = self._server.gossip.receive(message)
        if message["t"] == "publish":
            channel = message["channel"].encode("latin-1")
            text = message["message"].encode("latin-1")
            pubsub = self._server.pubsub
            (pubsub.publish_in_shard if message["shard"] else pubsub.publish)(channel, text)
        return answer

    def publish(self, channel: bytes, message: bytes, *, shard: bool) -> None:
        """Send a published message to the other nodes, for their subscribers."""
        self._server.gossip.broadcast(
            {
                "t": "publish",
                "from": self._server.nodes.me.id,
                "channel": channel.decode("latin-1"),
                "message": message.decode("latin-1"),
                "shard": shard,
            }
        )

    def close(self) -> None:
        """Close all links at once."""
        for dial in list(self._dialing.values()):
            dial.task.cancel()
        for link in [*self.outbound.values(), *self.inbound]:
            with contextlib.suppress(OSError):
                link.transport.abort()
        self.outbound.clear()
        self.inbound.clear()
