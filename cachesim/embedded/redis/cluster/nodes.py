"""A node's table of all nodes of the cluster, as in CLUSTER NODES and `nodes.conf`."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from cachesim.embedded.redis.cluster.slots import slot_ranges


@dataclass
class Member:
    """A node of the cluster.

    Attributes:
        primary: the id of its primary; None if it is a primary.
        slots: the slots that it serves, as a bit mask.
        epoch: its configuration epoch. If two nodes claim a slot, the higher epoch wins.
        offset: its offset in the replication stream, as of its last message.
        is_synced: whether it has its primary's data. A replica that was restarted, or gets a full
            resync, has not.
        ping_sent: when the oldest unanswered ping was sent; 0 if there is none.
        pong_received: when it last answered a ping.
        heard: when its last message arrived.
        linked: whether the link from `NodeTable.me` to it is up.
        dialing: whether that link is being opened, which CLUSTER NODES shows as connected.
        suspected: whether it has been silent for `cluster-node-timeout` (`fail?`).
        failed_at: when a majority of the primaries agreed that it has failed, or None.
        reports: the times at which primaries reported it as failing, by their ids.
    """

    id: str
    name: str
    host: str
    port: int
    bus_port: int
    hostname: str | None = None
    primary: str | None = None
    slots: int = 0
    epoch: int = 0
    offset: int = 0
    is_synced: bool = True
    ping_sent: float = 0.0
    pong_received: float = 0.0
    heard: float = 0.0
    linked: bool = False
    dialing: bool = False
    suspected: bool = False
    failed_at: float | None = None
    reports: dict[str, float] = field(default_factory=dict)

    @property
    def is_primary(self) -> bool:
        """Whether the node is a primary, with or without slots."""
        return self.primary is None

    @property
    def is_reachable(self) -> bool:
        """Whether the node is neither suspected nor failed."""
        return not self.suspected and self.failed_at is None

    @property
    def is_available(self) -> bool:
        """Whether clients are told of it as a replica."""
        return self.failed_at is None and self.is_synced


class NodeTable:
    """All nodes of the cluster, this one included.

    Attributes:
        me: this node.
        members: all nodes by id.
    """

    def __init__(self, me: Member, others: Iterable[Member]) -> None:
        self.me = me
        self.members = {member.id: member for member in (me, *others)}

    @property
    def others(self) -> Iterator[Member]:
        """All nodes but this one."""
        return (member for member in self.members.values() if member is not self.me)

    @property
    def primaries(self) -> list[Member]:
        """The primaries that serve slots."""
        return [m for m in self.members.values() if m.is_primary and m.slots]

    @property
    def assigned(self) -> int:
        """All slots that are assigned to a node, as a bit mask."""
        slots = 0
        for member in self.members.values():
            slots |= member.slots
        return slots

    def owner(self, slot: int) -> Member | None:
        """Return the node that serves a slot, or None."""
        bit = 1 << slot
        return next((m for m in self.members.values() if m.slots & bit), None)

    def primary_of(self, member: Member) -> Member:
        """Return a replica's primary, or the node itself if it has no known primary."""
        return member if member.primary is None else self.members.get(member.primary, member)

    def replicas_of(self, primary: Member) -> list[Member]:
        """Return the replicas of a node."""
        return [m for m in self.members.values() if m.primary == primary.id]

    def flags(self, member: Member) -> str:
        """Return a node's flags as CLUSTER NODES shows them."""
        words = [
            "myself" if member is self.me else "",
            "master" if member.is_primary else "slave",
            "fail?" if member.suspected else "",
            "fail" if member.failed_at is not None else "",
        ]
        return ",".join(filter(None, words))

    def lines(self, milliseconds: Callable[[float], int]) -> list[str]:
        """Return the lines of CLUSTER NODES.

        Args:
            milliseconds: converts a moment of the monotonic clock to milliseconds since the epoch.
        """
        lines = []
        for m in self.members.values():
            address = f"{m.host}:{m.port}@{m.bus_port}" + (f",{m.hostname}" if m.hostname else "")
            is_linked = m is self.me or m.linked or m.dialing
            times = [
                milliseconds(at) if at and m is not self.me else 0
                for at in (m.ping_sent, m.pong_received)
            ]
            words = [
                m.id, address, self.flags(m), m.primary or "-", *map(str, times),
                str(self.primary_of(m).epoch), "connected" if is_linked else "disconnected",
                *(f"{a}-{b}" if a != b else str(a) for a, b in slot_ranges(m.slots)),
            ]  # fmt: skip
            lines.append(" ".join(words))
        return lines


def restore(members: Iterable[Member], nodes_conf: str) -> int:
    """Set the nodes' roles, epochs and slots from a `nodes.conf`; return its current epoch."""
    lines = nodes_conf.splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("vars ")]
    by_id = {row[0]: row for row in rows}
    for member in members:
        if (row := by_id.get(member.id)) is None:
            continue
        member.primary = None if row[3] == "-" else row[3]
        member.epoch = int(row[6])
        for word in row[8:]:
            first, _, last = word.partition("-")
            count = int(last or first) + 1 - int(first)
            member.slots |= ((1 << count) - 1) << int(first)
    variables = next((line.split() for line in lines if line.startswith("vars ")), [])
    return int(variables[2]) if len(variables) > 2 else 0
