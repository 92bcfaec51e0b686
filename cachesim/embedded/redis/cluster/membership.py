"""A node's membership in its cluster: the actions of its gossip, and its `nodes.conf`."""

import contextlib
from typing import TYPE_CHECKING

from cachesim.embedded.redis.cluster.gossip import Gossip, Message
from cachesim.embedded.redis.cluster.nodes import Member, NodeTable, restore
from cachesim.embedded.redis.cluster.slots import ALL_SLOTS
from cachesim.embedded.redis.config import NODES_NAME

if TYPE_CHECKING:
    from cachesim.embedded.redis.server import Server


class Membership:
    """A node's side of its gossip: implements `gossip.Actions`.

    Attributes:
        is_first_start: whether there was no `nodes.conf`; then the nodes have the roles of the
            configuration.
        nodes: the table of the cluster's nodes.
        gossip: this node's view of the cluster.
    """

    def __init__(self, server: "Server") -> None:
        self._server = server
        config = server.config
        self._path = config.directory / NODES_NAME
        members = {
            name: Member(a.id, name, a.host, a.port, a.bus_port, a.hostname)
            for name, a in config.nodes.items()
        }
        self.is_first_start = not self._path.exists()
        if self.is_first_start:
            primary = members[config.primary]
            for member in members.values():
                member.primary = None if member is primary else primary.id
            primary.slots, primary.epoch = ALL_SLOTS, 1
            epoch = 1
        else:
            epoch = restore(members.values(), self._path.read_text())
        me = members.pop(config.name)
        me.is_synced = self.is_first_start or me.is_primary
        self.nodes = NodeTable(me, members.values())
        self._is_ready = False
        self.gossip = Gossip(
            self.nodes,
            self,
            timeout=lambda: server.node_timeout,
            clock=server.clock,
            current_epoch=epoch,
            is_formed=self.is_first_start,
            decides_alone=bool(server.version.releases & {"7.4", "valkey"}),
        )
        self._is_ready = True

    # --- gossip.Actions -----------------------------------------------------------------------

    def send(self, node: str, message: Message) -> None:
        """See `Actions.send`."""
        self._server.bus.send(node, message)

    def become_replica(self, primary: Member) -> None:
        """See `Actions.become_replica`."""
        self._server.become_replica(primary)

    def become_primary(self) -> None:
        """See `Actions.become_primary`."""
        self._server.become_primary()

    def offset(self) -> int:
        """See `Actions.offset`."""
        return self._server.stream.offset

    def changed(self) -> None:
        """See `Actions.changed`."""
        if self._is_ready:
            self._server.update_guards()
            self.save()

    def log(self, text: str, level: str = "*") -> None:
        """See `Actions.log`."""
        self._server.log(text, level)

    # --- nodes.conf ---------------------------------------------------------------------------

    def save(self) -> None:
        """Write the node table and the epoch to `nodes.conf`."""
        text = "\n".join(
            [
                *self.nodes.lines(self.milliseconds),
                f"vars currentEpoch {self.gossip.current_epoch} lastVoteEpoch 0\n",
            ]
        )
        with contextlib.suppress(FileNotFoundError):  # the run's folder is being removed
            self._path.write_text(text)

    def milliseconds(self, moment: float) -> int:
        """Convert a moment of the monotonic clock to milliseconds since the epoch."""
        return int((self._server.wall() - self._server.clock() + moment) * 1000)
